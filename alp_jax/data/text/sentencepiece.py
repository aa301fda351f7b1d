"""Tokenizers that this project trains: unigram or byte-pair encoding (BPE), case folded, with byte fallback, so that no
text is unknown."""

import hashlib
from collections.abc import Iterable
from typing import Any

import sentencepiece

from alp_jax.core.errors import UserError
from alp_jax.data.text.piece_model import definition
from alp_jax.data.text.tokenizer import FILE_NAME, Tokenizer

NORMALIZATION = "nmt_nfkc_cf"  # NFKC and case folding, fixed: part of what a token id means
MASK = "<mask>"
_SPECIAL = {"pad": 0, "bos": 1, "eos": 2, "unk": 3, "mask": 4}


class SentencePiece(Tokenizer):
    """A model trained by ``training.train``."""

    pad_id, bos_id, eos_id, unk_id, mask_id = _SPECIAL.values()

    def __init__(self, model: bytes, name: str = "tokenizer"):
        self._model, self._name = model, name
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
            ids = (
                self._processor.pad_id(),
                self._processor.bos_id(),
                self._processor.eos_id(),
                self._processor.unk_id(),
                self._processor.PieceToId(MASK),
            )
        except RuntimeError as error:
            raise UserError(f"{name} is not a sentencepiece model: {error}") from None
        if ids != tuple(_SPECIAL.values()):
            raise UserError(f"{name} has special ids {ids}, expected {_SPECIAL}; train it with 'alp tokenizer'")
        self.vocab_size: int = self._processor.GetPieceSize()
        self.sha256 = hashlib.sha256(model).hexdigest()

    def __reduce__(self):
        return SentencePiece, (self._model, self._name)

    def encode(self, text: str) -> list[int]:
        return self._processor.EncodeAsIds(text)

    def decode(self, ids: Iterable[int]) -> str:
        return self._processor.DecodeIds([int(i) for i in ids if int(i) >= len(_SPECIAL)])

    def definition(self) -> dict[str, Any]:
        return definition(self._model, self._processor)

    def files(self) -> dict[str, bytes]:
        return {FILE_NAME: self._model}

    def roles(self) -> dict[str, str]:
        return {f"{role}_token": self._processor.IdToPiece(number) for role, number in _SPECIAL.items()}
