"""The interface of all tokenizers, whoever made their vocabulary."""

import abc
from collections.abc import Iterable
from typing import Any

FILE_NAME = "tokenizer.model"
FILE_NAMES = (FILE_NAME, "tokenizer.json")  # names that a tokenizer has in a folder


class Tokenizer(abc.ABC):
    """Text to token ids and back; pickles as the bytes of its file.

    Attributes:
      vocab_size: number of ids.
      sha256: of the file and of what the ids below depend on.
      pad_id, bos_id, eos_id, mask_id: padding, beginning of sequence, end of sequence and mask; no text is encoded to
        these.
    """

    vocab_size: int
    sha256: str
    pad_id: int
    bos_id: int
    eos_id: int
    mask_id: int

    @abc.abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids without special tokens; a special token spelt out in ``text`` is encoded as text."""

    @abc.abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids``, as the tokenizer normalised it; special tokens are left out."""

    @abc.abstractmethod
    def definition(self) -> dict[str, Any]:
        """The same tokenizer as the content of a tokenizer.json."""

    @abc.abstractmethod
    def files(self) -> dict[str, bytes]:
        """Name -> content of the files in one folder from which ``open_tokenizer`` reads the tokenizer."""

    @abc.abstractmethod
    def roles(self) -> dict[str, str]:
        """Special tokens under the names of a tokenizer_config.json: ``bos_token`` and so on."""


def added_token(number: int, content: str) -> dict[str, Any]:
    """A special token as tokenizer.json lists it."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": number, "content": content, **flags}
