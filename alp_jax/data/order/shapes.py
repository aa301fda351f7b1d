"""The shapes of batches: which (samples, tokens) a row may have, and which of them a clip takes.

Every shape is one more compiled program, so there are few of them, and they are chosen for the lengths that a data set
has. What counts is what rows cost: a sample of audio or padding costs 1, a token of text or padding ``TOKEN_SAMPLES``,
and a sample that is cropped away counts as ``_CROPPED``. Everything is a whole number, so that every machine chooses
the same shapes.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from alp_jax.data.order.buckets import MAX_BUCKETS, assign

MAX_SHAPES = 12  # (samples, tokens) in all
# Samples of audio that cost as many operations as one token: 0.07 to 0.09 s by models.accounting, for the paper's
# encoder with either of its text sides and clips of 3 to 30 s. The same for all models, which so see the same batches.
TOKEN_SAMPLES = 1280
_HOP = 160  # samples between feature frames, the resolution of lengths
_MAX_BINS = 1024
_MAX_GROUPS = 64  # lengths that an edge is chosen from
_MAX_WIDTHS = 6  # of the text of rows of one length
# Percent of a clip that may be cropped to fit a shorter row, and what a token counts where lengths are chosen: one
# after the other, until little enough of the audio is padding.
_TRIES = (0, TOKEN_SAMPLES), (8, TOKEN_SAMPLES), (16, TOKEN_SAMPLES), (25, TOKEN_SAMPLES)
_TRIES += tuple((25, TOKEN_SAMPLES // share) for share in (2, 4, 8, 16, 64))
_CROPPED = 2
_SHAPE_COST = 300  # one more shape must save at least one part in this many
_NEVER = np.iinfo(np.int64).max // 1024


@dataclasses.dataclass(frozen=True)
class Shapes:
    """K shapes, by rising length and then by rising width of the text.

    Attributes:
      edges: samples of a row.
      longest: clips of up to this many samples take this row, cropped to it if they are longer; those that are longer
        than all of these take the last. Shapes of equal ``longest`` differ only in tokens.
      tokens: width of the text.
    """

    edges: tuple[int, ...]
    longest: tuple[int, ...]
    tokens: tuple[int, ...]

    def assign(self, samples_N: np.ndarray, tokens_N: np.ndarray) -> np.ndarray:
        """Shape of every clip by its samples and the tokens of its longest caption; int64[N]."""
        upto, first = np.unique(self.longest, return_index=True)
        length_N = assign(samples_N, upto)
        shape_N = first[length_N]
        # Shapes of one length stand side by side, by rising width: a clip moves on for as long as its longest caption
        # does not fit.
        for k in range(1, len(self.edges)):
            if self.longest[k] == self.longest[k - 1]:
                shape_N += (first[length_N] <= k - 1) & (shape_N == k - 1) & (tokens_N > self.tokens[k - 1])
        return shape_N


def text_widths(longest: int, step: int = 8, most: int = 16) -> np.ndarray:
    """Widths that are chosen from for captions of up to ``longest`` tokens: multiples of 8 or more, and ``longest``."""
    step *= -(-longest // (step * most))
    return np.append(np.arange(step, longest, step), longest).astype(np.int64)


class LengthHistogram:
    """Counts clips by length and by the tokens of their longest caption, piece by piece.

    Args:
      bounds: upper ends of the ranges of lengths that are counted together, int64[A]; longer clips count in the last,
        with its length. ``LengthHistogram.upto`` makes fine ones.
      widths: the same for tokens, int64[T]; the last one holds every caption.
    """

    def __init__(self, bounds: np.ndarray, widths: np.ndarray):
        self.bounds, self.widths = np.asarray(bounds, np.int64), np.asarray(widths, np.int64)
        self.count_AT = np.zeros((len(bounds), len(widths)), np.int64)
        self.sum_A, self.max_A = np.zeros(len(bounds), np.int64), np.zeros(len(bounds), np.int64)

    @classmethod
    def upto(cls, longest: int, widths: np.ndarray) -> "LengthHistogram":
        """With ranges of a feature frame or more, up to ``longest`` samples."""
        width = -(-longest // (_MAX_BINS * _HOP)) * _HOP
        return cls(np.append(np.arange(width, longest, width), longest), widths)

    def add(self, samples_N: np.ndarray, tokens_N: np.ndarray) -> None:
        """Counts N more clips.

        Args:
          samples_N: their lengths in samples. tokens_N: tokens of the longest caption of each, at most ``widths[-1]``.
        """
        samples_N = np.minimum(np.asarray(samples_N, np.int64), self.bounds[-1])
        a_N, t_N = np.searchsorted(self.bounds, samples_N), np.searchsorted(self.widths, tokens_N)
        A, T = self.count_AT.shape
        self.count_AT += np.bincount(a_N * T + t_N, minlength=A * T).reshape(A, T)
        np.add.at(self.sum_A, a_N, samples_N)
        np.maximum.at(self.max_A, a_N, samples_N)

    def steps(self, batch: Callable[[int], int]) -> int:
        """Batches that one pass over the clips takes, with ``batch(samples)`` clips in each."""
        clips_A, batch_A = self.count_AT.sum(1), np.array([batch(int(length)) for length in self.bounds])
        return int((clips_A * 1024 // batch_A).sum()) // 1024

    def choose(
        self,
        max_padding: float,
        least: Callable[[int], int] = lambda edge: 0,
        *,
        every_bound: bool = False,
        every_width: bool = False,
    ) -> Shapes:
        """The shapes that cost least.

        Of rows that are cropped as little as ``max_padding``, the share of padding in their audio, allows.

        Args:
          least: rows of a number of samples -> how many of them a shape costs at least.
          every_bound, every_width: ``bounds`` or ``widths`` are the edges or widths, and nothing is left to choose.
        """
        used = np.flatnonzero(self.count_AT.any(1))
        if every_bound:
            edges, starts = self.bounds[used], np.arange(len(used))
        else:
            edges = np.minimum(-(-self.max_A[used] // _HOP) * _HOP, self.bounds[-1])
            starts = _groups(self.count_AT[used].sum(1), self.sum_A[used], self.max_A[used])
        count_GT = np.add.reduceat(self.count_AT[used], starts)
        sum_G, edge_G = np.add.reduceat(self.sum_A[used], starts), edges[np.append(starts[1:], len(used)) - 1]
        tries = _TRIES[:1] if every_bound else _TRIES[:4] if every_width else _TRIES
        make = functools.partial(
            _Ways, count_GT, sum_G, edge_G, self.widths, least=least, every_bound=every_bound, every_width=every_width
        )
        found: list[tuple[float, Shapes, int, int]] = []
        for crop, token in tries:
            found.append((*make(crop=crop, token=token).best(max_padding), crop, token))
            if found[-1][0] <= max_padding:
                break
        _, shapes, crop, token = min(found, key=lambda way: max(way[0], max_padding))
        if token < TOKEN_SAMPLES:  # the lengths are chosen; the widths of each are what tokens cost
            ways = make(crop=crop, token=TOKEN_SAMPLES)
            ways.keep(shapes)
            _, shapes = ways.best(1.0)
        return shapes


def _groups(count_A: np.ndarray, sum_A: np.ndarray, max_A: np.ndarray) -> np.ndarray:
    """Where groups of neighbouring lengths start, at most ``_MAX_GROUPS``: those in which padding would be least."""
    room = 0
    while True:
        starts, clips, heard = [], 0, 0
        for a, (count, total, longest) in enumerate(zip(count_A.tolist(), sum_A.tolist(), max_A.tolist(), strict=True)):
            clips, heard = clips + count, heard + total
            if a == 0 or clips * longest - heard > room:
                starts, clips, heard = [*starts, a], count, total
        if len(starts) <= _MAX_GROUPS:
            return np.array(starts)
        room = max(2 * room, int(sum_A.sum()) >> 16)


class _Ways:
    """All ways to cut G lengths into ranges, and the captions of each range into widths; dynamic programming.

    ``cost_SGG[t - 1, i, j]`` is the least cost of the clips of lengths ``i`` to ``j - 1`` in ``t`` shapes of one edge.
    """

    def __init__(
        self,
        count_GT: np.ndarray,
        sum_G: np.ndarray,
        edge_G: np.ndarray,
        widths: np.ndarray,
        crop: int,
        token: int,
        least: Callable[[int], int],
        every_bound: bool,
        every_width: bool,
    ):
        self._count_GT, self._sum_G, self._edge_G, self._widths = count_GT, sum_G, edge_G, widths
        self._every_width, self._token = every_width, token
        self._least = {int(edge): least(int(edge)) for edge in edge_G}
        G = len(edge_G)
        self._edge, self._lost = self._edges(crop)
        most = MAX_SHAPES if every_width else _MAX_WIDTHS
        self.cost_SGG = np.full((min(len(widths), most), G, G + 1), _NEVER)
        for j in range(1, G + 1):
            begin = j - 1 if every_bound else 0
            cost = self._texts(begin, j)[0]
            self.cost_SGG[:, begin:j, j] = np.minimum(cost + _CROPPED * self._lost[begin:j, j], _NEVER)

    def _edges(self, crop: int) -> tuple[np.ndarray, np.ndarray]:
        """Best edge of every range ``[i, j)`` by its audio alone, and the samples that are then cropped away."""
        G, count_G = len(self._edge_G), self._count_GT.sum(1)
        clips, heard = np.append(0, np.cumsum(count_G)), np.append(0, np.cumsum(self._sum_G))
        best = np.full((G, G + 1), _NEVER)
        edge, lost = np.zeros((G, G + 1), np.int64), np.zeros((G, G + 1), np.int64)
        for m, samples in enumerate(self._edge_G.tolist()):
            for j in range(m + 1, G + 1):
                if self._edge_G[j - 1] * (100 - crop) > samples * 100:
                    break
                cut = int(heard[j] - heard[m + 1] - (clips[j] - clips[m + 1]) * samples)
                cost = (clips[j] - clips[: m + 1]) * samples + _CROPPED * cut
                better = np.flatnonzero(cost < best[: m + 1, j])
                best[better, j], edge[better, j], lost[better, j] = cost[better], samples, cut
        return edge, lost

    def _texts(self, begin: int, j: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """Least cost of the ranges ``[i, j)``, i from ``begin`` on, by number of widths; and the way there."""
        T, widths = len(self._widths), self._widths
        count_IT = np.cumsum(self._count_GT[begin:j][::-1], 0)[::-1]
        upto_IV = np.append(np.zeros((j - begin, 1), np.int64), np.cumsum(count_IT, 1), 1)
        edge_I = self._edge[begin:j, j]
        least_I = np.array([self._least[int(edge)] for edge in edge_I])
        clips_IVW = upto_IV[:, None, :] - upto_IV[:, :, None]  # with more than widths[v - 1] and up to widths[w - 1]
        row_IW = edge_I[:, None] + self._token * np.append(0, widths)
        cost_IVW = np.where(clips_IVW > 0, np.maximum(clips_IVW, least_I[:, None, None]) * row_IW[:, None], _NEVER)
        if self._every_width:
            single = np.full_like(cost_IVW, _NEVER)
            for w in range(1, T + 1):  # what lies between two widths that are used is empty
                empty = upto_IV[:, w - 1 : w] == upto_IV[:, :w]
                single[:, :w, w] = np.where(empty, cost_IVW[:, :w, w], _NEVER)
            cost_IVW = single
        last_I = np.argmax(upto_IV == upto_IV[:, -1:], axis=1)
        reach_IW = np.where(upto_IV == 0, 0, _NEVER)
        costs, ways = [], []
        for _ in range(len(self.cost_SGG)):
            through_IVW = reach_IW[:, :, None] + cost_IVW
            ways.append(np.argmin(through_IVW, 1))
            reach_IW = np.minimum(np.take_along_axis(through_IVW, ways[-1][:, None], 1)[:, 0], _NEVER)
            costs.append(reach_IW[np.arange(j - begin), last_I])
        return np.array(costs), [*ways, last_I]

    def keep(self, shapes: Shapes) -> None:
        """Leaves no ways but those that cut the lengths as ``shapes`` does."""
        ends = np.searchsorted(self._edge_G, np.unique(shapes.longest)) + 1
        cost_SGG = np.full_like(self.cost_SGG, _NEVER)
        for i, j in itertools.pairwise([0, *ends.tolist()]):
            cost_SGG[:, i, j] = self.cost_SGG[:, i, j]
        self.cost_SGG = cost_SGG

    def best(self, max_padding: float) -> tuple[float, Shapes]:
        """The share of the audio that is padding, and the shapes.

        They are the cheapest of those that leave at most ``max_padding`` of it empty; else those that leave least.
        """
        G = len(self._edge_G)
        cost = {(0, 0): np.append(0, np.full(G, _NEVER))}  # (edges, shapes) -> least cost of the first lengths, [G + 1]
        came: dict[tuple[int, int], np.ndarray] = {}  # which number of widths and first length it came by
        never = np.full(G + 1, _NEVER)
        found = []
        for m in range(1, min(G, MAX_BUCKETS) + 1):
            for s in range(m, MAX_SHAPES + 1):
                by_t = [
                    cost.get((m - 1, s - t), never)[:-1, None] + self.cost_SGG[t - 1]
                    for t in range(1, min(s - m + 1, len(self.cost_SGG)) + 1)
                ]
                through = np.minimum(np.array(by_t).reshape(-1, G + 1), _NEVER)
                came[m, s], cost[m, s] = through.argmin(0), through.min(0)
            _, s = min((int(cost[m, s][-1]) * (_SHAPE_COST + s), s) for s in range(m, MAX_SHAPES + 1))
            if cost[m, s][-1] < _NEVER:
                found.append((int(cost[m, s][-1]) * (_SHAPE_COST + s), *self._trace(m, s, came)))
        # ``found`` is by rising number of edges, and ``min`` keeps the first of equals: of ways that cost the same, the
        # one with fewer lengths.
        least = min(found, key=lambda way: way[1])
        fitting = [way for way in found if way[1] <= max_padding]
        return min(fitting or [least], key=lambda way: way[0])[1:]

    def _trace(self, m: int, s: int, came: dict) -> tuple[float, Shapes]:
        """Share of padding in the audio, and the shapes, of the way that ends with ``m`` edges and ``s`` shapes."""
        j, shapes, room, heard = len(self._edge_G), [], 0, int(self._sum_G.sum())
        while m:
            t, i = divmod(int(came[m, s][j]), len(self._edge_G))
            t += 1
            edge, longest = int(self._edge[i, j]), int(self._edge_G[j - 1])
            *ways, last_I = self._texts(i, j)[1]
            w, tokens = int(last_I[0]), []
            for way in reversed(ways[:t]):
                tokens.append(int(self._widths[w - 1]))
                w = int(way[0, w])
            shapes += [(edge, longest, width) for width in tokens]
            room += int(self._count_GT[i:j].sum()) * edge
            heard -= int(self._lost[i, j])
            m, s, j = m - 1, s - t, i
        return 1 - heard / room, Shapes(*(tuple(each) for each in zip(*reversed(shapes), strict=True)))


def shapes_of(edges: Sequence[int], widths: Sequence[int]) -> Shapes:
    """Every width of every edge."""
    pairs = [(int(edge), int(width)) for edge in edges for width in widths]
    return Shapes(*(tuple(each) for each in zip(*((edge, edge, width) for edge, width in pairs), strict=True)))
