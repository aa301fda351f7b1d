"""Frame embeddings of a frozen encoder, computed once and read by every task.

A folder holds them in files that are memory-mapped, so that only what is asked for is read: ``frames.bin`` has float16
rows of D; ``mean.bin``, ``std.bin`` and ``joint.bin`` have a float32 row per clip. They grow part by part.
``index-k.npz`` (rows and lengths of the clips of part ``k``) is written last: what the files hold beyond the clips of
all indices belongs to an extraction that was interrupted, which continues from there.
"""

import contextlib
import dataclasses
import io
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from alp_jax.config.schema import EvalConfig
from alp_jax.core import files
from alp_jax.core.hashing import fingerprint
from alp_jax.core.progress import Progress
from alp_jax.data.eval_pipeline import eval_batches
from alp_jax.data.store.dataset import Dataset
from alp_jax.evaluation.fit_state import Saves
from alp_jax.evaluation.model import EvalModel

PART_CLIPS = 4096
VERSION = 2
FRAMES_FILE = "frames.bin"
POOLED = ("mean", "std", "joint")  # each in a file of its own
FITS = "fits"  # folder beside that of the features, with the states of fits that go on


def reduce_frames(frames_TD: np.ndarray, most: int) -> np.ndarray:
    """At most ``most`` frames, by averaging neighbours; float32."""
    frames_TD = np.asarray(frames_TD, np.float32)
    if len(frames_TD) <= most:
        return frames_TD
    edges = np.arange(most + 1) * len(frames_TD) // most
    return np.add.reduceat(frames_TD, edges[:-1], axis=0) / np.diff(edges)[:, None]


@dataclasses.dataclass(frozen=True)
class Features:
    """Reads the embeddings of clips by their rows in the data set: pooled vectors, and frames from files.

    Every method takes rows in any order and raises KeyError if one was not extracted. E is 0 for a model that shares no
    space with text.

    Attributes:
      row: int64[N], the rows that were extracted, ascending.
      elsewhere: (data set, rows, seconds, name) -> the features of other audio by the same encoder, cut to ``seconds``;
        they are kept in the folder ``name`` beside this one.
      identity: changes with the model, the clips and the settings of the extraction.
      folder: where they lie.
    """

    row: np.ndarray
    elsewhere: Callable[[Any, np.ndarray, float, str], "Features"]
    identity: str
    folder: pathlib.Path
    _width: int
    _place: np.ndarray
    _length: np.ndarray
    _offset: np.ndarray
    _pooled: dict[str, np.ndarray]
    _frames: np.ndarray

    def _index(self, rows: np.ndarray) -> np.ndarray:
        at = np.searchsorted(self.row, rows)
        if (at == len(self.row)).any() or (self.row[at] != rows).any():
            raise KeyError("rows that were not extracted")
        return at

    def _pool(self, name: str, rows: np.ndarray) -> np.ndarray:
        return self._pooled[name][self._place[self._index(rows)]]

    def mean(self, rows: np.ndarray) -> np.ndarray:
        """float32[n,D], the mean over each clip's frames."""
        return self._pool("mean", rows)

    def moments(self, rows: np.ndarray) -> np.ndarray:
        """float32[n,2D], mean and standard deviation over each clip's frames."""
        return np.concatenate([self._pool("mean", rows), self._pool("std", rows)], axis=1)

    def joint(self, rows: np.ndarray) -> np.ndarray:
        """float32[n,E], what ``EvalModel.pool_audio`` gave."""
        return self._pool("joint", rows)

    def length(self, rows: np.ndarray) -> np.ndarray:
        """int32[n], number of frames of each clip."""
        return self._length[self._index(rows)]

    def longest(self, *rows: np.ndarray) -> int:
        """Frames of the longest of some clips."""
        return int(self.length(np.concatenate(rows)).max())

    def saves(self, *identity: Any) -> Saves:
        """Where fits to these features that also depend on ``identity`` keep their states."""
        return Saves(self.folder.parent / FITS, (self.identity, *identity))

    def frames(self, rows: np.ndarray, max_frames: int) -> tuple[np.ndarray, np.ndarray]:
        """(frames_NTD float32, len_N int32) of ``rows``, T = ``max_frames``.

        A clip with more frames is reduced to ``max_frames`` by averaging neighbours. With 0, T is the length of the
        longest of these clips, and nothing is reduced.
        """
        at = self._index(rows)
        width = max_frames or int(self._length[at].max())
        out = np.zeros((len(at), width, self._width), np.float32)
        for i, k in enumerate(at):
            length, offset = int(self._length[k]), int(self._offset[k])
            clip = reduce_frames(self._frames[offset : offset + length], width)
            out[i, : len(clip)] = clip
        return out, np.minimum(self._length[at], width).astype(np.int32)


