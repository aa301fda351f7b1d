"""What is counted about captions, one class for each kind of count.

Each takes captions by ``add(block)`` and the counts of another source by ``merge(other)``; ``row()`` gives its fields
of a source's row.
"""

import array
import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from alp_jax.core.hashing import hash64, mix
from alp_jax.data.text import artefacts, language
from alp_jax.data.text.counters import DistinctHashes, FrequentTexts, HashSample
from alp_jax.data.text.normalise import normalise

EQUAL_SIZE = 1000  # captions in the sample on which sources are compared
OPENING = 4  # words
TOP, SHOWN = 10, 3
_TEXTS = 1 << 16  # limit for openings, for repeated captions, and for the sample of captions
_QUANTILES = (0, 5, 25, 50, 75, 95, 100)
_LONGEST = 4096  # words or tokens; longer captions count as this long


class Numbers(dict):
    """Numbers words in order of first use, and keeps a hash of each."""

    def __init__(self):
        super().__init__()
        self._hashes = array.array("Q")

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        self._hashes.append(hash64(0, word))
        return number

    def hashes(self, numbers: np.ndarray) -> np.ndarray:
        """uint64 hashes of words; unlike the numbers, they do not depend on the order of captions."""
        # Indexing copies and the view ends with this line: while it lives, the array beneath it cannot grow.
        return np.frombuffer(self._hashes, np.uint64)[numbers] if self else np.zeros(0, np.uint64)


@dataclasses.dataclass(frozen=True)
class Block:
    """Some captions, split once for everything that is counted.

    Attributes:
      captions: the texts. normal: the same, normalised.
      keys: uint64[n], by which samples are drawn.
      lengths: int64[n], number of words in each.
      words: int64[W], numbers of all words, one caption after another. hashes: uint64[W], of the same words.
      owner: int64[W], the caption that each word belongs to; ascending.
      known: how many distinct words have a number so far.
    """

    captions: list[str]
    normal: list[str]
    keys: np.ndarray
    lengths: np.ndarray
    words: np.ndarray
    hashes: np.ndarray
    owner: np.ndarray
    known: int

    @staticmethod
    def of(captions: list[str], keys: Sequence[int], numbers: Numbers) -> "Block":
        """Splits ``captions`` into words; new words get the next ``numbers``.

        Args:
          keys: one for each caption, or none where no sample is drawn.
        """
        normal = [normalise(caption) for caption in captions]
        split = [text.split() for text in normal]
        lengths = np.fromiter(map(len, split), np.int64, len(split))
        words = np.fromiter((numbers[word] for text in split for word in text), np.int64, int(lengths.sum()))
        owner = np.repeat(np.arange(len(split)), lengths)
        hashes = numbers.hashes(words)
        return Block(captions, normal, np.array(keys, np.uint64), lengths, words, hashes, owner, len(numbers))


class Lengths:
    """Quantiles of a length of each caption, such as its words.

    Args:
      measure: block -> int64[n].
      budget: length that training cuts captions to, to count the longer ones.
    """

    def __init__(self, name: str, measure: Callable[[Block], np.ndarray], budget: int | None = None):
        self._name, self._measure, self._budget = name, measure, budget
        self._counts = np.zeros(_LONGEST + 1, np.int64)

    def add(self, block: Block) -> None:
        """Counts the captions of ``block``."""
        self._counts += np.bincount(np.minimum(self._measure(block), _LONGEST), minlength=_LONGEST + 1)

    def merge(self, other: "Lengths") -> None:
        """Adds the counts of another source."""
        self._counts += other._counts

    def row(self) -> dict[str, Any]:
        """Quantiles and mean in words or tokens; with a budget also how many captions are longer than it."""
        total = int(self._counts.sum())
        ranks = np.array(_QUANTILES) * (total - 1) // 100
        values = np.searchsorted(np.cumsum(self._counts), ranks, "right")
        quantiles = {str(q): int(value) for q, value in zip(_QUANTILES, values, strict=True)}
        quantiles["mean"] = round(float(self._counts @ np.arange(_LONGEST + 1)) / total, 2)
        if self._budget is not None:
            quantiles |= {"budget": self._budget, "truncated": int(self._counts[self._budget + 1 :].sum())}
        return {self._name: quantiles}


