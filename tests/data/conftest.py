"""Sounds with enough in them to be told apart."""

import numpy as np
import pytest


def make_sound(seed, seconds=3.0):
    """int16 at 16 kHz: notes with harmonics, bursts of noise and a faint floor, all drawn from the seed."""
    rng = np.random.default_rng([7, seed])
    wave = 0.003 * rng.standard_normal(int(16000 * seconds))
    start = 0
    while start < len(wave):
        n = min(int(16000 * rng.uniform(0.08, 0.25)), len(wave) - start)
        t = np.arange(n) / 16000
        note = sum(np.sin(2 * np.pi * rng.uniform(150, 900) * h * t) / h for h in (1, 2, 3))
        burst = rng.standard_normal(n) * (rng.random() < 0.3)
        wave[start : start + n] += (0.15 * note + 0.08 * burst) * np.exp(-t * rng.uniform(2, 12))
        start += n
    return np.rint(np.clip(wave, -1, 1) * 32767).astype(np.int16)


@pytest.fixture(scope="session")
def sound():
    return make_sound
