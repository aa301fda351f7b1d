"""Writes a tokenizer as the two files that transformers and tools built on it load, and tests them on captions."""

import json
from collections.abc import Iterable
from typing import NamedTuple

from alp_jax.core.errors import UserError
from alp_jax.data.text.json_tokenizer import FILE_NAME, JsonTokenizer
from alp_jax.data.text.tokenizer import Tokenizer, added_token

# Texts that few data sets contain: letters of other scripts, composed or not, symbols, spaces, nothing. None has three
# equal characters in a row: 000 may be cut into 00 0 or 0 00, and rounding decides which.
PROBES = (
    "",
    "  two  spaces\tand a\nline ",
    "CAF\u00c9 na\u00efve CAFE\u0301 E\u0305 stra\u00dfe \u1e9e \u0130stanbul I\u0307",
    "\u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03cc\u03c2 \u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u0419",
    "\u6f22\u5b57 \u304b\u306a \uff76\uff9e\uff77 \ud55c\uad6d\uc5b4 \u1112\u1161\u11ab \uff5e \uff21\uff22",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0939\u093f\u0928\u094d\u0926\u0940 \u05e2\u05d1\u05e8\u05d9\u05ea",
    "\u00bd \u2122 \ufb01 \u2460 \u201cquoted\u201d \u2013 \u00a0 1,250\u20ac 3\u00d74",
    "\U0001f469\u200d\U0001f52c \u2764\ufe0f \U0001f1e9\U0001f1ea 1\ufe0f\u20e3",
    "\u2581 \u2581a a\u2581b <<>> [x] {y} \\z & % $ # @ ~ ^ `",
)
# One caption in this many may differ: where two ways to cut a text are equally probable, rounding decides.
_RARE = 1000


class PortableTokenizer(NamedTuple):
    """The files, and how they compare with the original tokenizer.

    Fields:
      files: name -> content.
      compared: number of texts encoded by both, captions and probes.
      differ: number of captions that got different ids.
      example: the first such caption, or "".
    """

    files: dict[str, bytes]
    compared: int
    differ: int
    example: str


def portable_tokenizer(tokenizer: Tokenizer, captions: Iterable[str], rows: int = 0) -> PortableTokenizer:
    """Writes ``tokenizer`` as tokenizer.json and tokenizer_config.json and reads it back.

    Args:
      captions: texts that the files are compared on, besides ``PROBES``.
      rows: size to pad the vocabulary to with unused ids, that of the decoder's embedding; 0 adds none.

    Raises:
      UserError: ``tokenizers`` is not installed, there are more tokens than ``rows``, or captions get other ids.
    """
    definition, roles = tokenizer.definition(), tokenizer.roles()
    if rows and tokenizer.vocab_size > rows:
        raise UserError(f"the tokenizer has {tokenizer.vocab_size} tokens, more than the {rows} of the model")
    unused = [added_token(i, f"<unused_{i}>") for i in range(tokenizer.vocab_size, rows)]
    definition["added_tokens"] = definition.get("added_tokens", []) + unused
    data = json.dumps(definition, ensure_ascii=False, indent=1).encode()
    back = JsonTokenizer(data, roles, FILE_NAME)
    if rows and back.vocab_size != rows:
        raise UserError(f"{FILE_NAME} has {back.vocab_size} ids where {rows} are needed: its ids have gaps")
    for text in PROBES:
        if tokenizer.encode(text) != back.encode(text):
            raise UserError(f"{FILE_NAME} encodes {text!a} differently from the run's tokenizer")
    compared, differing = 0, []
    for caption in captions:
        compared += 1
        if tokenizer.encode(caption) != back.encode(caption):
            differing.append(caption)
    if len(differing) * _RARE > compared:
        raise UserError(
            f"{FILE_NAME} encodes {len(differing)} of {compared} captions differently from the run's tokenizer, "
            f"such as {differing[0][:200]!a}"
        )
    return PortableTokenizer(back.files(), compared + len(PROBES), len(differing), differing[0] if differing else "")
