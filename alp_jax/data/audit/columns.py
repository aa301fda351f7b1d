"""Clips as columns for audits, in blocks, from a built data set or a stream of clips."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alp_jax.core import storage
from alp_jax.core.clip import SAMPLE_RATE, Clip, Rejected
from alp_jax.core.errors import DataError
from alp_jax.core.hashing import hash64
from alp_jax.core.paths import cache_dir
from alp_jax.data.audit import known
from alp_jax.data.store.dataset import Dataset
from alp_jax.data.store.schema import AUDIT_SCHEMA, ELASTIC
from alp_jax.data.text.normalise import normalise

BLOCK = 50_000  # clips
ALWAYS = float(1 << 20)  # seconds; later than any clip ends


@dataclasses.dataclass(frozen=True)
class Ragged:
    """Several values for each of N clips: those of clip i are ``values[bounds[i]:bounds[i + 1]]``; bounds[0] is 0."""

    values: np.ndarray
    bounds: np.ndarray

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]], dtype: type) -> "Ragged":
        """From one sequence of values for each clip, none of which may be missing."""
        bounds = np.concatenate([[0], np.cumsum([len(values) for values in lists], dtype=np.int64)])
        return cls(np.array([value for values in lists for value in values], dtype), bounds)

    @classmethod
    def of_arrow(cls, column: pa.ListArray) -> "Ragged":
        """From a column of lists, which may be a slice of another; a null is empty. The values are a view."""
        bounds = column.offsets.to_numpy().astype(np.int64)
        return cls(column.values.slice(bounds[0], bounds[-1] - bounds[0]).to_numpy(), bounds - bounds[0])

    @property
    def owner(self) -> np.ndarray:
        """int64[M], which clip each value belongs to."""
        return np.repeat(np.arange(len(self.bounds) - 1), np.diff(self.bounds))


@dataclasses.dataclass(frozen=True)
class Columns:
    """N clips.

    Attributes:
      row: int64[N], numbers of the clips within their origin.
      id, recording: Arrow strings[N].
      source: int32[N], index into ``sources``.
      begin_s, end_s: float64[N], the stretch of the recording; 0 and ALWAYS where unknown.
      placed: bool[N], whether it is known where the clip begins.
      part: uint64[N], equal for clips known to be the same part of a recording without a stated time; 0: unknown.
      whole: bool[N], whether the clip is all of its recording.
      has_audio: bool[N]; if False, ``audio_hash`` is 0 and the fingerprint is empty.
      audio_hash: uint64[N].
      caption: uint64 hashes of the normalised captions.
      fingerprint: uint32, see ``data/audio/fingerprint.py``.
      elastic: uint64, see ``data/audio/elastic.py``; empty for clips of data sets that were built before there was it.
      stored_elastic: bool[N], False for the clips of such data sets.
    """

    row: np.ndarray
    id: pa.Array
    recording: pa.Array
    source: np.ndarray
    sources: tuple[str, ...]
    begin_s: np.ndarray
    end_s: np.ndarray
    placed: np.ndarray
    part: np.ndarray
    whole: np.ndarray
    has_audio: np.ndarray
    audio_hash: np.ndarray
    caption: Ragged
    fingerprint: Ragged
    elastic: Ragged
    stored_elastic: np.ndarray

    def __len__(self) -> int:
        return len(self.row)


def concat(parts: Sequence[Columns]) -> Columns:
    """All clips of ``parts``, at least one, in their order."""
    sources = tuple(sorted({name for part in parts for name in part.sources}))
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("row", "begin_s", "end_s", "placed", "part", "whole", "has_audio", "audio_hash", "stored_elastic")
    }
    numbers = [np.array([sources.index(name) for name in part.sources], np.int32) for part in parts]
    return Columns(
        id=pa.concat_arrays([part.id for part in parts]),
        recording=pa.concat_arrays([part.recording for part in parts]),
        source=np.concatenate([number[part.source] for number, part in zip(numbers, parts, strict=True)]),
        sources=sources,
        caption=_concat([part.caption for part in parts]),
        fingerprint=_concat([part.fingerprint for part in parts]),
        elastic=_concat([part.elastic for part in parts]),
        **joined,
    )


def _concat(parts: Sequence[Ragged]) -> Ragged:
    lengths = np.concatenate([np.diff(part.bounds) for part in parts])
    values = np.concatenate([part.values for part in parts])
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))


def _places(
    begin_s: np.ndarray, seconds: np.ndarray, id_N: pa.Array, recording: pa.Array, source: np.ndarray, sources
) -> dict[str, np.ndarray]:
    """The columns that say where clips lie in their recordings; unknown starts and lengths are NaN."""
    placed = ~np.isnan(begin_s)
    end_s = np.where(placed & ~np.isnan(seconds), begin_s + seconds, ALWAYS)
    of_audioset, whole = (np.array([name in some for name in sources], bool) for some in (known.AUDIOSET, known.WHOLE))
    part = np.where(of_audioset[source], np.uint64(hash64(0, "audioset")), np.uint64(0))
    for namespace, pattern in known.PARTS.items():
        rows = np.flatnonzero(pc.starts_with(recording, namespace).to_numpy(zero_copy_only=False))
        if len(rows):
            texts = pc.struct_field(pc.extract_regex(id_N.take(pa.array(rows)), pattern), "part").to_pylist()
            part[rows] = np.array([hash64(0, text) if text else 0 for text in texts], np.uint64)
    return {
        "begin_s": np.where(placed, begin_s, 0.0),
        "end_s": np.minimum(end_s, ALWAYS),
        "placed": placed,
        "part": part,
        "whole": whole[source],
    }


def of_dataset(dataset: Dataset, rows: np.ndarray, block: int = BLOCK) -> Iterator[Columns]:
    """The clips ``rows`` (int64, ascending) of a built data set, at most ``block`` at a time.

    Raises:
      DataError: audit.arrow is damaged.
    """
    table = _audit_table(dataset)
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        first = int(part[0])
        chosen = np.zeros(int(part[-1]) - first + 1, bool)
        chosen[part - first] = True
        stored = table.slice(first, len(chosen)).filter(pa.array(chosen)).combine_chunks()
        column = {name: stored[name].combine_chunks() for name in stored.column_names}
        seconds = dataset.num_samples[part] / SAMPLE_RATE
        begin_s = column["start_s"].to_numpy().astype(np.float64)
        ids, recording = (names.take(pa.array(part)) for names in (dataset.id, dataset.recording))
        yield Columns(
            row=part,
            id=ids,
            recording=recording,
            source=dataset.source[part],
            sources=dataset.sources,
            **_places(begin_s, seconds, ids, recording, dataset.source[part], dataset.sources),
            has_audio=np.ones(len(part), bool),
            audio_hash=column["audio_hash"].to_numpy(),
            caption=Ragged.of_arrow(column["caption_hashes"]),
            fingerprint=Ragged.of_arrow(column["fingerprint"]),
            **_elastic(column.get(ELASTIC), len(part)),
        )


def _elastic(column: pa.ListArray | None, count: int) -> dict:
    if column is None:
        return {"elastic": Ragged.of([()] * count, np.uint64), "stored_elastic": np.zeros(count, bool)}
    return {"elastic": Ragged.of_arrow(column), "stored_elastic": column.is_valid().to_numpy(zero_copy_only=False)}


def _audit_table(dataset: Dataset) -> pa.Table:
    entry = dataset.info["audit"]
    path = storage.resolve(dataset.path, entry["name"])
    local = storage.local_copy(path, cache_dir() / "indexes", f"{entry['sha256']}.arrow")
    try:
        table = pa.ipc.open_file(pa.memory_map(str(local))).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if len(table) != len(dataset) or not set(AUDIT_SCHEMA.names) - {ELASTIC} <= set(table.column_names):
        raise DataError(f"{path} does not have the rows and columns that dataset.json states")
    return table


def of_clips(clips: Iterable[Clip | Rejected], rejected: Counter, block: int = BLOCK) -> Iterator[tuple[Columns, list]]:
    """A stream of clips without their audio, and the captions of each, at most ``block`` at a time.

    Args:
      rejected: gains the number of rows that could not be used, by reason.
    """
    accepted, first = _accepted(clips, rejected), 0
    while batch := list(itertools.islice(accepted, block)):
        yield _of_clips(batch, first), [clip.captions for clip in batch]
        first += len(batch)


def _accepted(clips: Iterable[Clip | Rejected], rejected: Counter) -> Iterator[Clip]:
    for clip in clips:
        if isinstance(clip, Rejected):
            rejected[clip.reason] += 1
        else:
            yield clip


def _of_clips(clips: list[Clip], first: int) -> Columns:
    sources = tuple(sorted({clip.source for clip in clips}))
    number = {name: i for i, name in enumerate(sources)}
    begin_s = np.array([np.nan if clip.recording_start_s is None else clip.recording_start_s for clip in clips], float)
    seconds = np.array([np.nan if clip.known_s is None else clip.known_s for clip in clips], float)
    ids, recording = (pa.array([getattr(clip, name) for clip in clips], pa.string()) for name in ("id", "recording"))
    source = np.array([number[clip.source] for clip in clips], np.int32)
    return Columns(
        row=np.arange(first, first + len(clips)),
        id=ids,
        recording=recording,
        source=source,
        sources=sources,
        **_places(begin_s, seconds, ids, recording, source, sources),
        caption=caption_hashes([clip.captions for clip in clips]),
        **without_audio(len(clips)),
    )


def without_audio(count: int) -> dict:
    """The columns about sound of ``count`` clips that have none."""
    return {
        "has_audio": np.zeros(count, bool),
        "audio_hash": np.zeros(count, np.uint64),
        "fingerprint": Ragged.of([()] * count, np.uint32),
        "elastic": Ragged.of([()] * count, np.uint64),
        "stored_elastic": np.ones(count, bool),
    }


def caption_hashes(captions: Sequence[Sequence[str]]) -> Ragged:
    """Hashes of the normalised captions of each clip, as a build stores them."""
    return Ragged.of([[hash64(0, normalise(text)) for text in texts] for texts in captions], np.uint64)
