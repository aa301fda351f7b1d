"""Landmarks of a sound, which survive re-encoding, resampling, trimming and changes of gain.

Follows Wang, "An Industrial-Strength Audio Search Algorithm" (ISMIR 2003), with three peaks to a landmark instead of
two. Peaks of the spectrogram below 3.75 kHz (so that 8 kHz copies agree), their times interpolated between frames, form
landmarks of three frequencies and two distances in time. A clip keeps few of its landmarks, and two versions of a sound
keep the same ones: those with the lowest hashes, weighted to prefer loud landmarks, which survive coding (bottom-k
sampling). Stored per landmark are other bits of that hash, and the time.

Only fingerprints made with the same constants can be compared: whoever changes one raises
``data.store.schema.SCHEMA_VERSION``.
"""

import dataclasses

import numpy as np
import scipy.fft

from alp_jax.core.hashing import mix

HASH_BITS, TIME_BITS = 24, 8  # of a stored value; the time is in frames of 16 ms and wraps
PER_STRETCH, STRETCH = 64, 480_000  # landmarks kept for every 30 s or part of it

_WINDOW, _HOP = 1024, 256  # samples at 16 kHz
_SHORT, _FINER = 80_000, 2  # up to this many samples frames are this much denser: short clips have few landmarks
_LOW, _HIGH = 8, 240  # bins of 15.6 Hz: 125 Hz to 3.75 kHz
_AROUND_T, _AROUND_F = 6, 8  # frames and bins to each side over which a peak must be the maximum
_LEVEL_T = 32  # frames to each side whose maximum is the reference of a peak's level
_FAINTEST = 1e-5  # relative level, power
_NOISE = 1024.0  # power that rounding to int16 can cause in a bin
_AHEAD = 6  # the other two peaks of a landmark are among this many after the first
_MIN_SPAN, _MAX_SPAN = 2.0, 60.0  # frames from the first peak to the last
_BINS, _FRAMES = 2, 4.0  # steps to which frequencies and distances are rounded
_PREFER = 0.2  # exponent of the relative level in a landmark's weight
_BLOCK, _TRANSFORMS = 1024, 64  # frames searched, and transformed, at a time: they fit in the processor's cache
_HANN = np.hanning(_WINDOW).astype(np.float32)
_J, _K = (n + 1 for n in np.triu_indices(_AHEAD, 1))


@dataclasses.dataclass(frozen=True)
class Peaks:
    """The n peaks of a spectrogram, by time.

    Attributes:
      t: float64[n], times in frames of 16 ms.
      f: int64[n], frequencies in bins of 15.6 Hz.
      fine_f: float64[n], the same, interpolated between bins.
      level: float64[n], power relative to the loudest within half a second.
      samples: length of the sound, at 16 kHz.
    """

    t: np.ndarray
    f: np.ndarray
    fine_f: np.ndarray
    level: np.ndarray
    samples: int


