"""Frame embeddings of a frozen encoder, computed once and read by every task.

A folder holds them in parts. Part ``k`` is ``frames-k.bin`` (float16 rows of D, memory-mapped) and ``index-k.npz`` (the
place of each clip and its pooled vectors), written in that order: a part is complete once its index exists, so an
extraction that was interrupted continues with the first part that has none.
"""

import dataclasses
import io
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
from alp_jax.evaluation.model import EvalModel

PART_CLIPS = 4096
VERSION = 1
_POOLED = dict.fromkeys(("mean", "std", "joint"), np.float32)
_KINDS = {"row": np.int64, **_POOLED, "length": np.int32, "offset": np.int64}  # column of an index -> dtype


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
    """

    row: np.ndarray
    elsewhere: Callable[[Any, np.ndarray, float, str], "Features"]
    _mean: np.ndarray
    _std: np.ndarray
    _joint: np.ndarray
    _length: np.ndarray
    _part: np.ndarray
    _offset: np.ndarray
    _frames: tuple[np.ndarray, ...]

    def _index(self, rows: np.ndarray) -> np.ndarray:
        at = np.searchsorted(self.row, rows)
        if (at == len(self.row)).any() or (self.row[at] != rows).any():
            raise KeyError("rows that were not extracted")
        return at

    def mean(self, rows: np.ndarray) -> np.ndarray:
        """float32[n,D], the mean over each clip's frames."""
        return self._mean[self._index(rows)]

    def moments(self, rows: np.ndarray) -> np.ndarray:
        """float32[n,2D], mean and standard deviation over each clip's frames."""
        at = self._index(rows)
        return np.concatenate([self._mean[at], self._std[at]], axis=1)

    def joint(self, rows: np.ndarray) -> np.ndarray:
        """float32[n,E], what ``EvalModel.pool_audio`` gave."""
        return self._joint[self._index(rows)]

    def length(self, rows: np.ndarray) -> np.ndarray:
        """int32[n], number of frames of each clip."""
        return self._length[self._index(rows)]

    def frames(self, rows: np.ndarray, max_frames: int) -> tuple[np.ndarray, np.ndarray]:
        """(frames_NTD float32, len_N int32) of ``rows``, T = ``max_frames``.

        A clip with more frames is reduced to ``max_frames`` by averaging neighbours. With 0, T is the length of the
        longest clip, and nothing is reduced.
        """
        at = self._index(rows)
        width = max_frames or int(self._length[at].max())
        out = np.zeros((len(at), width, self._mean.shape[1]), np.float32)
        for i, k in enumerate(at):
            length, offset = int(self._length[k]), int(self._offset[k])
            clip = reduce_frames(self._frames[self._part[k]][offset : offset + length], width)
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

    if not len(rows):
        return _open(folder, 0, elsewhere)
    identity = {
        "version": VERSION,
        "model": [model.name, model.identity],
        "data": dataset.fingerprint,
        "rows": fingerprint(rows.tolist()),
        "seconds": [list(bucket_seconds), config.batch_seconds, config.max_seconds],
        "frames": keep_frames,
    }
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
    return _open(folder, len(parts), elsewhere)


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
    columns: dict[str, list] = {name: [] for name in _KINDS}
    path, offset = folder / f"frames-{number:05}.bin", 0
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        for row, frames_TD, length, joint_E in _encoded(model, batches):
            if keep_frames:
                # 65504 is the largest float16: larger values are clipped, as casting would make them infinite
                file.write(np.clip(frames_TD, -65504, 65504).astype("<f2").tobytes())
            entry = (row, frames_TD.mean(0), frames_TD.std(0), joint_E, length, offset)
            for column, value in zip(columns.values(), entry, strict=True):
                column.append(value)
            offset += length
            progress.update()
    partial.replace(path)
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(values, _KINDS[name]) for name, values in columns.items()})
    files.write_bytes(folder / f"index-{number:05}.npz", buffer.getvalue())


def _open(folder: pathlib.Path, num_parts: int, elsewhere: Callable) -> Features:
    parts, frames = [], []
    for number in range(num_parts):
        with np.load(folder / f"index-{number:05}.npz") as stored:
            parts.append(dict(stored))
        path, width = folder / f"frames-{number:05}.bin", parts[-1]["mean"].shape[1]
        count = path.stat().st_size // (2 * width)
        frames.append(np.memmap(path, "<f2", "r", shape=(count, width)) if count else np.zeros((0, width), "<f2"))
    column = {
        name: np.concatenate([part[name] for part in parts] or [np.zeros(0, kind)]) for name, kind in _KINDS.items()
    }
    order = np.argsort(column["row"], kind="stable")
    return Features(
        column.pop("row")[order],
        elsewhere,
        **{f"_{name}": values[order] for name, values in column.items()},
        _part=np.repeat(np.arange(num_parts), [len(part["row"]) for part in parts])[order],
        _frames=tuple(frames),
    )
