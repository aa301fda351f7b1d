"""Blocks of samples of any rate and number of channels to int16 at 16 kHz mono, with checks on the way.

Every block is mixed down and resampled as it arrives, so a clip needs only the memory of its sound at 16 kHz, whatever
its rate and channels.
"""

import numpy as np
import soxr

from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.data.audio.decoders.contract import MAX_SAMPLES, Block, Limits
from alp_jax.data.audio.errors import BadAudio

SILENCE = 1e-4  # half the range of the samples; full scale is 1
CANCELS = 0.1  # share of the power that the mean of unrelated channels would have; below it the loudest is taken
CLIPPING = 0.05  # share of the power beyond full scale; above it the samples are of another scale
_SCALES = (2.0**15, 2.0**23, 2.0**31)
_LOUDEST_MASTER = 64.0  # full scale is 1; a higher peak means the scale of integers


class Mix:
    """Takes blocks (``add``) and gives the sound (``finish``).

    ``channel`` is the one to take; None takes the mean of all. ``notes`` are keys of NOTES.
    """

    def __init__(self, limits: Limits, channel: int | None = None, *, choose_loudest: bool = False):
        """``choose_loudest``: a block with fewer channels than ``channel`` gives its last one instead of an error."""
        self.notes: list[str] = []
        self._limits, self._channel, self._lenient = limits, channel, choose_loudest
        self._resampler, self._rate, self._parts = None, 0, []
        self._seconds, self._samples, self._frames = 0.0, 0, 0
        self._low, self._high = np.inf, -np.inf
        self._power = self._beyond = 0.0  # sums of squares: of the samples, and of what is beyond full scale
        self._moments: np.ndarray | None = None  # [C + 1, 2]: sums and sums of squares of the channels and of the mean

    def add(self, block: Block) -> None:
        """Mixes a block in.

        Raises:
          BadAudio: ``too_long``, ``too_many_samples``, ``non_finite`` or ``no_channel``.
        """
        rate, samples = block
        self._seconds += len(samples) / rate
        self._samples += samples.size
        self._frames += len(samples)
        if self._seconds > self._limits.max_seconds + 1e-9:
            raise BadAudio("too_long", f"more than {self._limits.max_seconds:g} s")
        if self._samples > MAX_SAMPLES:
            raise BadAudio("too_many_samples", f"more than {MAX_SAMPLES} in {self._seconds:.0f} s")
        mono = self._mono(samples)
        # NaN survives min and max; infinities do too, and two of opposite sign add up to NaN: one check finds them all
        low, high = float(mono.min()), float(mono.max())
        if not np.isfinite(low + high):
            raise BadAudio("non_finite")
        self._low, self._high = min(self._low, low), max(self._high, high)
        # Files may store floats up to 3e38, whose squares overflow float32: beyond full scale the sums are in float64.
        if max(-low, high) > 1:
            self._power += float(np.square(mono, dtype=np.float64).sum())
            over = np.maximum(np.abs(mono) - 1, 0)
            self._beyond += float(np.square(over, dtype=np.float64).sum())
        else:
            self._power += float(np.dot(mono, mono))
        if rate != self._rate:
            self._flush()  # the old resampler still holds the end of its sound, which belongs before this block
            self._rate, self._resampler = rate, None
            if rate != SAMPLE_RATE:
                self._resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        self._parts.append(self._resampler.resample_chunk(mono) if self._resampler else mono)

    def _mono(self, samples: np.ndarray) -> np.ndarray:
        channels = samples.shape[1]
        if self._channel is not None:
            if self._channel >= channels and not self._lenient:
                raise BadAudio("no_channel", f"channel {self._channel} of {channels}, counted from 0")
            # a copy: a view would keep the block with all its channels alive
            return samples[:, min(self._channel, channels - 1)].copy()
        mono = samples[:, 0]
        if channels == 1:
            return np.ascontiguousarray(mono)
        for other in range(1, channels):  # column by column, which is ten times faster than a mean over the short axis
            mono = mono + samples[:, other]
        mono = mono / np.float32(channels)
        if self._moments is None or len(self._moments) == channels + 1:
            columns = [*(samples[:, number] for number in range(channels)), mono]
            with np.errstate(all="ignore"):
                moments = np.array([(column.sum(), np.dot(column, column)) for column in columns], np.float64)
            self._moments = moments if self._moments is None else self._moments + moments
        return mono

    def _flush(self) -> None:
        if self._resampler:  # which holds back the end of its sound, as it does not know that nothing follows
            self._parts.append(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))

    def loudest(self) -> int | None:
        """The loudest channel if the channels cancel each other in their mean, else None.

        Constant offsets do not count. The mean of C unrelated channels has their total power divided by C squared.
        """
        if self._moments is None:
            return None
        sums, squares = self._moments.T
        with np.errstate(all="ignore"):
            power = squares - sums * sums / self._frames
        *channels, mean = power
        unrelated = sum(channels) / len(channels) ** 2
        heard = max(channels) / self._frames > SILENCE**2 / 2
        return int(np.argmax(channels)) if heard and mean < CANCELS * unrelated else None

    def finish(self) -> np.ndarray:
        """The sound as int16[n] at 16 kHz.

        Raises:
          BadAudio: ``zero_length``, ``too_short``, ``silent`` or ``bad_scale``.
        """
        if not self._frames:
            raise BadAudio("zero_length")
        self._flush()
        sound = np.concatenate(self._parts)
        self._parts = []
        if len(sound) < self._limits.min_seconds * SAMPLE_RATE:
            raise BadAudio("too_short", f"{len(sound) / SAMPLE_RATE:.3f} s")
        if self._high - self._low < 2 * SILENCE:
            raise BadAudio("silent")
        if self._beyond > CLIPPING * self._power:
            sound = sound / np.float32(self._scale())
            self.notes.append("rescaled")
        return np.clip(np.rint(sound * 32768.0), -32768, 32767).astype(np.int16)

    def _scale(self) -> float:
        peak = max(-self._low, self._high)
        if peak <= _LOUDEST_MASTER:
            return peak
        for scale in _SCALES:
            if peak <= scale:
                return scale
        raise BadAudio("bad_scale", f"a peak of {peak:.3g}")
