"""One vector per sound from a frozen encoder, for sounds of any length, in a few fixed batch shapes.

A sound of at most ``window_seconds`` is encoded in one piece. A longer one is cut into windows that start every
``stride_seconds``. The end of the sound may cut the last window short; less than 0.1 s that is in no window is left
out. The vector is the mean over the valid frames of all windows: where windows overlap, a stretch of sound
counts once for every window it is in.

A sound's vector depends neither on the batch it is in nor on its padding, beyond rounding.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import jax
import numpy as np

from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.core.run_files import JOINT, MEAN
from alp_jax.data.order.buckets import assign, edges
from alp_jax.data.pipeline import empty_batch, put_audio
from alp_jax.evaluation.model import EvalModel
from alp_jax.models.dual import masked_mean

POOLINGS = (MEAN, JOINT)
BUCKET_SECONDS = (1.0, 2.5, 5.0, 10.0, 20.0)  # besides the window; each is one compiled program
SHORTEST_SECONDS = 0.1  # of a sound or window; encoders fill shorter ones up with repeated frames
_SHORTEST = round(SHORTEST_SECONDS * SAMPLE_RATE)
_MEAN = jax.jit(masked_mean)


@dataclasses.dataclass(frozen=True)
class EmbedSettings:
    """How sounds become vectors.

    Attributes:
      pooling: ``mean`` over the encoder's frames, or ``joint``: frames go through the projection of a contrastive
        model and their mean is scaled to unit length. For a sound of one window that is the model's audio embedding.
      window_seconds: the longest piece that is encoded at once.
      stride_seconds: from the start of one window to the start of the next; 0 means ``window_seconds``, no overlap.
      batch_size: pieces in a batch; it does not change results.
    """

    pooling: str = MEAN
    window_seconds: float = 30.0
    stride_seconds: float = 0.0
    batch_size: int = 8

    def check(self) -> None:
        """Raises UserError naming the setting that is out of range."""
        choose(self.pooling, POOLINGS, "pooling")
        if not SHORTEST_SECONDS <= self.window_seconds <= 3600:
            raise UserError(f"window_seconds {self.window_seconds:g} must be between {SHORTEST_SECONDS:g} and 3600")
        if self.stride_seconds and not SHORTEST_SECONDS <= self.stride_seconds <= self.window_seconds:
            raise UserError(
                f"stride_seconds {self.stride_seconds:g} must be between {SHORTEST_SECONDS:g} and window_seconds "
                f"{self.window_seconds:g}, or 0 for windows without overlap"
            )
        if self.batch_size < 1:
            raise UserError(f"batch_size {self.batch_size} must be at least 1")

    @property
    def window(self) -> int:
        """Samples in a window."""
        return round(self.window_seconds * SAMPLE_RATE)

    @property
    def stride(self) -> int:
        """Samples from the start of one window to the start of the next."""
        return round((self.stride_seconds or self.window_seconds) * SAMPLE_RATE)

    @property
    def edges_K(self) -> np.ndarray:
        """Batch widths in samples, int64[K], ascending; the last is the length of a window."""
        shorter = (seconds for seconds in BUCKET_SECONDS if seconds * SAMPLE_RATE < self.window)
        return edges((*shorter, self.window_seconds), "window_seconds")


def check_pooling(model: EvalModel, pooling: str) -> None:
    """Raises UserError if the model does not support ``pooling``."""
    if pooling == JOINT and model.project_audio is None:
        raise UserError(
            f"pooling joint needs the audio projection of a contrastive model, which {model.name} does not have: "
            "use mean"
        )


def window_starts(num_samples: int, settings: EmbedSettings) -> range:
    """First samples of a sound's windows; there are as many as leave less than 0.1 s uncovered."""
    beyond = max(0, num_samples - settings.window - (_SHORTEST - 1))
    return range(0, beyond + settings.stride, settings.stride)


def embed(model: EvalModel, sounds: Iterable[tuple[int, np.ndarray]], settings: EmbedSettings) -> dict[int, np.ndarray]:
    """The vectors of sounds, keyed by the number that comes with each.

    Only pieces of unfinished batches are in memory, so ``sounds`` may be a generator over any amount of audio.

    Args:
      sounds: (number, int16[n] at 16 kHz of at least 0.1 s), each number once.

    Returns:
      number -> float32[D], in the order of ``sounds``.

    Raises:
      UserError: a setting is out of range, a model without a projection cannot pool jointly, or a sound is too short.
    """
    settings.check()
    check_pooling(model, settings.pooling)
    pool = model.project_audio if settings.pooling == JOINT else _MEAN
    totals: dict[int, np.ndarray | float] = {}
    frames: dict[int, int] = {}
    waiting = None
    for batch in _batches(sounds, settings, totals, frames):
        encoded = model.frames(batch["audio"], batch["audio_len"])
        # the result of a batch is fetched once the next is running, so that host and device are both busy
        waiting, finished = (batch, pool(*encoded), encoded[1]), waiting
        _add(finished, totals, frames)
    _add(waiting, totals, frames)
    return {number: _finish(total, frames[number], settings.pooling) for number, total in totals.items()}


def _batches(
    sounds: Iterable[tuple[int, np.ndarray]], settings: EmbedSettings, totals: dict, frames: dict[int, int]
) -> Iterator[dict[str, np.ndarray]]:
    """Pieces of sounds in batches of one bucket each, partial ones last; ``row`` is the sound's number, -1 in padding.

    Enters every sound in ``totals`` and ``frames`` as 0.
    """
    edges_K = settings.edges_K
    pending: list[list[tuple[int, np.ndarray]]] = [[] for _ in edges_K]
    for number, sound in sounds:
        if len(sound) < _SHORTEST:
            raise UserError(f"sound {number} has {len(sound)} samples: at least {_SHORTEST} are needed")
        totals[number], frames[number] = 0.0, 0
        for start in window_starts(len(sound), settings):
            piece = sound[start : start + settings.window].copy()  # a view would keep the whole sound in memory
            k = int(assign(np.array([len(piece)]), edges_K)[0])
            pending[k].append((number, piece))
            if len(pending[k]) == settings.batch_size:
                yield _batch(pending[k], int(edges_K[k]), settings.batch_size)
                pending[k] = []
    for pieces, edge in zip(pending, edges_K, strict=True):
        if pieces:
            yield _batch(pieces, int(edge), settings.batch_size)


def _batch(pieces: list[tuple[int, np.ndarray]], edge: int, size: int) -> dict[str, np.ndarray]:
    batch = empty_batch(size, edge)
    for i, (number, piece) in enumerate(pieces):
        put_audio(batch, i, number, piece)
    return batch


def _add(finished: tuple | None, totals: dict[int, np.ndarray | float], frames: dict[int, int]) -> None:
    """Adds the number of frames times their mean for every piece, in float64."""
    if finished is None:
        return
    batch, mean_BD, len_B = finished[0], np.asarray(finished[1], np.float64), np.asarray(finished[2])
    for i in np.flatnonzero(batch["mask"]):
        number = int(batch["row"][i])
        totals[number] = totals[number] + len_B[i] * mean_BD[i]
        frames[number] += int(len_B[i])


def _finish(total: np.ndarray, num_frames: int, pooling: str) -> np.ndarray:
    mean_D = total / num_frames
    if pooling == JOINT:
        mean_D /= max(np.linalg.norm(mean_D), 1e-12)
    return mean_D.astype(np.float32)
