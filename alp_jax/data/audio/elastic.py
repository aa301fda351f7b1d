"""Landmarks that also survive a change of speed, pitch or tempo by some percent.

Like those of ``fingerprint.py``, from the same peaks, but of the frequencies only their ratios are in the hash, and
distances in time only in steps that a few percent seldom leave (the idea of Six and Leman, "Panako", ISMIR 2014). The
first frequency is stored beside the hash, so that a comparison can demand one ratio of all landmarks of two clips. A
clip keeps landmarks in proportion to its length, so that a part of it keeps the same ones.

Only landmarks made with the same constants can be compared: whoever changes one gives ``data.store.schema.ELASTIC``
another name.
"""

import numpy as np

from alp_jax.core.hashing import mix
from alp_jax.data.audio.fingerprint import Peaks

KEY_BITS, PITCH_BITS, CLOCK_BITS = 22, 10, 16  # of a stored value; the time is in frames of 16 ms and wraps
PITCHES = 128  # steps per octave of the stored frequency
PER_SECOND, AT_LEAST = 10, 64  # landmarks kept

_LOW = 20.0  # bins of 15.6 Hz: below, a bin is more than a step of a ratio
_AHEAD = 6  # the other two peaks of a landmark are among this many after the first
_MIN_SPAN, _MAX_SPAN, _FRAMES = 2.0, 60.0, 4.0  # frames from the first peak to the last; step of distances
_RATIOS, _REGISTERS = 32, 2  # steps per octave of ratios, and of the first frequency in the hash
_PREFER = 0.2  # exponent of the relative level in a landmark's weight
_J, _K = (n + 1 for n in np.triu_indices(_AHEAD, 1))


def elastic(peaks: Peaks) -> np.ndarray:
    """The landmarks of a sound: uint64[k], ascending, ``hash << 26 | pitch << 16 | time``, hashes distinct.

    k is at most 64 or 10 for every second, whichever is more.
    """
    usable = peaks.fine_f >= _LOW
    t, level = peaks.t[usable], peaks.level[usable]
    pitch = np.log2(peaks.fine_f[usable] / _LOW)  # octaves
    n = len(t)
    i = np.repeat(np.arange(n), len(_J))
    j, k = i + np.tile(_J, n), i + np.tile(_K, n)
    whole = k < n
    i, j, k = i[whole], j[whole], k[whole]
    near, far = t[j] - t[i], t[k] - t[i]
    second, third = (np.rint((pitch[other] - pitch[i]) * _RATIOS).astype(np.int64) for other in (j, k))
    good = (far >= _MIN_SPAN) & (far < _MAX_SPAN) & ((second != 0) | (third != 0))  # not a hum, which many sounds share
    i, j, k, near, far, second, third = (column[good] for column in (i, j, k, near, far, second, third))
    # ratios are within 4 octaves: 8 bits for each sign and magnitude; 4 for each distance and for the register
    packed = ((second + 128) << 8 | (third + 128)) << 8
    packed |= np.rint(near / _FRAMES).astype(np.int64) << 4 | np.rint(far / _FRAMES).astype(np.int64)
    packed = packed << 4 | np.floor(pitch[i] * _REGISTERS).astype(np.int64)
    mixed, first = np.unique(mix(packed.astype(np.uint64)), return_index=True)
    i, j, k = i[first], j[first], k[first]
    limit = max(AT_LEAST, PER_SECOND * peaks.samples // 16_000)
    if len(mixed) > limit:  # the same sampling as in ``fingerprint``
        weight = (level[i] * level[j] * level[k]) ** _PREFER
        uniform = ((mixed >> np.uint64(40)).astype(np.float64) + 0.5) / 2.0**24
        kept = np.argpartition(-np.log(uniform) / weight, limit)[:limit]
        mixed, i = mixed[kept], i[kept]
    stored = (mixed & np.uint64((1 << KEY_BITS) - 1)) << np.uint64(PITCH_BITS + CLOCK_BITS)
    stored |= np.rint(pitch[i] * PITCHES).astype(np.uint64) << np.uint64(CLOCK_BITS)
    stored |= np.rint(t[i]).astype(np.uint64) & np.uint64((1 << CLOCK_BITS) - 1)
    ordered = np.sort(stored)
    keys = ordered >> np.uint64(PITCH_BITS + CLOCK_BITS)
    return ordered[np.flatnonzero(np.diff(keys, prepend=np.uint64(1 << KEY_BITS)))]
