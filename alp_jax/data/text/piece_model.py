"""Converts one of this project's sentencepiece models to a tokenizer.json with the same ids.

The ``tokenizers`` library reads the model's own normalisation table, but applies it to the first character of each
grapheme and drops the rest: E with a combining accent becomes a bare e. Composing and lower-casing
the text before the table is applied leaves it nothing to drop. What still differs is listed in ``DIFFERENCES``.
"""

import base64
import functools
from typing import Any

import sentencepiece
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from alp_jax.data.text.tokenizer import added_token

DIFFERENCES = (
    "texts that spell a special token or byte, such as <s>, <mask> or <0x41>",
    "combining marks in an order that Unicode does not call canonical, and marks on letters beyond Latin, Greek, "
    "Cyrillic, Vietnamese, Hangul and Kana",
    "ties: the same pieces in another order, as in 00 0 and 0 00, where the two libraries decide differently",
)
_SPACE = "\u2581"  # what sentencepiece writes in place of a space
# The table keeps these two, which NFKC and lower-casing would change; noncharacters stand in for them meanwhile.
_KEPT = {"\u0130": ("Regex", "\u0130|I\u0307", "\ufdd0"), "\uff5e": ("String", "\uff5e", "\ufdd1")}
# The score of a piece that no text may be cut into: lower than the sum of any few real pieces.
_NEVER = -1000.0
_BPE = 2  # sentencepiece's number for byte-pair encoding (BPE)


def definition(model: bytes, processor: sentencepiece.SentencePieceProcessor) -> dict[str, Any]:
    """Content of the tokenizer.json for ``model``, unigram or BPE, which ``processor`` has loaded."""
    size = processor.GetPieceSize()
    pieces = [processor.IdToPiece(i) for i in range(size)]
    special = [i for i in range(size) if processor.IsControl(i) or processor.IsUnknown(i)]
    parsed = _message_type().FromString(model)
    bos, eos = pieces[processor.bos_id()], pieces[processor.eos_id()]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(i, pieces[i]) for i in special],
        "normalizer": {"type": "Sequence", "normalizers": _normalizers(parsed.normalizer_spec.precompiled_charsmap)},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [_token(bos, 0), _sequence("A", 0), _token(eos, 0)],
            "pair": [_token(bos, 0), _sequence("A", 0), _token(eos, 0), _sequence("B", 1), _token(eos, 1)],
            "special_tokens": {
                piece: {"id": piece, "ids": [number], "tokens": [piece]}
                for piece, number in ((bos, processor.bos_id()), (eos, processor.eos_id()))
            },
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                _replace("String", _SPACE, " "),
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": (_bpe if parsed.trainer_spec.model_type == _BPE else _unigram)(processor, pieces, special),
    }


def _unigram(processor, pieces: list[str], special: list[int]) -> dict[str, Any]:
    never = {*special, *(i for i in range(len(pieces)) if processor.IsByte(i))}
    vocab = [[piece, _NEVER if i in never else processor.GetScore(i)] for i, piece in enumerate(pieces)]
    return {"type": "Unigram", "unk_id": processor.unk_id(), "vocab": vocab, "byte_fallback": True}


def _bpe(processor, pieces: list[str], special: list[int]) -> dict[str, Any]:
    """Rebuilds the merges, which the model does not store: all pairs of pieces that form a piece, in order of piece."""
    normal = {piece for i, piece in enumerate(pieces) if i not in special and not processor.IsByte(i)}
    merges = []
    for piece in pieces:
        if piece in normal:
            cuts = ((piece[:i], piece[i:]) for i in range(1, len(piece)))
            merges += [list(pair) for pair in cuts if normal.issuperset(pair)]
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": pieces[processor.unk_id()],
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": {piece: i for i, piece in enumerate(pieces)},
        "merges": merges,
    }


def _normalizers(charsmap: bytes) -> list[dict[str, Any]]:
    # In this order: characters of _KEPT hide, the text is composed and lower-cased so that the table loses nothing, the
    # table is applied, they come back, and spaces are stripped and joined before they are written as _SPACE.
    return [
        *(_replace(kind, pattern, hidden) for kind, pattern, hidden in _KEPT.values()),
        {"type": "NFKC"},
        {"type": "Lowercase"},
        {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()},
        *(_replace("String", hidden, kept) for kept, (_, _, hidden) in _KEPT.items()),
        _replace("Regex", "^ +| +$", ""),
        _replace("Regex", " {2,}", " "),
        {"type": "Prepend", "prepend": _SPACE},
        _replace("String", " ", _SPACE),
    ]


def _replace(kind: str, pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def _token(piece: str, part: int) -> dict[str, Any]:
    return {"SpecialToken": {"id": piece, "type_id": part}}


def _sequence(name: str, part: int) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": part}}


@functools.cache
def _message_type():
    """The part of sentencepiece's ModelProto that is needed here; its own module demands the newest protobuf."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="alp_jax/sentencepiece.proto", package="alp_jax", syntax="proto2")
    trainer = file.message_type.add(name="TrainerSpec")
    trainer.field.add(name="model_type", number=3, type=kinds.TYPE_INT32, label=kinds.LABEL_OPTIONAL)
    normalizer = file.message_type.add(name="NormalizerSpec")
    normalizer.field.add(name="precompiled_charsmap", number=2, type=kinds.TYPE_BYTES, label=kinds.LABEL_OPTIONAL)
    model = file.message_type.add(name="Model")
    for name, number, part in (("trainer_spec", 2, trainer), ("normalizer_spec", 3, normalizer)):
        spec = model.field.add(name=name, number=number)
        spec.type, spec.label, spec.type_name = kinds.TYPE_MESSAGE, kinds.LABEL_OPTIONAL, f".alp_jax.{part.name}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("alp_jax.Model"))
