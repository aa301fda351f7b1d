"""Cases of kind ``fbank``: int16 waves to log-mel features."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.config.schema import FeatureConfig
from alp_jax.core.errors import UserError
from alp_jax.features.logmel import log_mel
from alp_jax.golden.case import Case
from alp_jax.golden.compare import Line, compare

BIN, MEAN = 1e-2, 1e-4  # the logarithm of tiny energies is ill conditioned, so a bin may differ more than the mean
SUFFIX = ".wave_int16"


def check(case: Case) -> Iterator[Line]:
    """All waves in one padded batch: frame counts, largest |difference|, and the mean over all bins of the case."""
    io, line = case.tensors(), partial(compare, case.name)
    settings = feature_config(case)
    features = jax.jit(partial(log_mel, config=settings))
    waves = {key.removesuffix(SUFFIX): io[key] for key in io if key.endswith(SUFFIX)}
    if not waves:
        raise UserError(f"{io.path} has no NAME{SUFFIX}")
    longest = max(len(wave) for wave in waves.values())
    batch = np.stack([np.pad(wave, (0, longest - len(wave))) for wave in waves.values()])
    lengths = np.asarray([len(wave) for wave in waves.values()], np.int32)
    mel, mel_len = jax.device_get(features(jnp.asarray(batch), jnp.asarray(lengths)))
    differences = []
    for row, name in enumerate(waves):
        expected = io[f"{name}.lhotse"]
        yield line(f"{name}.frames", mel_len[row], len(expected), 0)
        yield line(f"{name}.bins", mel[row, : mel_len[row]], expected, BIN)
        differences.append(np.abs(mel[row, : len(expected)].astype(np.float64) - expected).ravel())
    yield line("all.mean", np.concatenate(differences).mean(), 0.0, MEAN)


def feature_config(case: Case) -> FeatureConfig:
    """Our settings for the case; settings that are constants here must have the reference's values.

    Raises:
      UserError: a setting that this project does not offer.
    """
    fixed = {"sampling_rate": 16000, "frame_length_ms": 25, "frame_shift_ms": 10, "snip_edges": False, "dither": 0}
    for key, value in fixed.items():
        if case.config[key] != value:
            raise UserError(f"{case.config.path}: {key}={case.config[key]!r} is not supported, only {value!r}")
    high = float(case.config["high_freq"])
    high_hz = high if high > 0 else case.config["sampling_rate"] / 2 + high
    return FeatureConfig(
        num_mel_bins=case.config["num_mel_bins"], low_hz=float(case.config["low_freq"]), high_hz=high_hz
    )
