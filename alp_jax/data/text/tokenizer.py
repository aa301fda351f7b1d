"""Token ids of captions, from a sentencepiece model of ours or the tokenizer.json of another toolbox.

Ours: unigram or BPE, lower-cased, with byte fallback, so no text is unknown.
"""

import abc
import hashlib
import io
import os
import pathlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import sentencepiece

from alp_jax.config.schema import DataConfig
from alp_jax.core import files, storage
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.core.paths import cache_dir

FILE_NAME = "tokenizer.model"
FILE_NAMES = (FILE_NAME, "tokenizer.json")  # under which a folder holds its tokenizer
NORMALIZATION = "nmt_nfkc_cf"  # NFKC and case folding, fixed: part of what a token id means
MASK = "<mask>"
_SPECIAL = {"pad": 0, "bos": 1, "eos": 2, "unk": 3, "mask": 4}
KINDS = ("unigram", "bpe")
DEFAULT_SIZE = 2000
_MOST_WORDS = 4_000_000  # different words that are counted at a time: about 0.5 GB
_READ = 256  # records that are read at a time
_LARGEST = re.compile(r"value <= (\d+)")
_SMALLEST = re.compile(r"required_chars\. \d+ vs (\d+)")


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

    @staticmethod
    def load(path: str | os.PathLike) -> "Tokenizer":
        """Reads a sentencepiece model or, by the ending ``.json``, a tokenizer.json.

        Raises:
          UserError: the file is missing or of another kind, or a tokenizer.json lacks one of the special tokens.
        """
        path = pathlib.Path(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"tokenizer {path}: {error.strerror}; 'alp tokenizer' trains one") from None
        if path.suffix != ".json":
            return SentencePiece(data, f"tokenizer {path}")
        from alp_jax.data.text.json_tokenizer import JsonTokenizer, read_roles

        return JsonTokenizer(data, read_roles(path.parent), f"tokenizer {path}")

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
        """Name -> content of the files that ``load`` reads it from, in one folder."""

    @abc.abstractmethod
    def roles(self) -> dict[str, str]:
        """Special tokens under the names of a tokenizer_config.json: ``bos_token`` and so on."""


class SentencePiece(Tokenizer):
    """A model that ``train`` made."""

    pad_id, bos_id, eos_id, unk_id, mask_id = _SPECIAL.values()

    def __init__(self, model: bytes, name: str = "tokenizer"):
        self._model, self._name = model, name
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
            found = (
                self._processor.pad_id(),
                self._processor.bos_id(),
                self._processor.eos_id(),
                self._processor.unk_id(),
                self._processor.PieceToId(MASK),
            )
        except RuntimeError as error:
            raise UserError(f"{name} is not a sentencepiece model: {error}") from None
        if found != tuple(_SPECIAL.values()):
            raise UserError(f"{name} has special ids {found}, expected {_SPECIAL}; train it with 'alp tokenizer'")
        self.vocab_size: int = self._processor.GetPieceSize()
        self.sha256 = hashlib.sha256(model).hexdigest()

    def __reduce__(self):
        return SentencePiece, (self._model, self._name)

    def encode(self, text: str) -> list[int]:
        return self._processor.EncodeAsIds(text)

    def decode(self, ids: Iterable[int]) -> str:
        return self._processor.DecodeIds([int(i) for i in ids if int(i) >= len(_SPECIAL)])

    def definition(self) -> dict[str, Any]:
        from alp_jax.data.text.piece_model import definition

        return definition(self._model, self._processor)

    def files(self) -> dict[str, bytes]:
        return {FILE_NAME: self._model}

    def roles(self) -> dict[str, str]:
        return {f"{role}_token": self._processor.IdToPiece(number) for role, number in _SPECIAL.items()}


def tokenizer_path(dataset_path: storage.Location, config: DataConfig) -> pathlib.Path:
    """The configured model file, or ``tokenizer.model`` beside the data set; a remote one is copied to the cache."""
    path = config.tokenizer or storage.join(dataset_path, FILE_NAME)
    if not storage.is_remote(path):
        return storage.local(path)
    try:
        content = storage.read(path)
    except OSError:
        return pathlib.Path(path)  # does not exist, as whoever opens it will say
    copy = cache_dir() / "tokenizers" / hashlib.sha256(content).hexdigest() / path.rpartition("/")[2]
    if not copy.exists():
        files.write_bytes(copy, content)
    return copy