class Diversity:
    """Distinct words and Distinct-n (Li et al., A Diversity-Promoting Objective Function, 2016).

    Args:
      exact: how many distinct n-grams are counted exactly.
    """

    def __init__(self, exact: int):
        self._counts = np.zeros(0, np.int64)
        self._seen = {2: DistinctHashes(exact), 3: DistinctHashes(exact)}
        self._all = Counter({2: 0, 3: 0})
        self._sample = HashSample(EQUAL_SIZE)

    def add(self, block: Block) -> None:
        """Counts words and n-grams of ``block``."""
        self._counts = _sum(self._counts, np.bincount(block.words, minlength=block.known))
        for n, seen in self._seen.items():
            grams = ngrams(block.hashes, block.owner, n)
            seen.add(grams)
            self._all[n] += len(grams)
        self._sample.add(block.keys, block.normal)

    def merge(self, other: "Diversity") -> None:
        """Adds the counts of another source."""
        self._counts = _sum(self._counts, other._counts)
        for n, seen in self._seen.items():
            seen.merge(other._seen[n])
        self._all.update(other._all)
        self._sample.merge(other._sample)

    def row(self) -> dict[str, Any]:
        """Words and distinct words, and of 1-, 2- and 3-grams the share that is distinct.

        ``at_equal_size`` has the same shares for a sample of ``EQUAL_SIZE`` captions, None where there are fewer.
        """
        total, distinct = int(self._counts.sum()), int(np.count_nonzero(self._counts))
        shares = {"1": _share(distinct, total, 0.0)}
        shares |= {str(n): _share(seen.count()[0], self._all[n], seen.count()[1]) for n, seen in self._seen.items()}
        return {
            "words": total,
            "distinct_words": distinct,
            "words_used_once": int(np.count_nonzero(self._counts == 1)),
            "distinct_n": shares,
            "at_equal_size": self._at_equal_size() if self._sample.seen >= EQUAL_SIZE else None,
        }

    def _at_equal_size(self) -> dict[str, float]:
        block = Block.of(self._sample.texts(), [], Numbers())
        grams_of = {n: ngrams(block.hashes, block.owner, n) for n in (1, 2, 3)}
        return {str(n): round(len(np.unique(grams)) / max(1, len(grams)), 4) for n, grams in grams_of.items()}


class Repetition:
    """Duplicates, the most frequent captions, and how captions begin."""

    def __init__(self):
        self._hashes: dict[str, list[np.ndarray]] = {"exact": [], "normalised": []}
        self._texts, self._openings = FrequentTexts(_TEXTS), FrequentTexts(_TEXTS)

    def add(self, block: Block) -> None:
        """Counts captions and openings of ``block``."""
        for texts, hashes in zip((block.captions, block.normal), self._hashes.values(), strict=True):
            hashes.append(np.fromiter((hash64(0, text) for text in texts), np.uint64, len(texts)))
        self._texts.add(block.normal)
        self._openings.add(
            " ".join(text.split(" ", OPENING)[:OPENING])
            for text, length in zip(block.normal, block.lengths, strict=True)
            if length >= OPENING
        )

    def merge(self, other: "Repetition") -> None:
        """Adds the counts of another source."""
        for name, hashes in self._hashes.items():
            hashes += other._hashes[name]
        self._texts.merge(other._texts)
        self._openings.merge(other._openings)

    def row(self) -> dict[str, Any]:
        """How many captions repeat another, and the most frequent captions and openings.

        ``counts_too_low_by`` bounds how much the frequencies are too low, as only the most frequent texts are kept.
        """
        hashes = {name: np.concatenate(parts) for name, parts in self._hashes.items()}
        total = len(hashes["exact"])
        openings = self._openings.top(TOP)
        return {
            "duplicates": {name: total - len(np.unique(of_kind)) for name, of_kind in hashes.items()},
            "most_repeated": [{"text": text, "captions": n} for text, n in self._texts.top(TOP) if n > 1],
            "openings": [{"text": text, "captions": n} for text, n in openings],
            "common_openings": sum(n for _, n in openings),
            "counts_too_low_by": max(self._texts.slack, self._openings.slack),
        }


