"""Text-to-audio and audio-to-text retrieval with several captions per clip and captions that several clips share.

Every caption is a query of text-to-audio, and every clip that carries the same normalised caption is a right answer.
Every clip is a query of audio-to-text among all captions, and every caption whose text the clip carries is right.
Ties are broken against the model: a right answer ranks behind every wrong one of equal similarity, so that collapsed
embeddings score nothing.

The average precision of the reference (Auden) is another number under the same name and has its own here, see
``reference_precision``.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

CUTOFFS = (1, 5, 10)
DEPTH = max(CUTOFFS)
CHUNK = 1024  # queries whose similarities are held at a time


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Clips and captions of a retrieval test.

    Attributes:
      owner_T: int[T], the clip of each caption, 0 <= owner < num_clips.
      text_T: int[T], equal for captions of equal normalised text.
      num_clips: A.
    """

    owner_T: np.ndarray
    text_T: np.ndarray
    num_clips: int

    def relevant(self, captions: slice) -> np.ndarray:
        """bool[t,A]: which clips carry the text of each caption in the slice."""
        carries_AK = np.zeros((self.num_clips, int(self.text_T.max()) + 1), bool)
        carries_AK[self.owner_T, self.text_T] = True
        return carries_AK[:, self.text_T[captions]].T

    def relevant_captions(self, clips: slice) -> np.ndarray:
        """bool[a,T]: which captions have a text that each clip in the slice carries."""
        first, last, _ = clips.indices(self.num_clips)
        carries_aK = np.zeros((last - first, int(self.text_T.max()) + 1), bool)
        mine_T = (self.owner_T >= first) & (self.owner_T < last)
        carries_aK[self.owner_T[mine_T] - first, self.text_T[mine_T]] = True
        return carries_aK[:, self.text_T]


def gallery(captions_of: Sequence[Sequence[str]], normalise) -> tuple[Gallery, list[str]]:
    """The gallery of clips with the given captions, and all captions in its order."""
    texts = [text for captions in captions_of for text in captions]
    owner_T = np.repeat(np.arange(len(captions_of)), [len(captions) for captions in captions_of])
    _, text_T = np.unique([normalise(text) for text in texts], return_inverse=True)
    return Gallery(owner_T, text_T, len(captions_of)), texts


