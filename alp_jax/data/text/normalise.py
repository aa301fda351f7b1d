"""What a caption becomes: the normal form by which two count as the same text, the clean-ups, and the token ids."""

import re
import unicodedata

from alp_jax.config.schema import DataConfig
from alp_jax.core.names import choose
from alp_jax.data.text.tokenizer import Tokenizer

_NOT_WORD = re.compile(r"[^\w]+")
# White space before a mark that ends a word. The match consumes the white space after the mark, so in " , ." only the
# first mark moves; the reference does the same, and token ids depend on it.
_SPACED_MARK = re.compile(r"\s([!\",.:;?](?:\s|$))")
# The marks that each of the reference's recipes replaces with spaces; captioning keeps the asterisk.
_BLANKED = {
    "clap": str.maketrans(dict.fromkeys('!"(),.:;?|*', " ")),
    "audio_caption": str.maketrans(dict.fromkeys('!"(),.:;?|', " ")),
}
CLEAN_UPS = ("none", *_BLANKED)


def normalise(caption: str) -> str:
    """NFKC and case folding; every run of characters other than letters, digits and underscores becomes one space."""
    return _NOT_WORD.sub(" ", unicodedata.normalize("NFKC", caption).casefold()).strip()


def clean(caption: str, recipe: str) -> str:
    """``caption`` as the reference's recipe (``clap`` or ``audio_caption``) hands it to the tokenizer.

    Lower-cases, drops the space before a mark that ends a word, and turns marks into spaces. Each of the latter two
    steps is followed by one pass that halves pairs of spaces, so runs of spaces may remain. ``none`` changes nothing.

    Raises:
      UserError: an unknown recipe.
    """
    if recipe == "none":
        return caption
    choose(recipe, CLEAN_UPS, "config.data.text_clean")
    text = _SPACED_MARK.sub(r"\1", caption.lower()).replace("  ", " ")
    return text.translate(_BLANKED[recipe]).replace("  ", " ")


def caption_ids(caption: str, tokenizer: Tokenizer, config: DataConfig) -> tuple[list[int], bool]:
    """Token ids of the cleaned-up caption, at most ``config.text_budget`` and none special; and whether it was cut."""
    ids = tokenizer.encode(clean(caption, config.text_clean))
    return ids[: config.text_budget], len(ids) > config.text_budget
