"""One shard and its ``.index``: the unit of work of a build.

The shard is TFRecord; the index is an Arrow IPC file with one row per record. Its metadata holds the plan it belongs
to, the shard's size and SHA-256, and every clip that could not be stored, with the reason. The index is written last,
so a shard counts as finished if and only if its index is there and matches.
"""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from alp_jax.core import storage
from alp_jax.core.clip import SAMPLE_RATE, Clip
from alp_jax.core.hashing import hash64
from alp_jax.data.audio import reader
from alp_jax.data.audio.elastic import elastic
from alp_jax.data.audio.errors import BadAudio
from alp_jax.data.audio.fingerprint import find_peaks, fingerprint
from alp_jax.data.building import plan
from alp_jax.data.store import ladder, records, writing
from alp_jax.data.store.mapped import write_table
from alp_jax.data.store.schema import AUDIT_SCHEMA, INDEX_SCHEMA
from alp_jax.data.text.normalise import normalise

INDEX_COLUMNS = pa.schema(
    [INDEX_SCHEMA.field(name) for name in ("offset", "length", "id")]
    + [pa.field(name, pa.string()) for name in ("source", "recording", "split", "group")]
    + [INDEX_SCHEMA.field(name) for name in ("num_samples", "num_captions")]
    + list(AUDIT_SCHEMA)
    + [pa.field(name, pa.float32()) for name in ("clipped", "level_db", "short_s")]  # short_s: seconds not in the file
    + [pa.field("notes", pa.list_(pa.string()))]  # keys of errors.NOTES
)
FINISHING = -1  # announced instead of a clip number when all clips are done and the files are being closed
_META = b"alp_jax"
_OFF_S, _OFF = 1.0, 0.1  # seconds, and share, by which both a file's length must differ from the stated one


@dataclasses.dataclass(frozen=True)
class Task:
    """Everything that decides the bytes of one shard.

    Attributes:
      path: location of the shard.
      fingerprint: identity of the whole build.
      plan_file: location of the plan, whose record batch ``number`` holds the shard's ``clips`` clips.
      staged: a tar file in which audio was laid out (``staging.py``), and the byte where that of each clip begins
        (int64[clips]); -1: it is not there.
    """

    path: str
    fingerprint: str
    plan_file: str
    number: int
    clips: int
    codec: str
    limits: reader.Limits
    staged: tuple[str, np.ndarray] | None = None


def name(shard: int, shards: int) -> str:
    """File name of a shard; shards are numbered from 0."""
    return f"clips-{shard:05}-of-{shards:05}.tfrecord"


def index_path(path: storage.Location) -> str:
    """Where the index of the shard at ``path`` is."""
    return f"{path}.index"


def write(task: Task, poisoned: dict[int, str], started: Callable[[int], None]) -> None:
    """Decodes the clips of ``task`` and writes shard and index atomically.

    Args:
      poisoned: clip number -> reason, for clips that killed or hung an earlier worker; they are not tried again.
      started: called with a clip's number before the clip is touched, so the parent knows whom to blame, and with
        FINISHING when all are done.
    """
    columns = {field.name: [] for field in INDEX_COLUMNS}
    failures, offset, digest = [], 0, hashlib.sha256()
    clips = plan.read(task.plan_file, task.number)
    # The shard is complete before its index is written: a stop in between leaves no index, and the shard is done again.
    with storage.partial(task.path) as partial, open(partial, "wb") as file:
        for number, clip in enumerate(clips):
            started(number)  # before the file is opened, so that a worker it kills has named it
            try:
                if number in poisoned:
                    raise BadAudio(poisoned[number])
                path, member = _where(task, number, clip)
                sound = reader.read(path, clip.start_s, clip.duration_s, task.limits, member, clip.channel)
            except (BadAudio, MemoryError) as error:
                bad = error if isinstance(error, BadAudio) else BadAudio("decoder_crashed", "out of memory")
                why = (bad.reason, " ".join(bad.detail.split()))
                failures.append([clip.id, clip.source, clip.audio_path, *why, storage.size(clip.audio_path)])
                continue
            data = writing.encode(clip, sound.samples, task.codec)
            framed = records.frame(data)
            file.write(framed)
            digest.update(framed)
            for column, value in zip(columns.values(), _row(clip, sound, offset, len(data)), strict=True):
                column.append(value)
            offset += len(framed)
        started(FINISHING)  # flushing to slow storage must not count as a clip that hangs
    meta = {
        "plan": task.fingerprint,
        "name": os.path.basename(task.path),
        "records": len(columns["id"]),
        "bytes": offset,
        "sha256": digest.hexdigest(),
        "failures": failures,
    }
    table = pa.table(columns, schema=INDEX_COLUMNS.with_metadata({_META: json.dumps(meta)}))
    write_table(index_path(task.path), table)


def _where(task: Task, number: int, clip: Clip) -> tuple[str, str]:
    if task.staged is None or task.staged[1][number] < 0:
        return clip.audio_path, clip.member
    return task.staged[0], str(task.staged[1][number])


def _row(clip: Clip, read: reader.Sound, offset: int, length: int) -> tuple:
    """The values of INDEX_COLUMNS for one stored clip."""
    sound = read.samples
    stored = (offset, length, clip.id, clip.source, clip.recording, clip.split, clip.group, len(sound))
    start_s = math.nan if clip.recording_start_s is None else clip.recording_start_s
    captions = [hash64(0, normalise(caption)) for caption in clip.captions]
    peaks = find_peaks(sound)
    compared = (start_s, ladder.id_hash(clip.id), audio_hash(sound), captions, fingerprint(peaks), elastic(peaks))
    measured = reader.measure_sound(sound)
    short_s = 0.0 if clip.duration_s is None else max(0.0, clip.duration_s - len(sound) / SAMPLE_RATE)
    return (*stored, len(clip.captions), *compared, measured.clipped, measured.level_db, short_s, _notes(clip, read))


def _notes(clip: Clip, read: reader.Sound) -> list[str]:
    """The notes about a clip, including whether its file's length differs from what the metadata states."""
    if clip.known_s is None:
        return list(read.notes)
    off_s = len(read.samples) / SAMPLE_RATE - clip.known_s
    if abs(off_s) <= max(_OFF_S, _OFF * clip.known_s):
        return list(read.notes)
    return [*read.notes, "longer_than_stated" if off_s > 0 else "shorter_than_stated"]


def audio_hash(sound: np.ndarray) -> int:
    """64-bit BLAKE2b of int16 samples, little endian."""
    return int.from_bytes(hashlib.blake2b(sound.astype("<i2").tobytes(), digest_size=8).digest(), "little")


def read_index(path: storage.Location) -> tuple[pa.Table, dict] | None:
    """Table (of a local shard mapped to memory) and metadata beside ``path``; None if there is no complete index."""
    path = index_path(path)
    try:
        with storage.open_binary(path) if storage.is_remote(path) else pa.memory_map(str(storage.local(path))) as file:
            table = pa.ipc.open_file(file).read_all()
        return table, json.loads(table.schema.metadata[_META])
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return None


def finished(task: Task) -> bool:
    """Whether a shard needs no work: index and shard are complete and of this plan, and no failed file has changed."""
    index = read_index(task.path)
    if index is None or index[1]["plan"] != task.fingerprint or storage.size(task.path) != index[1]["bytes"]:
        return False
    if index[0].schema.names != INDEX_COLUMNS.names:
        return False  # written by another version
    return all(storage.size(source) == size for _, _, source, _, _, size in index[1]["failures"])
