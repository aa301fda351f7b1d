"""Plans a build: a stream of clips becomes a columnar file with one record batch per shard.

Clips are spooled to disk in batches as they come; only hashes stay in memory. Their order (the ladder's) and the
duplicates among them follow from the hashes, and the plan file is gathered from the spool, so ten million clips need
about a hundred bytes of memory each and are never all Python objects at once.
"""

import collections
import dataclasses
import hashlib
import itertools
import math
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from alp_jax.core import storage
from alp_jax.core.clip import SPLITS, Clip, Rejected
from alp_jax.core.errors import UserError
from alp_jax.core.progress import Progress
from alp_jax.data.building import rows
from alp_jax.data.building.filters import CaptionFilter
from alp_jax.data.store import ladder

DEDUPE = ("source", "all", "none")
NAMES_PER_REASON = 1000
MAX_CAPTIONS = 65_535  # of one clip: the index stores the number in 16 bits
_BATCH = 32_768  # rows held as Python objects at a time
_TAKEN = 4096  # clips taken from the stream at a time
_EVALUATION_FIRST = {name: rank for rank, name in enumerate(reversed(SPLITS))}


@dataclasses.dataclass
class LeftOut:
    """Clips and rows that never get a place in a shard: their number, and the names of the first."""

    count: int = 0
    names: list[str] = dataclasses.field(default_factory=list)
    sources: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def add(self, name: str, source: str | None = None) -> None:
        """Counts one clip or row; ``source`` None where it is not known."""
        self.count += 1
        if len(self.names) < NAMES_PER_REASON:
            self.names.append(name)
        if source is not None:
            self.sources[source] += 1


