"""Frame embeddings of a frozen encoder, computed once and read by every task.

A folder of parts. Part ``k`` is ``frames-k.bin`` (float16 rows of D, memory-mapped) and ``index-k.npz`` (which clip is
where, and its pooled vectors), written in that order: a part counts once its index is there, so an extraction that
stops goes on with the next part.
"""

import dataclasses
import io
import pathlib
import shutil
from collections.abc import Iterator

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


@dataclasses.dataclass(frozen=True)
class Features:
    """Embeddings of clips, in the order of ``row``.

    Attributes:
      row: int64[N], rows of the data set, ascending.
      mean: float32[N,D], mean over a clip's frames.
      std: float32[N,D], standard deviation over a clip's frames.
      joint: float32[N,E], or [N,0] for a model without a space shared with text.
      length: int32[N], frames of each clip.
    """

    row: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    joint: np.ndarray
    length: np.ndarray
    _part: np.ndarray
    _offset: np.ndarray
    _frames: tuple[np.ndarray, ...]

    def index(self, rows: np.ndarray) -> np.ndarray:
        """Positions of ``rows`` in the arrays; KeyError when one was not extracted."""
        at = np.searchsorted(self.row, rows)
        if (at == len(self.row)).any() or (self.row[at] != rows).any():
            raise KeyError("rows that were not extracted")
        return at

    def frames(self, rows: np.ndarray, max_frames: int) -> tuple[np.ndarray, np.ndarray]:
        """(frames_NTD float32, len_N int32) of ``rows``, T = ``max_frames``.

        A clip with more frames is reduced to ``max_frames`` by averaging neighbours; 0 means the longest clip's
        length, which reduces nothing.
        """
        at = self.index(rows)
        width = max_frames or int(self.length[at].max())
        out = np.zeros((len(at), width, self.mean.shape[1]), np.float32)
        for i, k in enumerate(at):
            length, offset = int(self.length[k]), int(self._offset[k])
            clip = self._frames[self._part[k]][offset : offset + length].astype(np.float32)
            if length > width:
                edges = np.arange(width + 1) * length // width
                clip = np.add.reduceat(clip, edges[:-1], axis=0) / np.diff(edges)[:, None]
            out[i, : len(clip)] = clip
        return out, np.minimum(self.length[at], width).astype(np.int32)


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
    return _open(folder, len(parts))


def _encoded(model: EvalModel, batches: Iterator[dict]) -> Iterator[tuple]:
    """(row, frames, length, joint) per clip; the next batch is read while the device works on this one."""
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
    columns: dict[str, list] = {name: [] for name in ("row", "mean", "std", "joint", "length", "offset")}
    path, offset = folder / f"frames-{number:05}.bin", 0
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        for row, frames_TD, length, joint_E in _encoded(model, batches):
            if keep_frames:
                # float16 ends at 65504: an encoder that goes beyond is clipped here rather than made infinite
                file.write(np.clip(frames_TD, -65504, 65504).astype("<f2").tobytes())
            entry = (row, frames_TD.mean(0), frames_TD.std(0), joint_E, length, offset)
            for column, value in zip(columns.values(), entry, strict=True):
                column.append(value)
            offset += length
            progress.update()
    partial.replace(path)
    kinds = {"row": np.int64, "mean": np.float32, "std": np.float32, "joint": np.float32, "length": np.int32}
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(values, kinds.get(name, np.int64)) for name, values in columns.items()})
    files.write_bytes(folder / f"index-{number:05}.npz", buffer.getvalue())


def _open(folder: pathlib.Path, num_parts: int) -> Features:
    parts, frames = [], []
    for number in range(num_parts):
        with np.load(folder / f"index-{number:05}.npz") as stored:
            parts.append(dict(stored))
        path, width = folder / f"frames-{number:05}.bin", parts[-1]["mean"].shape[1]
        stored_frames = path.stat().st_size // (2 * width)
        empty = np.zeros((0, width), "<f2")
        frames.append(np.memmap(path, "<f2", "r", shape=(stored_frames, width)) if stored_frames else empty)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    part = np.repeat(np.arange(num_parts), [len(p["row"]) for p in parts])
    order = np.argsort(joined["row"], kind="stable")
    joined = {name: values[order] for name, values in joined.items()}
    offset = joined.pop("offset")
    return Features(**joined, _part=part[order], _offset=offset, _frames=tuple(frames))
