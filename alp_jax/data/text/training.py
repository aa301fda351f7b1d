"""Trains a vocabulary on the words of captions."""

import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import sentencepiece

from alp_jax.core import files
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.core.progress import Progress, stage
from alp_jax.data.text.sentencepiece import MASK, NORMALIZATION, SentencePiece

VOCABULARY_KINDS = ("unigram", "bpe")
DEFAULT_SIZE = 2000
_MOST_WORDS = 4_000_000  # distinct words held at a time: about 0.5 GB
_READ = 256  # records read at a time
_LARGEST = re.compile(r"value <= (\d+)")
_SMALLEST = re.compile(r"required_chars\. \d+ vs (\d+)")


def training_captions(dataset) -> Iterator[str]:
    """Captions of the training split in ladder order, straight from the records."""
    rows = dataset.ladder_rows()
    for first in range(0, len(rows), _READ):
        for record in dataset.read_many(rows[first : first + _READ], audio=False):
            yield from record.captions


def count_words(captions: Iterable[str], most: int = _MOST_WORDS) -> Counter[str]:
    """How often each word occurs: a run of text without white space, exactly as it is written.

    Whenever there are more than ``most`` distinct words, the rarest are dropped until at most half of ``most`` remain.
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
) -> SentencePiece:
    """``train_on_words`` on the words of ``captions``, which are streamed."""
    return train_on_words(count_words(captions), out_path, vocab_size, kind)


def train_with_progress(
    captions: Iterable[str], total: int | None, out_path: str | os.PathLike, vocab_size: int | None, kind: str
) -> tuple[SentencePiece, int]:
    """``train`` with progress; also returns the number of captions. ``total``: how many to expect, None if unknown."""
    with Progress("read captions", total, "captions") as progress:

        def counted() -> Iterator[str]:
            for caption in captions:
                progress.update()
                yield caption

        words = count_words(counted())
    with stage(f"train {vocab_size or DEFAULT_SIZE} tokens", f"on {len(words)} different words"):
        return train_on_words(words, out_path, vocab_size, kind), progress.done


def train_on_words(
    counts: Mapping[str, int], out_path: str | os.PathLike, vocab_size: int | None, kind: str = "unigram"
) -> SentencePiece:
    """Trains a model and writes it atomically; equal counts give equal bytes.

    No piece crosses a space, so the word counts are all that matters, and sentencepiece gets only those: memory grows
    with the number of distinct words, and the order of the captions does not matter. Byte-pair encoding (BPE) gives the
    same pieces as training on the captions themselves. The unigram model takes its first candidates from the list of
    words instead, which changed tokens per caption on AudioCaps, Clotho and SoundBible by 0.1%.

    Args:
      counts: how often each word occurs, as it is written.
      vocab_size: number of tokens; captions that support fewer give as many as they support. None: DEFAULT_SIZE, or if
        that is not enough for bytes, characters and special tokens, twice what those need.
      kind: one of VOCABULARY_KINDS.

    Raises:
      UserError: there are no captions, or ``vocab_size`` is too small for these; the message says what fits.
    """
    choose(kind, VOCABULARY_KINDS, "kind")
    size = DEFAULT_SIZE if vocab_size is None else vocab_size
    while True:
        try:
            model = _train(counts, size, kind)
            break
        except (RuntimeError, ValueError) as error:
            largest, smallest = (pattern.search(str(error)) for pattern in (_LARGEST, _SMALLEST))
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
        num_threads=1,  # the order of summation, and with it the rounding, must not vary
        minloglevel=2,
    )
    return model.getvalue()


def _refusal(error: str, vocab_size: int) -> str:
    if "sentences_.empty()" in error:
        return "there are no captions to train a vocabulary on"
    if limit := _SMALLEST.search(error):
        problem = f"too small: bytes, characters and special tokens alone need {limit[1]}"
    else:
        problem = f"refused by sentencepiece: {error}"
    return f"vocab_size = {vocab_size} is {problem}"