def extract(
    model: EvalModel,
    dataset: Dataset,
    rows: np.ndarray,
    folder: str | pathlib.Path,
    config: EvalConfig,
    *,
    bucket_seconds: tuple[float, ...],
    keep_frames: bool = True,
) -> Features:
    """Runs the encoder over ``rows`` once, or reads what an earlier call with the same inputs left in ``folder``.

    Anything in ``folder`` that comes from other inputs (model, data, rows, settings) is removed first.
    """
    folder, rows = pathlib.Path(folder), np.unique(np.asarray(rows, np.int64))

    def elsewhere(other: Dataset, rows: np.ndarray, seconds: float, name: str) -> Features:
        cut = dataclasses.replace(config, max_seconds=seconds)
        return extract(model, other, rows, folder.parent / name, cut, bucket_seconds=(seconds,))

    identity = {
        "version": VERSION,
        "model": [model.name, model.identity],
        "data": dataset.fingerprint,
        "rows": fingerprint(rows.tolist()),
        "seconds": [list(bucket_seconds), config.batch_seconds, config.max_seconds],
        "frames": keep_frames,
    }
    if not len(rows):
        return open_features(folder, 0, elsewhere, fingerprint(identity))
    description = folder / "features.json"
    if not (description.exists() and files.read_json(description) == identity):
        shutil.rmtree(folder, ignore_errors=True)
        files.write_json(description, identity)
    parts = [rows[start : start + PART_CLIPS] for start in range(0, len(rows), PART_CLIPS)]
    with Progress(f"encode with {model.name}", len(rows), "clips") as progress:
        for number, part in enumerate(parts):
            if (folder / f"index-{number:05}.npz").exists():
                progress.skip(len(part))
                continue
            batches = eval_batches(
                dataset,
                part,
                bucket_seconds=bucket_seconds,
                batch_seconds=config.batch_seconds,
                max_seconds=config.max_seconds,
            )
            _write_part(model, batches, folder, number, keep_frames, progress)
    return open_features(folder, len(parts), elsewhere, fingerprint(identity))


def _encoded(model: EvalModel, batches: Iterator[dict]) -> Iterator[tuple]:
    """(row, frames, length, joint) per clip; the next batch is read while the device is busy with this one."""
    waiting = None
    for batch in batches:
        frames_BTD, len_B = model.frames(batch["audio"], batch["audio_len"])
        joint_BE = model.pool_audio(frames_BTD, len_B) if model.pool_audio else None
        if waiting:
            yield from _rows(*waiting)
        waiting = batch, frames_BTD, len_B, joint_BE
    if waiting:
        yield from _rows(*waiting)


def _rows(batch, frames_BTD, len_B, joint_BE) -> Iterator[tuple]:
    frames_BTD, len_B = np.asarray(frames_BTD), np.asarray(len_B)
    joint_BE = np.zeros((len(len_B), 0)) if joint_BE is None else np.asarray(joint_BE)
    for i in np.flatnonzero(batch["mask"]):
        length = max(1, int(len_B[i]))
        yield int(batch["row"][i]), frames_BTD[i, :length].astype(np.float32), length, joint_BE[i]


def _write_part(model, batches, folder: pathlib.Path, number: int, keep_frames: bool, progress: Progress) -> None:
    rows, lengths, widths = [], [], (0, 0)
    complete = [_read_index(folder, k) for k in range(number)]
    clips, frames = sum(len(part["row"]) for part in complete), sum(int(part["length"].sum()) for part in complete)
    width, joint = complete[0]["widths"].tolist() if complete else (0, 0)
    sizes = {FRAMES_FILE: 2 * width * frames * keep_frames, "mean.bin": 4 * width * clips, "std.bin": 4 * width * clips}
    sizes["joint.bin"] = 4 * joint * clips
    with contextlib.ExitStack() as stack:
        file = {name: stack.enter_context((folder / name).open("ab")) for name in sizes}
        for name, size in sizes.items():  # what an interrupted extraction wrote beyond its last index
            file[name].truncate(size)
        for row, frames_TD, length, joint_E in _encoded(model, batches):
            if keep_frames:
                # 65504 is the largest float16: larger values are clipped, as casting would make them infinite
                file[FRAMES_FILE].write(np.clip(frames_TD, -65504, 65504).astype("<f2").tobytes())
            for name, pooled in zip(POOLED, (frames_TD.mean(0), frames_TD.std(0), joint_E), strict=True):
                file[f"{name}.bin"].write(np.asarray(pooled, "<f4").tobytes())
            rows.append(row)
            lengths.append(length)
            widths = frames_TD.shape[1], len(joint_E)
            progress.update()
        for one in file.values():  # what the index names must be there even after a power failure
            one.flush()
            os.fsync(one.fileno())
    buffer = io.BytesIO()
    np.savez(buffer, row=np.array(rows, np.int64), length=np.array(lengths, np.int32), widths=np.array(widths))
    files.write_bytes(folder / f"index-{number:05}.npz", buffer.getvalue())


def _read_index(folder: pathlib.Path, number: int) -> dict[str, np.ndarray]:
    with np.load(folder / f"index-{number:05}.npz") as stored:
        return dict(stored)


def open_features(folder: pathlib.Path, num_parts: int, elsewhere: Callable, identity: str) -> Features:
    """The features in ``folder``, of which ``num_parts`` are complete; nothing but their index is read."""
    parts = [_read_index(folder, number) for number in range(num_parts)]
    row = np.concatenate([np.zeros(0, np.int64), *(part["row"] for part in parts)])
    length = np.concatenate([np.zeros(0, np.int32), *(part["length"] for part in parts)])
    width, joint = parts[0]["widths"].tolist() if parts else (0, 0)
    order = np.argsort(row, kind="stable")
    return Features(
        row[order],
        elsewhere,
        identity,
        folder,
        width,
        order,
        length[order],
        (np.cumsum(length, dtype=np.int64) - length)[order],
        {
            name: _mapped(folder / f"{name}.bin", "<f4", joint if name == "joint" else width, len(row))
            for name in POOLED
        },
        _mapped(folder / FRAMES_FILE, "<f2", width, int(length.sum())),
    )


def _mapped(path: pathlib.Path, kind: str, width: int, rows: int) -> np.ndarray:
    """[rows,width], read when it is used; where the file is empty or absent there is nothing to map."""
    if not (path.exists() and path.stat().st_size):
        return np.zeros((rows, 0), kind)
    return np.asarray(np.memmap(path, kind, "r")).reshape(-1, width)
