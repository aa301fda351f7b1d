"""From a caption to what stands for it: the normal form by which two count as the same text, and the token ids."""

import re
import unicodedata

from alp_jax.config.schema import DataConfig
from alp_jax.core.names import choose
from alp_jax.data.text.tokenizer import Tokenizer

_NOT_WORD = re.compile(r"[^\w]+")
# White space before a mark that ends a word; the white space after the mark counts as seen.
_SPACED_MARK = re.compile(r"\s([!\",.:;?](?:\s|$))")
# What each of the reference's recipes puts spaces in place of: captioning keeps the asterisk.
_BLANKED = {
    "clap": str.maketrans(dict.fromkeys('!"(),.:;?|*', " ")),
    "audio_caption": str.maketrans(dict.fromkeys('!"(),.:;?|', " ")),
}
CLEAN_UPS = ("none", *_BLANKED)


def normalise(caption: str) -> str:
    """NFKC, case folded, everything but letters, digits and underscore as single spaces."""
    return _NOT_WORD.sub(" ", unicodedata.normalize("NFKC", caption).casefold()).strip()


def clean(caption: str, recipe: str) -> str:
    """``caption`` as the reference's recipe (``clap`` or ``audio_caption``) hands it to the tokenizer.

    Lower case; no space before a mark at the end of a word; marks become spaces; pairs of spaces become one, once
    after each of the two, so that runs of spaces may remain. ``none`` changes nothing.

    Raises:
      UserError: an unknown recipe.
    """
    if recipe == "none":
        return caption
    choose(recipe, CLEAN_UPS, "config.data.text_clean")
    text = _SPACED_MARK.sub(r"\1", caption.lower()).replace("  ", " ")
    return text.translate(_BLANKED[recipe]).replace("  ", " ")


def caption_ids(caption: str, tokenizer: Tokenizer, config: DataConfig) -> tuple[list[int], bool]:
    """Ids of the cleaned-up caption without special tokens, at most ``config.text_budget``, and whether it was cut."""
    ids = tokenizer.encode(clean(caption, config.text_clean))
    return ids[: config.text_budget], len(ids) > config.text_budget
