"""What every tokenizer does, whoever made its vocabulary."""

import abc
from collections.abc import Iterable
from typing import Any

FILE_NAME = "tokenizer.model"
FILE_NAMES = (FILE_NAME, "tokenizer.json")  # under which a folder holds its tokenizer


class Tokenizer(abc.ABC):
    """Text to token ids and back; travels to other processes as the bytes of its file.

    Attributes:
      vocab_size: number of ids.
      sha256: of the file and of what the ids below depend on.
      pad_id, bos_id, eos_id, mask_id: ids that no text is encoded to.
    """

    vocab_size: int
    sha256: str
    pad_id: int
    bos_id: int
    eos_id: int
    mask_id: int

    @abc.abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids without special tokens; a text that spells a special token is text."""

    @abc.abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids``, normalised as the tokenizer does; special tokens leave nothing."""

    @abc.abstractmethod
    def definition(self) -> dict[str, Any]:
        """The same tokenizer as the content of a tokenizer.json."""

    @abc.abstractmethod
    def files(self) -> dict[str, bytes]:
        """Name -> content of the files that ``open_tokenizer`` reads it from, in one folder."""

    @abc.abstractmethod
    def roles(self) -> dict[str, str]:
        """Special tokens under the names of a tokenizer_config.json: ``bos_token`` and so on."""


def added_token(number: int, content: str) -> dict[str, Any]:
    """A special token as tokenizer.json lists it."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": number, "content": content, **flags}