def training_captions(dataset) -> Iterator[str]:
    """Captions of the training split in ladder order, straight from the records."""
    rows = dataset.ladder_rows()
    for first in range(0, len(rows), _READ):
        for record in dataset.read_many(rows[first : first + _READ], audio=False):
            yield from record.captions


def count_words(captions: Iterable[str], most: int = _MOST_WORDS) -> Counter[str]:
    """How often each stretch of text without blanks occurs, as it is written.

    Whenever more than ``most`` are different, the rarest are forgotten: those seen once, then twice and so on until
    half as many are left.
    """
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update(caption.split())
        if len(counts) > most:
            floor = sorted(counts.values(), reverse=True)[most // 2]
            counts = Counter({word: n for word, n in counts.items() if n > floor})
    return counts


def train(
    captions: Iterable[str], out_path: str | os.PathLike, vocab_size: int | None, kind: str = "unigram"
) -> Tokenizer:
    """``train_on_words`` on the words of ``captions``, which are streamed."""
    return train_on_words(count_words(captions), out_path, vocab_size, kind)


def train_on_words(
    counts: Mapping[str, int], out_path: str | os.PathLike, vocab_size: int | None, kind: str = "unigram"
) -> Tokenizer:
    """Trains a model and writes it atomically; equal counts give equal bytes.

    No piece crosses a blank, so how often each word occurs is all that matters, and sentencepiece gets only that:
    memory follows the number of different words, and the order of the captions does not matter. The pieces of BPE are
    those of training on the captions themselves. For unigram sentencepiece then takes its first candidates from the
    list of words, which made a difference of 0.1% in tokens per caption on AudioCaps, Clotho and SoundBible.

    Args:
      counts: how often each word occurs, as it is written.
      vocab_size: tokens; captions that carry fewer give as many as they carry. None: DEFAULT_SIZE, or twice what bytes,
        characters and special tokens alone need where that is more.
      kind: one of KINDS.

    Raises:
      UserError: there are no captions, or ``vocab_size`` is too small for these; the message says what fits.
    """
    choose(kind, KINDS, "kind")
    size = DEFAULT_SIZE if vocab_size is None else vocab_size
    while True:
        try:
            model = _train(counts, size, kind)
            break
        except (RuntimeError, ValueError) as error:
            largest, smallest = (found.search(str(error)) for found in (_LARGEST, _SMALLEST))
            if largest and 0 < int(largest[1]) < size:
                size = int(largest[1])
            elif smallest and vocab_size is None and int(smallest[1]) > size:
                size = 2 * int(smallest[1])
            else:
                raise UserError(_refusal(str(error), size)) from None
    files.write_bytes(out_path, model)
    return SentencePiece(model, f"tokenizer {out_path}")


def _train(counts: Mapping[str, int], vocab_size: int, kind: str) -> bytes:
    """The serialised model; errors are those of sentencepiece."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=(f"{word}\t{counts[word]}" for word in sorted(counts)),
        input_format="tsv",
        model_writer=model,
        model_type=kind,
        vocab_size=vocab_size,
        byte_fallback=True,
        character_coverage=0.9998,
        normalization_rule_name=NORMALIZATION,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        control_symbols=[MASK],
        num_threads=1,  # sums in another order round differently
        minloglevel=2,
    )
    return model.getvalue()


def _refusal(error: str, vocab_size: int) -> str:
    """What an error of sentencepiece says to whoever chose ``vocab_size``."""
    if "sentences_.empty()" in error:
        return "there are no captions to train a vocabulary on"
    if limit := _SMALLEST.search(error):
        problem = f"too small: bytes, characters and special tokens alone need {limit[1]}"
    else:
        problem = f"refused by sentencepiece: {error}"
    return f"vocab_size = {vocab_size} is {problem}"
