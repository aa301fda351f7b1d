"""Which clips a run trains on: the rung of the ladder within the chosen sources, sorted by bucket.

Everything here goes through the index in pieces, so that a rung of ten million clips costs one array of row numbers.
That of a big rung is kept in the cache folder, where the loader workers of a host map it to memory.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import pathlib
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from alp_jax.config.schema import CHOSEN_WIDTHS, DataConfig
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import DataError, StorageError, UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.core.paths import cache_dir
from alp_jax.data.order import buckets, mixture
from alp_jax.data.order.compose import BLOCK
from alp_jax.data.order.held_out import trainable
from alp_jax.data.order.shapes import MAX_SHAPES, LengthHistogram, Shapes, shapes_of, text_widths
from alp_jax.data.store.dataset import Dataset
from alp_jax.data.store.mapped import MappedTable, write_table
from alp_jax.data.text.token_lengths import token_lengths

CHUNK = 1 << 18  # clips handled at a time
BIG = 1 << 20  # number of clips from which a rung is kept in a file
_RANK_BINS = 1 << 16
_FORMAT, _META = 2, b"alp_jax_rung"


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a rung holds. K buckets (those with clips), C components, S sources of the data set.

    Attributes:
      edges, longest, tokens: of each bucket, see ``Shapes``.
      components: names of the sources that are mixed by weight; ("",) if there are no weights.
      clips: clips by (bucket, component).
      source_clips, source_pairs, source_samples, source_kept, source_tokens: by (bucket, source); ``source_kept``:
        samples left after cropping; ``source_tokens``: of one caption of every clip, on average, None if not measured.
    """

    edges: list[int]
    longest: list[int]
    tokens: list[int]
    components: list[str]
    clips: list[list[int]]
    source_clips: list[list[int]]
    source_pairs: list[list[int]]
    source_samples: list[list[int]]
    source_kept: list[list[int]]
    source_tokens: list[list[float]] | None


class Rung:
    """A rung: its ``Summary`` and the rows of its clips, in stored order within every (bucket, component).

    Attributes:
      rows: int32 views by (bucket, component).
      table: the file that holds a big rung; its ``release`` gives back the memory of pages that were read.
    """

    def __init__(self, summary: Summary, rows: np.ndarray, table: MappedTable | None = None):
        self.summary, self._rows, self.table = summary, rows, table
        cells = itertools.product(range(len(summary.edges)), range(len(summary.components)))
        ends = np.cumsum(np.array(summary.clips).reshape(-1))[:-1]
        self.rows: dict[tuple[int, int], np.ndarray] = dict(zip(cells, np.split(rows, ends), strict=True))

    def __len__(self) -> int:
        return len(self._rows)


def open_rung(dataset: Dataset, config: DataConfig) -> Rung:
    """The rung that ``config.pairs``, ``sources``, ``mixture`` and the bucket settings describe.

    Raises:
      UserError: names the setting if there are fewer pairs than requested, or no such source.
    """
    chosen = mixture.select(config.sources, dataset.sources)
    captions = Captions(dataset, config)
    # Only where it is set, so that the files of rungs without it keep their names.
    held_out = [config.held_out] if config.held_out else []
    settings = [list(config.bucket_seconds), config.crop_seconds, config.max_padding, config.batch_seconds]
    settings += [config.clips_per_batch, config.clips_multiple, config.text_budget, captions.identity]
    identity = [_FORMAT, dataset.fingerprint, config.pairs, chosen, settings, bool(config.mixture), *held_out]
    path = cache_dir() / "rungs" / f"{fingerprint(identity)}.arrow"
    kept = _load(path)
    if kept:
        return kept
    rung = _make(trainable(dataset, config), config, chosen, captions)
    if len(rung) >= BIG:
        try:
            write_table(path, _table(rung))
        except (OSError, StorageError):
            return rung  # without a writable cache the rung stays in memory
        return _load(path) or rung
    return rung


def _table(rung: Rung) -> pa.Table:
    meta = {"summary": dataclasses.asdict(rung.summary), "digest": _digest(rung._rows)}
    return pa.table({"row": pa.array(rung._rows)}).replace_schema_metadata({_META: json.dumps(meta)})


