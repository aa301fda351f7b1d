"""One shard and its ``.index``: the unit of work of a build.

The shard is TFRecord; the index is an Arrow IPC file with one row per record, and in its metadata the plan it belongs
to, the shard's size and SHA-256, and every clip that could not be stored with the reason. The index is written last,
so a shard counts as finished exactly when its index is there and fits.
"""

import dataclasses
import hashlib
import io
import json
import math
import os
import pathlib
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from alp_jax.core import files
from alp_jax.core.clip import Clip
from alp_jax.core.hashing import hash64
from alp_jax.data import audio, example, ladder, tfrecord
from alp_jax.data.schema import AUDIT_SCHEMA, INDEX_SCHEMA
from alp_jax.data.text.normalise import normalise

COLUMNS = pa.schema(
    [INDEX_SCHEMA.field(name) for name in ("offset", "length", "id")]
    + [pa.field(name, pa.string()) for name in ("source", "recording", "split", "group")]
    + [INDEX_SCHEMA.field(name) for name in ("num_samples", "num_captions")]
    + list(AUDIT_SCHEMA)
)
FINISHING = -1  # announced instead of a clip number when all clips are done and the files are being closed
_META = b"alp_jax"


@dataclasses.dataclass(frozen=True)
class Task:
    """Everything that decides the bytes of one shard; ``plan`` is the fingerprint of the whole build."""

    path: str
    plan: str
    clips: tuple[Clip, ...]
    codec: str
    limits: audio.Limits


def name(shard: int, shards: int) -> str:
    return f"clips-{shard:05}-of-{shards:05}.tfrecord"


def index_path(path: str | os.PathLike) -> pathlib.Path:
    return pathlib.Path(f"{path}.index")


def file_bytes(path: str) -> int:
    """Size of a file, -1 when there is none: tells whether a failed file has been replaced since."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def write(task: Task, poisoned: dict[int, str], started: Callable[[int], None]) -> dict:
    """Decodes the clips of ``task`` and writes shard and index atomically; returns the index metadata.

    Args:
      poisoned: clip number -> reason, for clips that killed or hung an earlier worker; they are not tried again.
      started: called with a clip's number before the clip is touched, so the parent knows whom to blame, and with
        FINISHING when all are done.
    """
    columns = {field.name: [] for field in COLUMNS}
    failures, offset = [], 0
    path = pathlib.Path(task.path)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    digest = hashlib.sha256()
    try:
        with open(partial, "wb") as file:
            for number, clip in enumerate(task.clips):
                started(number)
                try:
                    if number in poisoned:
                        raise audio.BadAudio(poisoned[number])
                    sound = audio.load(clip.audio_path, clip.start_s, clip.duration_s, task.limits)
                except (audio.BadAudio, MemoryError) as error:
                    reason = error.reason if isinstance(error, audio.BadAudio) else "decoder_crashed"
                    failures.append([clip.id, clip.audio_path, reason, file_bytes(clip.audio_path)])
                    continue
                data = example.encode(clip, sound, task.codec)
                framed = tfrecord.frame(data)
                file.write(framed)
                digest.update(framed)
                row = (offset, len(data), clip.id, clip.source, clip.recording, clip.split, clip.group, len(sound))
                row += (len(clip.captions), *_comparable(clip, sound))
                for column, value in zip(columns.values(), row, strict=True):
                    column.append(value)
                offset += len(framed)
            started(FINISHING)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    meta = {
        "plan": task.plan,
        "name": path.name,
        "records": len(columns["id"]),
        "bytes": offset,
        "sha256": digest.hexdigest(),
        "failures": failures,
    }
    table = pa.table(columns, schema=COLUMNS.with_metadata({_META: json.dumps(meta)}))
    files.write_bytes(index_path(path), ipc_bytes(table))
    return meta


def _comparable(clip: Clip, sound: np.ndarray) -> tuple:
    """The row of ``sound``, int16[n], in ``audit.arrow``."""
    start_s = math.nan if clip.recording_start_s is None else clip.recording_start_s
    captions = [hash64(0, normalise(caption)) for caption in clip.captions]
    return start_s, ladder.place(clip.id)[0], audio_hash(sound), captions, []


def audio_hash(sound: np.ndarray) -> int:
    """64-bit BLAKE2b of int16 samples, little endian."""
    return int.from_bytes(hashlib.blake2b(sound.astype("<i2").tobytes(), digest_size=8).digest(), "little")


def ipc_bytes(table: pa.Table) -> bytes:
    """An Arrow IPC file with the whole table in one record batch, so that columns map to memory without a copy."""
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue()


def read_index(path: str | os.PathLike) -> tuple[pa.Table, dict] | None:
    """Table and metadata beside the shard ``path``; None when there is no whole index."""
    try:
        with pa.OSFile(str(index_path(path))) as file:
            table = pa.ipc.open_file(file).read_all()
        return table, json.loads(table.schema.metadata[_META])
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return None


def finished(task: Task) -> dict | None:
    """Metadata of a shard that needs no work: index and shard are whole, of this plan, and no failed file changed."""
    found = read_index(task.path)
    if found is None or found[1]["plan"] != task.plan or file_bytes(task.path) != found[1]["bytes"]:
        return None
    if any(file_bytes(source) != size for _, source, _, size in found[1]["failures"]):
        return None
    return found[1]