@dataclasses.dataclass
class Spool:
    """N clips on disk in the order they came, and in memory what is needed to arrange them.

    Attributes:
      path: Arrow IPC file of ``rows.SCHEMA``, all batches but the last of ``_BATCH`` rows.
      place, stretch: uint64[N], hash of the id, and of recording and time.
      rank: int8[N], 0 for clips that duplicates never displace (test), up to 2 for those displaced first (train).
      source: int32[N], index into ``sources``.
      digest: uint8[N, 16].
      seconds: float32[N], the length that the metadata states; NaN where it states none.
      expected: number of clips that came, by source.
      left_out: reason -> clips that were not spooled or are not built, and rows that never became clips.
      dropped_captions: number of captions that the filter dropped, by reason.
    """

    path: pathlib.Path
    place: np.ndarray
    stretch: np.ndarray
    rank: np.ndarray
    source: np.ndarray
    digest: np.ndarray
    seconds: np.ndarray
    sources: list[str]
    expected: dict[str, int]
    left_out: dict[str, LeftOut]
    dropped_captions: dict[str, int]

    def __len__(self) -> int:
        return len(self.place)

    def lengths(self, rows_n: np.ndarray) -> dict[str, tuple[int, float, int]]:
        """Of ``rows_n`` by source: their number, the seconds that their metadata states, how many state none."""
        source, seconds = self.source[rows_n], self.seconds[rows_n].astype(np.float64)
        size = len(self.sources)
        clips = np.bincount(source, minlength=size)
        stated = np.bincount(source, np.nan_to_num(seconds), minlength=size)
        unknown = np.bincount(source, np.isnan(seconds), minlength=size)
        columns = zip(self.sources, clips.tolist(), stated.tolist(), unknown.astype(int).tolist(), strict=True)
        return {name: (count, total, none) for name, count, total, none in columns if count}

    def gather(self, rows_N: np.ndarray) -> pa.RecordBatch:
        """The rows ``rows_N``, in that order; reads only the batches that hold them."""
        with pa.memory_map(str(self.path)) as file:
            reader = pa.ipc.open_file(file)
            # each batch is read once: rows are grouped by batch, taken, and put into the requested order
            by_batch = np.argsort(rows_N // _BATCH, kind="stable")
            numbers, starts = np.unique(rows_N[by_batch] // _BATCH, return_index=True)
            parts = np.split(rows_N[by_batch] % _BATCH, starts[1:])
            taken = [reader.get_batch(int(n)).take(pa.array(part)) for n, part in zip(numbers, parts, strict=True)]
            back = np.empty(len(rows_N), np.int64)
            back[by_batch] = np.arange(len(rows_N))
            return pa.concat_batches(taken).take(pa.array(back))


class _Writer:
    def __init__(self, path: pathlib.Path, dedupe: str, captions: CaptionFilter):
        self._file = pa.ipc.new_file(str(path), rows.SCHEMA)
        self._dedupe, self._filter = dedupe, captions
        self._rows: list[tuple] = []
        self._columns: dict[str, list] = {name: [] for name in ("place", "stretch", "rank", "source", "seconds")}
        self._digests, self._arrays = bytearray(), collections.defaultdict(list)
        self.sources: dict[str, int] = {}
        self.left_out: dict[str, LeftOut] = collections.defaultdict(LeftOut)
        self.expected, self.dropped = collections.Counter(), collections.Counter()

    def add_all(self, items: Sequence[Clip | Rejected]) -> None:
        """Takes clips and rejected rows in their order."""
        clips = [item for item in items if isinstance(item, Clip)]
        kept = iter(self._filter.apply(clips, self.dropped))
        for item in items:
            if isinstance(item, Rejected):
                self.left_out[item.reason].add(f"{item.where}: {item.detail}" if item.detail else item.where)
                continue
            self.expected[item.source] += 1
            clip = next(kept)
            if clip is None:
                self.left_out["filtered_captions"].add(_name(item.id, item.audio_path), item.source)
            else:
                self._add(clip)

    def _add(self, clip: Clip) -> None:
        source = self.sources.setdefault(clip.source, len(self.sources))
        values = rows.row(clip)
        times = (clip.start_s, clip.recording_start_s or 0.0, clip.duration_s or 0.0, clip.stated_s or 0.0)
        if not min(times) >= 0 or clip.duration_s == 0:
            return self.left_out["bad_time"].add(_name(clip.id, clip.audio_path), clip.source)
        if len(clip.captions) > MAX_CAPTIONS:
            return self.left_out["bad_record"].add(_name(clip.id, clip.audio_path), clip.source)
        try:
            self._digests += rows.digest(values)
        except (UnicodeEncodeError, ValueError) as error:
            reason = "not_utf8" if isinstance(error, UnicodeEncodeError) else "bad_time"
            return self.left_out[reason].add(_name(ascii(clip.id), ascii(clip.audio_path)), clip.source)
        self._rows.append(values)
        known = (source, math.nan if clip.known_s is None else clip.known_s)
        facts = (ladder.id_hash(clip.id), _stretch(clip, self._dedupe), _EVALUATION_FIRST[clip.split], *known)
        for column, value in zip(self._columns.values(), facts, strict=True):
            column.append(value)
        if len(self._rows) == _BATCH:
            self._flush()
        return None

    def _flush(self) -> None:
        types = {"place": np.uint64, "stretch": np.uint64, "rank": np.int8, "source": np.int32, "seconds": np.float32}
        for name, column in self._columns.items():
            self._arrays[name].append(np.array(column, types[name]))
            column.clear()
        if self._rows:
            self._file.write_batch(rows.batch(self._rows))
        self._rows.clear()

    def close(self) -> dict:
        self._flush()
        self._file.close()
        arrays = {name: np.concatenate(parts) for name, parts in self._arrays.items()}
        return arrays | {"digest": np.frombuffer(bytes(self._digests), np.uint8).reshape(-1, 16)}


def spool(clips: Iterable[Clip | Rejected], path: pathlib.Path, *, dedupe: str, captions: CaptionFilter) -> Spool:
    """Writes the clips of a stream to ``path`` in the order they come; rejected rows are counted by reason.

    Args:
      dedupe: ``source``, ``all`` or ``none``: within what a stretch of a recording may occur only once.
    """
    writer = _Writer(path, dedupe, captions)
    stream = iter(clips)
    with Progress("read metadata", None, "rows", quiet=True) as progress:
        while items := list(itertools.islice(stream, _TAKEN)):
            writer.add_all(items)
            progress.update(len(items))
    return Spool(
        path,
        **writer.close(),
        sources=list(writer.sources),
        expected=dict(writer.expected),
        left_out=dict(writer.left_out),
        dropped_captions=dict(writer.dropped),
    )


def _name(clip_id: str, path: str) -> str:
    return f"{clip_id} ({path})"


def _stretch(clip: Clip, dedupe: str) -> int:
    """A hash, equal for the same stretch of the same recording or, if that is unknown, of the same file.

    Clips read without audio name no file, so no two of them are equal in the latter sense.
    """
    if clip.recording_start_s is None:
        where = (clip.audio_path or clip.id, clip.member, clip.start_s)
    else:
        where = ("", "", clip.recording_start_s)
    key = repr((clip.source if dedupe == "source" else "", clip.recording, *where, clip.duration_s, clip.channel))
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def arrange(spooled: Spool, dedupe: str) -> np.ndarray:
    """The rows to build, in ladder order, int64[n]; the others are added to ``spooled.left_out``.

    Of clips with the same id the first that came stays; of those with the same stretch, one of an evaluation split, or
    else the first in ladder order.
    """
    # 1. The ladder's order: a hash of the id, ties by the id itself. Shards are cut along it, so a change of it changes
    #    every shard of every data set.
    ids = _Ids(spooled)
    order = ladder.order(spooled.place, ids)
    # 2. Ids, before stretches, so that a clip that comes twice is counted as that. Equal ids are neighbours by now, the
    #    one that came first in front; equal hashes of different ids are told apart by reading the ids.
    place = spooled.place[order]
    again = np.zeros(len(order), bool)
    for at in (np.flatnonzero(place[1:] == place[:-1]) + 1).tolist():
        again[at] = ids(int(order[at])) == ids(int(order[at - 1]))
    _leave_out(spooled, "duplicate_id", order[again])
    order = order[~again]
    if dedupe == "none":
        return order
    # 3. Stretches: evaluation splits first (rank 0 is test), else training would keep what is tested on. lexsort is
    #    stable, so that within a rank the first in ladder order stays.
    stretch = spooled.stretch[order]
    by_stretch = np.lexsort((spooled.rank[order], stretch))
    again = np.zeros(len(order), bool)
    again[by_stretch[1:]] = stretch[by_stretch[1:]] == stretch[by_stretch[:-1]]
    _leave_out(spooled, "duplicate_stretch", order[again])
    return order[~again]


class _Ids:
    """Ids of single rows, read from the spool a batch at a time."""

    def __init__(self, spooled: Spool):
        self._reader = pa.ipc.open_file(pa.memory_map(str(spooled.path)))
        self._number, self._ids = -1, None

    def __call__(self, row: int) -> str:
        if row // _BATCH != self._number:
            self._number = row // _BATCH
            self._ids = self._reader.get_batch(self._number).column("id")
        return self._ids[row % _BATCH].as_py()


def _leave_out(spooled: Spool, reason: str, rows_n: np.ndarray) -> None:
    if not len(rows_n):
        return
    entry = spooled.left_out.setdefault(reason, LeftOut())
    entry.count += len(rows_n)
    counts = np.bincount(spooled.source[rows_n], minlength=len(spooled.sources))
    entry.sources.update({name: int(n) for name, n in zip(spooled.sources, counts, strict=True) if n})
    named = spooled.gather(rows_n[:NAMES_PER_REASON])
    pairs = zip(named["id"].to_pylist(), named["audio_path"].to_pylist(), strict=True)
    entry.names += [_name(*pair) for pair in pairs]


def digest(spooled: Spool, order: np.ndarray) -> str:
    """Identity of the clips ``order``, in that order, apart from the folder that holds their audio."""
    hashed = hashlib.blake2b(digest_size=16)
    for first in range(0, len(order), _BATCH):
        hashed.update(spooled.digest[order[first : first + _BATCH]].tobytes())
    return hashed.hexdigest()


def bounds(clips: int, shards: int) -> list[int]:
    """Where each of ``shards`` begins in the order of ``clips`` clips, and the end."""
    return [clips * s // shards for s in range(shards + 1)]


def write(spooled: Spool, order: np.ndarray, shards: int, path: storage.Location) -> list[int]:
    """Writes the plan file, one record batch per shard; returns the number of clips of each."""
    at = bounds(len(order), shards)
    at_once = max(1, _BATCH * shards // len(order))  # shards gathered at a time
    with storage.partial(path) as partial, pa.ipc.new_file(str(partial), rows.SCHEMA) as file:
        for first in range(0, shards, at_once):
            edges = at[first : first + at_once + 1]
            batch = spooled.gather(order[edges[0] : edges[-1]])
            for start, end in itertools.pairwise(edges):
                file.write_batch(batch.slice(start - edges[0], end - start))
    return [end - start for start, end in itertools.pairwise(at)]


def read(path: storage.Location, shard: int) -> list[Clip]:
    """The clips of one shard; of a remote plan only that part is transferred.

    Raises:
      UserError: the plan file is missing or damaged.
    """
    try:
        with storage.open_binary(path) as file:
            return list(rows.clips(pa.ipc.open_file(file).get_batch(shard)))
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"plan {path} cannot be read: {error}; start the build again") from None
