"""BLEU, ROUGE-L and CIDEr-D of tokenised captions, with the values of the COCO caption challenge (pycocoevalcap).

Papineni et al. 2002 (BLEU, over the corpus, closest reference length), Lin 2004 (ROUGE-L, beta 1.2, best precision and
best recall over the references), Vedantam et al. 2015 (CIDEr-D: n-grams of 1 to 4 words, sigma 6, document frequencies
from the references of the clips that are scored).
"""

import collections
import dataclasses
import math
from collections.abc import Sequence

import numpy as np

ORDER = 4  # length of the longest n-grams
_BETA, _SIGMA = 1.2, 6.0
_SMALL, _TINY = 1e-9, 1e-15  # pycocoevalcap adds these below and above its fractions, against 0 / 0

Tokens = Sequence[str]
NGrams = collections.Counter  # of tuples of 1 to ORDER words


def ngrams(tokens: Tokens) -> NGrams:
    """The number of times that every run of 1 to ORDER words occurs."""
    runs = (tuple(tokens[i : i + n]) for n in range(1, ORDER + 1) for i in range(len(tokens) - n + 1))
    return collections.Counter(runs)


@dataclasses.dataclass(frozen=True)
class BleuCounts:
    """The counts that BLEU adds up over clips.

    Attributes:
      right_NK: n-grams of the candidate that a reference has, counted at most as often as there, by length.
      candidate_NK: all n-grams of the candidate, by length.
      length_N, reference_N: words of the candidate and of the reference nearest to it in length (the shorter of two).
    """

    right_NK: np.ndarray
    candidate_NK: np.ndarray
    length_N: np.ndarray
    reference_N: np.ndarray


def bleu_counts(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> BleuCounts:
    """The counts of one candidate and at least one reference per clip."""
    right, candidate_counts, nearest = [], [], []
    for candidate, several in zip(candidates, references, strict=True):
        allowed: NGrams = collections.Counter()
        for reference in several:
            allowed |= ngrams(reference)
        matched = ngrams(candidate) & allowed
        right.append([sum(count for run, count in matched.items() if len(run) == n + 1) for n in range(ORDER)])
        candidate_counts.append([max(0, len(candidate) - n) for n in range(ORDER)])
        nearest.append(min((abs(len(r) - len(candidate)), len(r)) for r in several)[1])
    lengths = [len(candidate) for candidate in candidates]
    return BleuCounts(*(np.asarray(x, np.float64) for x in (right, candidate_counts, lengths, nearest)))


def bleu(counts: BleuCounts, weight_RN: np.ndarray) -> np.ndarray:
    """bleu_RK with n-grams up to 1, ..., ORDER words, over a corpus in which clip n occurs ``weight_RN`` times."""
    weight_RN = np.asarray(weight_RN, np.float64)
    precision_RK = (weight_RN @ counts.right_NK + _TINY) / (weight_RN @ counts.candidate_NK + _SMALL)
    mean_RK = np.cumprod(precision_RK, axis=1) ** (1 / np.arange(1, ORDER + 1))
    ratio_R = (weight_RN @ counts.length_N + _TINY) / (weight_RN @ counts.reference_N + _SMALL)
    with np.errstate(over="ignore"):
        brevity_R = np.where(ratio_R < 1, np.exp(np.minimum(1 - 1 / ratio_R, 0)), 1.0)
    return mean_RK * brevity_R[:, None]


def rouge_l(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> np.ndarray:
    """score_N: F-measure of the longest common subsequence."""
    return np.array([_rouge_l(c, several) for c, several in zip(candidates, references, strict=True)])


def _rouge_l(candidate: Tokens, several: Sequence[Tokens]) -> float:
    common = [(_common(candidate, reference), len(reference)) for reference in several]
    recall = max((run / length for run, length in common if length), default=0.0)
    precision = max(run for run, _ in common) / len(candidate) if candidate else 0.0
    if not precision or not recall:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _common(a: Tokens, b: Tokens) -> int:
    """Length of the longest common subsequence."""
    before = [0] * (len(b) + 1)
    for x in a:
        row = [0]
        for j, y in enumerate(b):
            row.append(before[j] + 1 if x == y else max(before[j + 1], row[j]))
        before = row
    return before[-1]


def tells_apart(references: Sequence[Sequence[Tokens]]) -> bool:
    """Whether any n-gram is in the references of some clips but not of all.

    If none is, as with a single clip or one text for all clips, every inverse document frequency is 0, and ``cider_d``
    gives 0 even to a perfect caption.
    """
    documents = _documents([[ngrams(reference) for reference in several] for several in references])
    return any(count < len(references) for count in documents.values())


def _documents(counted: Sequence[Sequence[NGrams]]) -> collections.Counter:
    """N-gram -> number of clips with it in their references."""
    return collections.Counter(run for several in counted for run in set().union(*several))


def cider_d(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> np.ndarray:
    """score_N, from 0 to 10; meaningless unless ``tells_apart(references)``."""
    counted = [[ngrams(reference) for reference in several] for several in references]
    documents = _documents(counted)
    log_clips = math.log(max(len(references), 1))

    def weighted(counts: NGrams) -> "_Weighted":
        by_length: list[dict] = [{} for _ in range(ORDER)]
        for run, count in counts.items():
            by_length[len(run) - 1][run] = count * (log_clips - math.log(max(1.0, documents[run])))
        norms = [math.sqrt(sum(x * x for x in part.values())) for part in by_length]
        return _Weighted(by_length, norms, sum(count for run, count in counts.items() if len(run) == 2))

    scores = []
    for candidate, several in zip(candidates, counted, strict=True):
        own = weighted(ngrams(candidate))
        scores.append(10 * np.mean([_similarity(own, weighted(reference)) for reference in several]))
    return np.array(scores)


@dataclasses.dataclass(frozen=True)
class _Weighted:
    """Counts times inverse document frequency, one dict per length of n-gram; their norms; the number of word pairs."""

    parts: list[dict]
    norms: list[float]
    pairs: int


def _similarity(a: _Weighted, b: _Weighted) -> float:
    """Mean cosine over n-gram lengths, ``a`` clipped to the weights of ``b``; less if they differ in length."""
    total = 0.0
    for x, y, x_norm, y_norm in zip(a.parts, b.parts, a.norms, b.norms, strict=True):
        if x_norm and y_norm:
            total += sum(min(weight, y[run]) * y[run] for run, weight in x.items() if run in y) / (x_norm * y_norm)
    return total / ORDER * math.exp(-((a.pairs - b.pairs) ** 2) / (2 * _SIGMA**2))