def ranks(similarity_QN: np.ndarray, relevant_QN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank of the first right answer and average precision at DEPTH of each query.

    Average precision at 10 sums the precision at every right answer within the first 10 and divides by the number
    of right answers, at most 10.
    """
    wrong_QN = np.where(relevant_QN, -np.inf, similarity_QN)
    right_QN = np.where(relevant_QN, similarity_QN, -np.inf)
    rank_Q = 1 + (wrong_QN >= right_QN.max(1, keepdims=True)).sum(1)
    wrong_QK, right_QK = _largest(wrong_QN), _largest(right_QN)
    before_QK = (wrong_QK[:, None, :] >= right_QK[:, :, None]).sum(2)
    nth_K = np.arange(1, right_QK.shape[1] + 1)
    place_QK = nth_K + before_QK
    hit_QK = np.isfinite(right_QK) & (place_QK <= DEPTH)
    precision_Q = np.where(hit_QK, nth_K / place_QK, 0.0).sum(1) / np.minimum(relevant_QN.sum(1), DEPTH)
    return rank_Q, precision_Q


def _largest(values_QN: np.ndarray) -> np.ndarray:
    """The DEPTH largest of each row, largest first."""
    kept = min(DEPTH, values_QN.shape[1])
    return -np.sort(-np.partition(values_QN, values_QN.shape[1] - kept, axis=1)[:, -kept:], axis=1)


def own_ranks(similarity_QN: np.ndarray, query_P: np.ndarray, candidate_P: np.ndarray) -> np.ndarray:
    """Rank of each query's own candidates among all, of which others may be right as well.

    Args:
      query_P, candidate_P: pairs of row and column, ascending by row.
    """
    value_P = similarity_QN[query_P, candidate_P]
    nth_P = np.arange(len(query_P)) - np.searchsorted(query_P, query_P)
    rank_P = np.empty(len(query_P), int)
    for nth in range(int(nth_P.max(initial=-1)) + 1):  # one candidate of every query at a time, to bound memory
        now = nth_P == nth
        rank_P[now] = (similarity_QN[query_P[now]] >= value_P[now, None]).sum(1)
    return rank_P


def reference_precision(rank_P: np.ndarray, query_P: np.ndarray) -> np.ndarray:
    """What the reference calls average precision at 10, per query; NaN where a query takes no part in its mean.

    The hits of a query are numbered in the order of its captions, not of their ranks, and the n-th adds n / rank, so
    that values above 1 exist. The sum is divided by the number of captions, at most 10. Where every query has one
    right answer, the reference averages 1 / rank over the queries with a hit and leaves the others out.

    Args:
      rank_P: ranks of the queries' own candidates.
      query_P: int[P] ascending, the query of each; every query occurs.
    """
    hit_P = rank_P <= DEPTH
    first_Q, count_Q = np.unique(query_P, return_index=True, return_counts=True)[1:]
    earlier_P = np.cumsum(hit_P) - hit_P
    nth_P = 1 + earlier_P - np.repeat(earlier_P[first_Q], count_Q)
    total_Q = np.add.reduceat(np.where(hit_P, nth_P / rank_P, 0.0), first_Q)
    if (count_Q == 1).all():
        return np.where(hit_P, total_Q, np.nan)
    return total_Q / np.minimum(count_Q, DEPTH)


def reference_mean(reference_Q: np.ndarray, weight_RQ: np.ndarray) -> np.ndarray:
    """Weighted mean over the queries that the reference counts, for each of R weightings; 0 where there are none."""
    counted_Q = ~np.isnan(reference_Q)
    total_R = weight_RQ[:, counted_Q].sum(1)
    return weight_RQ[:, counted_Q] @ reference_Q[counted_Q] / np.maximum(total_R, 1e-9)


def chance(num_relevant_Q: np.ndarray, num_candidates: int, cutoff: int) -> float:
    """Expected recall at ``cutoff`` of a random order: 1 - C(N - r, k) / C(N, k), averaged over the queries."""
    missed_Q = np.ones(len(num_relevant_Q))
    for drawn in range(min(cutoff, num_candidates)):
        missed_Q *= np.maximum(num_candidates - num_relevant_Q - drawn, 0) / (num_candidates - drawn)
    return float(1 - missed_Q.mean())


@dataclasses.dataclass(frozen=True)
class Direction:
    """One direction of a retrieval test, per query.

    Attributes:
      rank_Q: int[Q], 1 is best.
      precision_Q: float[Q], average precision at 10.
      reference_Q: float[Q], what the reference calls so; NaN for queries that it leaves out.
      clip_Q: int[Q], the clip a query comes from.
      chances: recall at each of CUTOFFS of a random order.
    """

    rank_Q: np.ndarray
    precision_Q: np.ndarray
    reference_Q: np.ndarray
    clip_Q: np.ndarray
    chances: tuple[float, ...]


def _chunks(total: int) -> Iterator[slice]:
    return (slice(start, min(start + CHUNK, total)) for start in range(0, total, CHUNK))


def _direction(query, candidates, relevant, clip_Q, own) -> Direction:
    query_P, candidate_P = own
    found, counts = [], []
    for part in _chunks(len(query)):
        relevant_QN, similarity_QN = relevant(part), query[part] @ candidates.T
        here = slice(*np.searchsorted(query_P, (part.start, part.stop)))
        own_P = own_ranks(similarity_QN, query_P[here] - part.start, candidate_P[here])
        found.append((*ranks(similarity_QN, relevant_QN), own_P))
        counts.append(relevant_QN.sum(1))
    rank_Q, precision_Q, own_P = (np.concatenate(values) for values in zip(*found, strict=True))
    chances = tuple(chance(np.concatenate(counts), len(candidates), cutoff) for cutoff in CUTOFFS)
    return Direction(rank_Q, precision_Q, reference_precision(own_P, query_P), clip_Q, chances)


def evaluate(audio_AE: np.ndarray, text_TE: np.ndarray, tested: Gallery) -> dict[str, Direction]:
    """Both directions by cosine similarity: ``text_to_audio`` and ``audio_to_text``.

    Raises:
      ValueError: an embedding is not finite.
    """
    audio_AE, text_TE = _unit(audio_AE), _unit(text_TE)
    owner_T, clip_A = tested.owner_T, np.arange(tested.num_clips)
    by_owner_T = np.argsort(owner_T, kind="stable")
    captions = (np.arange(len(owner_T)), owner_T)
    return {
        "text_to_audio": _direction(text_TE, audio_AE, tested.relevant, owner_T, captions),
        "audio_to_text": _direction(
            audio_AE, text_TE, tested.relevant_captions, clip_A, (owner_T[by_owner_T], by_owner_T)
        ),
    }


def _unit(x: np.ndarray) -> np.ndarray:
    if not np.isfinite(x).all():
        raise ValueError("embeddings are not finite")
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
