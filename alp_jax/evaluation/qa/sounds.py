"""Frames of the sounds that questions are about: clips of a data set, or files in AIR-Bench's folders."""

import contextlib
import pathlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alp_jax.config.schema import EvalConfig
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.core.progress import say
from alp_jax.data.audio import reader
from alp_jax.data.audio.pool import Failure, decode_files
from alp_jax.data.store.dataset import Dataset
from alp_jax.evaluation.features import extract, reduce_frames
from alp_jax.evaluation.model import EvalModel
from alp_jax.evaluation.qa.format import Question, audio_path

EDGES_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)  # batches of files are padded to these lengths or to the longest allowed

_LIMITS = reader.Limits(min_seconds=0.01)  # a question may be about a click


class ClipSounds:
    """Clips of a data set, found by id as the ``path`` of a question; encoded once and kept in ``folder``.

    Raises:
      UserError: a question is about a clip that the data set does not have.
    """

    def __init__(
        self, model: EvalModel, dataset: Dataset, questions: Sequence[Question], folder: pathlib.Path,
        config: EvalConfig, *, bucket_seconds: tuple[float, ...], max_frames: int,
    ):  # fmt: skip
        paths = list(dict.fromkeys(question.path for question in questions))
        self.row = dict(zip(paths, pc.index_in(pa.array(paths), value_set=dataset.id).to_pylist(), strict=True))
        lost = [question for question in questions if self.row[question.path] is None]
        if lost:
            raise UserError(f"question {lost[0].uniq_id!r} is about {lost[0].path!r}, which the data set does not have")
        rows, self.max_frames = np.array(sorted(set(self.row.values())), np.int64), max_frames
        self.features = extract(model, dataset, rows, folder, config, bucket_seconds=bucket_seconds)

    def __call__(self, questions: Sequence[Question]) -> list[np.ndarray | None]:
        frames_NTD, len_N = self.features.frames(np.array([self.row[q.path] for q in questions]), self.max_frames)
        return [frames_TD[:length] for frames_TD, length in zip(frames_NTD, len_N, strict=True)]


class FileSounds:
    """Audio files below ``root``, decoded and encoded on demand.

    Args:
      max_seconds: longer sounds are cut to this.
      batch_seconds: amount of audio that goes through the encoder at a time.
      workers: number of decoding processes.
    """

    def __init__(
        self, model: EvalModel, root: pathlib.Path, *, max_seconds: float, batch_seconds: float, max_frames: int,
        workers: int,
    ):  # fmt: skip
        if not root.is_dir():
            raise UserError(f"audio folder {root} does not exist")
        self.model, self.root, self.max_frames, self.workers = model, root, max_frames, workers
        seconds = [*(edge for edge in EDGES_S if edge < max_seconds), max_seconds]
        self.edges_K = (np.array(seconds) * SAMPLE_RATE).round().astype(int)
        self.batch_samples = int(batch_seconds * SAMPLE_RATE)

    def __call__(self, questions: Sequence[Question]) -> list[np.ndarray | None]:
        """Frames of each question's sound; None if its file is missing or unusable, with a line on standard error."""
        paths = list(dict.fromkeys(str(audio_path(self.root, question)) for question in questions))
        frames = self._encode(dict(self._decode(paths)))
        return [frames.get(str(audio_path(self.root, question))) for question in questions]

    def _decode(self, paths: list[str]):
        decoded = decode_files(paths, _LIMITS, workers=self.workers)
        with contextlib.closing(decoded):
            for path, sound in zip(paths, decoded, strict=True):
                if isinstance(sound, Failure):
                    say(f"not a usable sound: {path}: {sound.detail}")
                else:
                    yield path, sound[: self.edges_K[-1]]

    def _encode(self, sounds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        encoded, bucket = {}, {path: int(np.searchsorted(self.edges_K, len(sound))) for path, sound in sounds.items()}
        for k, edge in enumerate(self.edges_K.tolist()):
            of_length = [path for path in sounds if bucket[path] == k]
            size = max(1, self.batch_samples // edge)
            for start in range(0, len(of_length), size):
                chosen = of_length[start : start + size]
                batch, len_B = np.zeros((size, edge), np.int16), np.ones(size, np.int32)
                for i, path in enumerate(chosen):
                    batch[i, : len(sounds[path])], len_B[i] = sounds[path], len(sounds[path])
                frames_BTD, frames_B = (np.asarray(x) for x in self.model.frames(batch, len_B))
                for i, path in enumerate(chosen):
                    encoded[path] = reduce_frames(frames_BTD[i, : max(1, int(frames_B[i]))], self.max_frames)
        return encoded