class Language:
    """Captions that are not English: by script in all of them, by language in a sample."""

    def __init__(self):
        self._sample = HashSample(_TEXTS)
        self._not_ascii = 0
        self._parts = [self]
        self._foreign: list[tuple[str, str]] | None = None  # None: captions came since they were last looked at

    def add(self, block: Block) -> None:
        """Counts captions of ``block`` that are not ASCII, and samples from it."""
        self._sample.add(block.keys, block.captions)
        self._foreign = None
        self._not_ascii += sum(not caption.isascii() for caption in block.captions)

    def merge(self, other: "Language") -> None:
        """Adds ``other`` as a part of its own.

        Samples are not merged: each is scaled up by the size of its own source.
        """
        self._parts = [part for part in (*self._parts, *other._parts) if part._sample.seen]
        self._not_ascii += other._not_ascii

    def _in_sample(self) -> list[tuple[str, str]]:
        """(language, text) of the captions in the sample that are not English."""
        if self._foreign is None:
            texts = self._sample.texts()
            self._foreign = [(code, text) for code, text in zip(language.foreign(texts), texts, strict=True) if code]
        return self._foreign

    def row(self) -> dict[str, Any]:
        """Captions that are not ASCII, and those not in English: an estimate from the sample, by language."""
        captions: Counter[str] = Counter()
        for part in self._parts:
            weight = part._sample.seen / len(part._sample.texts())
            for code, _ in part._in_sample():
                captions[code] += weight
        ordered = sorted(captions.items(), key=lambda item: (-item[1], item[0]))
        examples = [{"language": code, "text": text} for part in self._parts for code, text in part._in_sample()]
        return {
            "not_ascii": self._not_ascii,
            "not_english": {
                "captions": round(sum(captions.values())),
                "languages": {code: round(n) for code, n in ordered},
                "examples": examples[:SHOWN],
                "looked_at": sum(len(part._sample.texts()) for part in self._parts),
            },
        }


class Artefacts:
    """How many captions have each of ``artefacts.ARTEFACTS``, with examples, and how many have any defect."""

    def __init__(self):
        self._found: dict[str, tuple[int, list[str]]] = {}
        self._defects = 0

    def add(self, block: Block) -> None:
        """Looks for artefacts in the captions of ``block``."""
        looped = [(int(position), "word_loop") for position in artefacts.loops(block.words, block.owner)]
        defective = set()
        for position, name in (*artefacts.find(block.captions), *looped):
            self._note(name, 1, [block.captions[position]])
            if artefacts.ARTEFACTS[name].defect:
                defective.add(position)
        self._defects += len(defective)

    def _note(self, name: str, captions: int, examples: list[str]) -> None:
        count, shown = self._found.get(name, (0, []))
        if len(shown) < SHOWN:
            shown = list(dict.fromkeys(shown + examples))[:SHOWN]
        self._found[name] = count + captions, shown

    def merge(self, other: "Artefacts") -> None:
        """Adds the counts of another source."""
        self._defects += other._defects
        for name, (count, examples) in other._found.items():
            self._note(name, count, examples)

    def row(self) -> dict[str, Any]:
        """How many captions have a defect, and by name how many have each artefact, with examples."""
        in_order = {name: self._found[name] for name in artefacts.ARTEFACTS if name in self._found}
        return {
            "defects": self._defects,
            "artefacts": {name: {"captions": count, "examples": shown} for name, (count, shown) in in_order.items()},
        }


def ngrams(words: np.ndarray, owner: np.ndarray, n: int) -> np.ndarray:
    """64-bit hashes of the n-grams, those across two captions left out; uint64[at most W - n + 1].

    Args:
      words: uint64[W], hashes of words. owner: int[W], caption of each.
    """
    hashes = words
    for i in range(1, n):
        hashes = mix(hashes[:-1] * np.uint64(3) + words[i:])  # times 3, so that "a b" and "b a" differ
    # owners ascend: an n-gram whose first and last word share a caption lies within it
    return hashes[owner[n - 1 :] == owner[: len(owner) - n + 1]] if len(words) >= n else hashes[:0]


def _sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b, the shorter one padded with zeros."""
    total = np.zeros(max(len(a), len(b)), np.int64)
    total[: len(a)] += a
    total[: len(b)] += b
    return total


def _share(distinct: int, total: int, error: float) -> dict[str, Any]:
    """``error`` is the relative standard error of ``distinct``, 0 when it is exact."""
    share = {"distinct": distinct, "all": total, "share": round(distinct / max(1, total), 6)}
    return share | ({"standard_error": round(error, 6)} if error else {})
