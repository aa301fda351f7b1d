"""Text-to-audio and audio-to-text retrieval, for clips with several captions and captions that several clips share.

In text-to-audio every caption is a query, and every clip with the same normalised caption is a right answer. In
audio-to-text every clip is a query among all captions, and every caption whose text the clip has is right. Ties count
against the model: a right answer ranks behind all wrong ones of equal similarity, so that collapsed embeddings score
nothing.

The reference implementation (Auden) calls another number average precision; see ``reference_precision``.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.sparse import csr_array

from alp_jax.core.run_files import AUDIO_TO_TEXT, TEXT_TO_AUDIO

CUTOFFS = (1, 5, 10)
DEPTH = max(CUTOFFS)
CHUNK = 1024  # most queries whose similarities are in memory at a time
CELLS = 1 << 26  # most similarities in memory at a time (256 MB), unless a single query has more


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Clips and captions of a retrieval test.

    Attributes:
      owner_M: int[M], the clip of each caption, 0 <= owner < num_clips.
      text_M: int[M], equal for captions of equal normalised text.
      num_clips: A.
    """

    owner_M: np.ndarray
    text_M: np.ndarray
    num_clips: int

    @functools.cached_property
    def _carried_KA(self) -> csr_array:
        """bool[K,A], sparse: which clips have each text; a clip that has it twice is entered once."""
        texts = int(self.text_M.max()) + 1
        pairs = np.unique(self.text_M.astype(np.int64) * self.num_clips + self.owner_M)
        return _table(*np.divmod(pairs, self.num_clips), (texts, self.num_clips))

    @functools.cached_property
    def _texts_KM(self) -> csr_array:
        """bool[K,M], sparse: which captions have each text."""
        captions = len(self.text_M)
        return _table(self.text_M, np.arange(captions), (int(self.text_M.max()) + 1, captions))

    @functools.cached_property
    def _carries_AK(self) -> csr_array:
        return self._carried_KA.T.tocsr()

    def relevant(self, captions: slice) -> csr_array:
        """bool[m,A], sparse: which clips have the text of each caption in the slice."""
        return self._carried_KA[self.text_M[captions]]

    def relevant_captions(self, clips: slice) -> csr_array:
        """bool[a,M], sparse: which captions share their text with a caption of each clip in the slice."""
        return self._carries_AK[clips] @ self._texts_KM


def _table(row_P: np.ndarray, column_P: np.ndarray, shape: tuple[int, int]) -> csr_array:
    return csr_array((np.ones(len(row_P), bool), (row_P, column_P)), shape=shape)


def gallery(captions_of: Sequence[Sequence[str]], normalise) -> tuple[Gallery, list[str]]:
    """The gallery of clips with the given captions, and all captions in its order."""
    texts = [text for captions in captions_of for text in captions]
    owner_M = np.repeat(np.arange(len(captions_of)), [len(captions) for captions in captions_of])
    _, text_M = np.unique([normalise(text) for text in texts], return_inverse=True)
    return Gallery(owner_M, text_M, len(captions_of)), texts