def _load(path: pathlib.Path) -> Rung | None:
    if not path.exists():
        return None
    try:
        mapped = MappedTable(path)
        meta = json.loads(mapped.table.schema.metadata[_META])
        rows = mapped.numpy("row")
    except (DataError, KeyError, TypeError, ValueError):
        return None
    # A file that was damaged on the disk of one host would give that host other clips than the rest: it is made again.
    if _digest(rows) != meta["digest"]:
        return None
    mapped.release()
    return Rung(Summary(**meta["summary"]), rows, mapped)


def _digest(rows: np.ndarray) -> str:
    return hashlib.blake2b(rows, digest_size=16).hexdigest()


class Captions:
    """The widths that the text of batches may have, and the tokens of every clip's captions.

    Where all batches have one width, captions are not measured; their tokens are unknown unless that was done before.

    Attributes:
      widths: int64[T]; ``chosen``: whether some of them are picked, for the captions that there are.
      known: whether captions are measured.
      identity: what the choice depends on.
    """

    def __init__(self, dataset: Dataset, config: DataConfig):
        known = buckets.widths(config)
        self.chosen = config.text_widths == CHOSEN_WIDTHS
        self.widths = text_widths(config.text_budget) if self.chosen else known
        self._budget = config.text_budget
        self._lengths = token_lengths(dataset, config, measure=len(self.widths) > 1)
        self.known = self._lengths is not None
        if not self.known:
            self.chosen, self.widths = False, known[-1:]
        self.identity = [self.widths.tolist(), self.chosen, self._lengths.name if self._lengths else ""]

    def of(self, row_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of each clip's longest caption, int64[N], and of its captions on average, float64[N], 0 if unknown."""
        if self._lengths is None:
            return np.full(len(row_N), self._budget), np.zeros(len(row_N))
        longest_N, mean_N = self._lengths.of(row_N, self._budget)
        self._lengths.release()
        return (longest_N if len(self.widths) > 1 else np.full(len(row_N), self._budget)), mean_N


def _make(dataset: Dataset, config: DataConfig, chosen: tuple[str, ...], captions: Captions) -> Rung:
    inside_S = np.array([name in chosen for name in dataset.sources])
    limit = _limit(dataset, inside_S, config.pairs)
    pieces = functools.partial(_pieces, dataset, inside_S, limit)
    shapes = _shapes(dataset, config, inside_S, captions)
    edges_K = np.array(shapes.edges)
    K, S = len(edges_K), len(dataset.sources)
    totals = [np.zeros((K, S), np.int64) for _ in range(4)]
    tokens_KS = np.zeros((K, S))
    assigned = []
    for rows in pieces():
        samples, (longest, mean) = dataset.num_samples[rows].astype(np.int64), captions.of(rows)
        bucket = shapes.assign(samples, longest)
        assigned.append(bucket.astype(np.int8))
        cell = bucket * S + dataset.source[rows]
        kept = np.minimum(samples, edges_K[bucket])
        for total, weights in zip(totals, (None, dataset.num_captions[rows], samples, kept), strict=True):
            total += np.bincount(cell, weights, K * S).astype(np.int64).reshape(K, S)
        tokens_KS += np.bincount(cell, mean, K * S).reshape(K, S)
    clips_KS = totals[0]
    present = [s for s in range(S) if clips_KS[:, s].any()]
    mixed = bool(config.mixture) and len(present) > 1
    component_S = np.zeros(S, np.int64)
    if mixed:
        component_S[present] = np.arange(len(present))
    used = np.flatnonzero(clips_KS.any(1))
    clips_KC = np.stack([clips_KS[:, component_S == c].sum(1) for c in range(component_S.max() + 1)], axis=1)
    rows = _sorted(dataset, pieces, assigned, component_S, clips_KC)
    summary = Summary(
        *([of_shapes[k] for k in used] for of_shapes in (shapes.edges, shapes.longest, shapes.tokens)),
        [dataset.sources[s] for s in present] if mixed else [""],
        clips_KC[used].tolist(),
        *(total[used].tolist() for total in totals),
        tokens_KS[used].tolist() if captions.known else None,
    )
    return Rung(summary, rows)


def _pieces(dataset: Dataset, inside_S: np.ndarray, limit: int):
    """Rows of the clips in the chosen sources with a rank up to ``limit``, one piece of the index at a time."""
    for start in range(0, len(dataset), CHUNK):
        rank = dataset.ladder[start : start + CHUNK]
        row_N = np.flatnonzero((rank >= 0) & (rank <= limit) & inside_S[dataset.source[start : start + CHUNK]])
        if len(row_N):
            yield row_N + start
        dataset.release()


def _limit(dataset: Dataset, inside_S: np.ndarray, pairs: int) -> int:
    """The last rank of the shortest prefix of the ladder whose captions reach ``pairs``; 0 pairs: the last of all.

    Captions are counted first by range of ranks, then by rank within the range that matters.
    """
    last = len(dataset)
    width = -(-last // _RANK_BINS) or 1

    def count(first: int, upto: int, by: int) -> np.ndarray:
        total = np.zeros(-(-(upto - first) // by), np.int64)
        for rows in _pieces(dataset, inside_S, upto - 1):
            rank = dataset.ladder[rows] - first
            ranked = rank >= 0
            total += np.bincount(rank[ranked] // by, dataset.num_captions[rows[ranked]], len(total)).astype(np.int64)
        return total

    upto = np.cumsum(count(0, last, width))
    total = int(upto[-1]) if len(upto) else 0
    if not total:
        raise UserError(f"data set {dataset.path} has no training clips with captions in the sources of data.sources")
    if pairs < 0 or pairs > total:
        raise UserError(f"data.pairs = {pairs}: the training split has {total} audio-caption pairs; 0 takes them all")
    if pairs == 0:
        return last
    bin_ = int(np.searchsorted(upto, pairs))
    missing = pairs - (int(upto[bin_ - 1]) if bin_ else 0)
    first = bin_ * width
    return first + int(np.searchsorted(np.cumsum(count(first, min(last, first + width), 1)), missing))


def _shapes(dataset: Dataset, config: DataConfig, inside_S: np.ndarray, captions: Captions) -> Shapes:
    """The shapes of batches. They are chosen for the whole ladder, so that all of its rungs have the same."""
    if not config.crop_seconds > 0:
        raise UserError(f"data.crop_seconds = {config.crop_seconds:g}: must be positive")
    if not 0 <= config.max_padding < 1:
        raise UserError(f"data.max_padding = {config.max_padding:g}: must be at least 0 and below 1")
    edges = buckets.edges(config.bucket_seconds) if config.bucket_seconds else None
    if edges is not None and not captions.chosen:
        if len(edges) * len(captions.widths) > MAX_SHAPES:
            raise UserError(
                f"data.bucket_seconds = {config.bucket_seconds} and data.text_widths = {config.text_widths} are more "
                f"than {MAX_SHAPES} shapes, each of which is a program to compile"
            )
        return shapes_of(edges, captions.widths)
    if edges is None:
        counts = LengthHistogram.upto(round(config.crop_seconds * SAMPLE_RATE), captions.widths)
    else:
        counts = LengthHistogram(edges, captions.widths)
    for rows in _pieces(dataset, inside_S, len(dataset)):
        counts.add(dataset.num_samples[rows], captions.of(rows)[0])
    batch = functools.partial(buckets.batch_size, config=config)
    # A shape takes whole batches, and every shape at least one step of a block.
    share = max(1, counts.steps(batch) // BLOCK)
    return counts.choose(
        config.max_padding,
        lambda edge: share * batch(edge),
        every_bound=edges is not None,
        every_width=not captions.chosen,
    )


def _sorted(
    dataset: Dataset, pieces: Callable, assigned: list[np.ndarray], component_S: np.ndarray, clips_KC: np.ndarray
) -> np.ndarray:
    """Rows of the rung by (bucket, component), in stored order within; int32[n]."""
    counts = clips_KC.reshape(-1)
    out, next_row = np.empty(counts.sum(), np.int32), np.cumsum(counts) - counts
    for rows, bucket in zip(pieces(), assigned, strict=True):
        cell = bucket.astype(np.int64) * clips_KC.shape[1] + component_S[dataset.source[rows]]
        # Stable: permutations number the clips of a cell as they are stored, so another order here is another order of
        # the run, which its fingerprint would not show.
        rows = rows[np.argsort(cell, kind="stable")].astype(np.int32)
        ends = np.cumsum(np.bincount(cell, minlength=len(counts)))
        for c in np.flatnonzero(np.diff(ends, prepend=0)):
            first = ends[c - 1] if c else 0
            out[next_row[c] : next_row[c] + ends[c] - first] = rows[first : ends[c]]
            next_row[c] += ends[c] - first
    return out