def fingerprint(peaks: Peaks) -> np.ndarray:
    """The landmarks of a sound: uint32[k], ascending, ``hash << 8 | time``, hashes distinct within the clip.

    k is at most 64 for every half minute or part of it; fewer for sounds with few peaks, 0 for a steady tone or near
    silence.
    """
    hashes, weights, times = _landmarks(peaks.t, peaks.f, peaks.level)
    mixed, first = np.unique(mix(hashes), return_index=True)
    limit = PER_STRETCH * -(-peaks.samples // STRETCH)
    if len(mixed) > limit:
        # The smallest of exponential variates with these rates are a weighted sample. It draws on the upper 24 bits of
        # the hash; the lower 24, which are stored, stay unbiased. The 0.5 keeps the logarithm finite.
        uniform = ((mixed >> np.uint64(40)).astype(np.float64) + 0.5) / 2.0**24
        kept = np.argpartition(-np.log(uniform) / weights[first], limit)[:limit]
        mixed, first = mixed[kept], first[kept]
    stored = (mixed & np.uint64((1 << HASH_BITS) - 1)) << np.uint64(TIME_BITS)
    stored |= np.rint(times[first]).astype(np.uint64) & np.uint64((1 << TIME_BITS) - 1)
    ordered = np.sort(stored.astype(np.uint32))
    # of equal hashes the earliest time stays; no hash equals what is prepended, so the first value stays too
    return ordered[np.flatnonzero(np.diff(ordered >> TIME_BITS, prepend=1 << HASH_BITS))]


def find_peaks(audio: np.ndarray) -> Peaks:
    """The peaks of int16[n] at 16 kHz, between 125 Hz and 3.75 kHz."""
    finer = _FINER if len(audio) <= _SHORT else 1
    samples = audio.astype(np.float32)
    if len(samples) < _WINDOW:
        samples = np.pad(samples, (0, _WINDOW - len(samples)))
    power_TF = _power(np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[:: _HOP // finer])
    # Blocks overlap by as many frames as a peak is compared with, so that block edges do not change the result.
    halo = _LEVEL_T * finer
    parts = []
    for start in range(0, len(power_TF), _BLOCK):
        begin = max(0, start - halo)
        inside = slice(start - begin, start - begin + _BLOCK)
        t, f, fine, level = _peaks_of(power_TF[begin : start + _BLOCK + halo], inside, finer)
        parts.append((t + begin, f + _LOW, f + fine + _LOW, level))
    t, f, fine_f, level = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(t, kind="stable")
    return Peaks(t[order] / finer, f[order], fine_f[order], level[order], len(audio))


def _power(frames: np.ndarray) -> np.ndarray:
    power_TF = np.empty((len(frames), _HIGH - _LOW), np.float32)
    for start in range(0, len(frames), _TRANSFORMS):
        part = slice(start, start + _TRANSFORMS)
        spectrum = scipy.fft.rfft(frames[part] * _HANN, axis=1)[:, _LOW:_HIGH]
        power_TF[part] = spectrum.real**2 + spectrum.imag**2
    return power_TF


def _peaks_of(power_TF: np.ndarray, inside: slice, finer: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    largest = _running_max(_running_max(power_TF.T, _AROUND_F).T, _AROUND_T * finer)[inside]
    loudest = _running_max(power_TF.max(1, keepdims=True), _LEVEL_T * finer)[inside]
    here = power_TF[inside]
    t, f = np.nonzero((here == largest) & (here > np.maximum(_FAINTEST * loudest, _NOISE)))
    value, level = here[t, f], here[t, f] / loudest[t, 0]
    t = t + inside.start
    frames, bins = (size - 1 for size in power_TF.shape)
    late = _vertex(power_TF[np.maximum(t - 1, 0), f], value, power_TF[np.minimum(t + 1, frames), f])
    high = _vertex(power_TF[t, np.maximum(f - 1, 0)], value, power_TF[t, np.minimum(f + 1, bins)])
    late[(t == 0) | (t == frames)] = 0
    high[(f == 0) | (f == bins)] = 0
    return t + late.astype(np.float64), f, high.astype(np.float64), level.astype(np.float64)


def _vertex(before: np.ndarray, value: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where a parabola through three log powers has its vertex, in steps from the middle one, -0.5 to 0.5.

    The bounds guard against a plateau (division by 0) and against a vertex outside the step; the first and last step
    lack a neighbour, so the caller leaves them where they are.
    """
    before, after = np.log(before + 1e-3), np.log(after + 1e-3)
    curve = np.minimum(before - 2 * np.log(value) + after, -1e-6)
    return np.clip((before - after) / (2 * curve), -0.5, 0.5)


def _running_max(values: np.ndarray, reach: int) -> np.ndarray:
    """Maximum over ``reach`` rows to each side, of ``values`` >= 0, by doubling windows; edges have fewer rows."""
    width, have = 2 * reach + 1, 1
    largest = np.pad(values, ((reach, reach), (0, 0)))
    while have < width:
        step = min(have, width - have)
        largest = np.maximum(largest[:-step], largest[step:])
        have += step
    return largest


def _landmarks(t: np.ndarray, f: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Packed landmarks (uint64), their weights, and the times of their first peaks."""
    n = len(t)
    i = np.repeat(np.arange(n), len(_J))
    j, k = i + np.tile(_J, n), i + np.tile(_K, n)
    whole = k < n
    i, j, k = i[whole], j[whole], k[whole]
    f = f // _BINS
    near, far = t[j] - t[i], t[k] - t[i]
    # three peaks of the same frequency are a hum or a tone, which many sounds share
    good = (far >= _MIN_SPAN) & (far < _MAX_SPAN) & ((f[i] != f[j]) | (f[j] != f[k]))
    i, j, k, near, far = i[good], j[good], k[good], near[good], far[good]
    # 8 bits for each frequency (less than _HIGH / _BINS) and 4 for each distance (up to _MAX_SPAN / _FRAMES = 15)
    packed = (f[i] << 16 | f[j] << 8 | f[k]) << 8
    packed |= np.rint(near / _FRAMES).astype(np.int64) << 4 | np.rint(far / _FRAMES).astype(np.int64)
    return packed.astype(np.uint64), (level[i] * level[j] * level[k]) ** _PREFER, t[i]