def ranks(
    similarity_QN: np.ndarray, relevant_QN: csr_array, own_QN: csr_array
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rank of the first right answer and average precision at DEPTH of each query; ranks of its own candidates.

    Average precision at 10 sums the precision at every right answer within the first 10 and divides by the number of
    right answers, at most 10. An own candidate is ranked among all candidates, other right answers included.

    Candidates are counted, not sorted. That takes at most one pass over a query's similarities, which stay in the
    cache, for each of its DEPTH best right answers and its own candidates; one pass in all if right answers rank high.

    Args:
      relevant_QN: the right answers, one or more in every row, with sorted indices.
      own_QN: the right answers that belong to the query itself; their ranks come back in the order of its entries.
    """
    rank_Q, precision_Q, own = np.empty(len(similarity_QN), int), np.empty(len(similarity_QN)), []
    for query, similarity_N in enumerate(similarity_QN):
        right, own_R = (table.indices[table.indptr[query] : table.indptr[query + 1]] for table in (relevant_QN, own_QN))
        value_R = similarity_N[right]
        best = np.argsort(-value_R, kind="stable")[:DEPTH] if len(right) > 1 else np.zeros(1, int)
        # own candidates are right answers too, and indices are sorted: without that, this finds wrong places silently
        own_at = np.searchsorted(right, own_R)
        above_R = np.zeros(len(right), int)
        left_N = similarity_N
        for at in sorted({*best.tolist(), *own_at.tolist()}, key=value_R.__getitem__):  # lowest value first
            above_N = left_N >= value_R[at]  # itself and all ties: an equal wrong answer ranks ahead
            above_R[at] = np.count_nonzero(above_N)
            # later values are higher: what is below this one never counts again; copying the rest pays if few are left
            if 8 * above_R[at] < len(left_N):
                left_N = left_N[above_N]
        own.append(above_R[own_at])
        # wrong answers at or above each: all that are, less the right ones, tied ones among them
        others = above_R[best] - (value_R >= value_R[best][:, None]).sum(1)
        nth = np.arange(1, len(best) + 1)
        rank_Q[query] = 1 + others[0]
        precision_Q[query] = (nth / (nth + others))[nth + others <= DEPTH].sum() / len(best)
    return rank_Q, precision_Q, np.concatenate(own)


def reference_precision(rank_P: np.ndarray, query_P: np.ndarray) -> np.ndarray:
    """What the reference calls average precision at 10, per query; NaN for queries that its mean leaves out.

    Hits are numbered in the order of the query's captions instead of their ranks, and the n-th adds n / rank, so values
    above 1 are possible. The sum is divided by the number of captions, at most 10. If every query has a single right
    answer, the reference averages 1 / rank over the queries with a hit and leaves the others out.

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
      rank_Q: int[Q], rank of the first right answer; 1 is best.
      precision_Q: float[Q], average precision at 10.
      reference_Q: float[Q], ``reference_precision``; NaN for queries that it leaves out.
      clip_Q: int[Q], the clip that a query is, or belongs to.
      chances: the recall of a random order at each of CUTOFFS.
    """

    rank_Q: np.ndarray
    precision_Q: np.ndarray
    reference_Q: np.ndarray
    clip_Q: np.ndarray
    chances: tuple[float, ...]


def _chunks(queries: int, candidates: int) -> Iterator[slice]:
    size = max(1, min(CHUNK, CELLS // candidates))
    return (slice(start, min(start + size, queries)) for start in range(0, queries, size))


def _direction(
    query: np.ndarray,
    candidates: np.ndarray,
    relevant: Callable[[slice], csr_array],
    clip_Q: np.ndarray,
    own_QN: csr_array,
) -> Direction:
    ranked, counts = [], []
    for part in _chunks(len(query), len(candidates)):
        relevant_QN = relevant(part)
        relevant_QN.sort_indices()
        ranked.append(ranks(query[part] @ candidates.T, relevant_QN, own_QN[part]))
        counts.append(np.diff(relevant_QN.indptr))
    rank_Q, precision_Q, own_P = (np.concatenate(values) for values in zip(*ranked, strict=True))
    chances = tuple(chance(np.concatenate(counts), len(candidates), cutoff) for cutoff in CUTOFFS)
    query_P = np.repeat(np.arange(len(query)), np.diff(own_QN.indptr))
    return Direction(rank_Q, precision_Q, reference_precision(own_P, query_P), clip_Q, chances)


def evaluate(audio_AE: np.ndarray, text_ME: np.ndarray, tested: Gallery) -> dict[str, Direction]:
    """Both directions by cosine similarity: ``text_to_audio`` and ``audio_to_text``.

    Raises:
      ValueError: an embedding is not finite.
    """
    audio_AE, text_ME = _unit(audio_AE), _unit(text_ME)
    owner_M, captions = tested.owner_M, np.arange(len(tested.owner_M))
    owner_MA = _table(captions, owner_M, (len(captions), tested.num_clips))
    caption_AM = _table(owner_M, captions, (tested.num_clips, len(captions)))
    return {
        TEXT_TO_AUDIO: _direction(text_ME, audio_AE, tested.relevant, owner_M, owner_MA),
        AUDIO_TO_TEXT: _direction(audio_AE, text_ME, tested.relevant_captions, np.arange(tested.num_clips), caption_AM),
    }


def _unit(x: np.ndarray) -> np.ndarray:
    if not np.isfinite(x).all():
        raise ValueError("embeddings are not finite")
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
