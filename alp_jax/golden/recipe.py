"""Cases without a model: features, augmentation, caption clean-up and retrieval."""

import math
import re
from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.config.schema import FeatureConfig
from alp_jax.core.errors import UserError
from alp_jax.data.text.normalise import CLEAN_UPS, clean
from alp_jax.evaluation.retrieval.ranking import CUTOFFS, Direction, Gallery, evaluate
from alp_jax.features.logmel import log_mel
from alp_jax.features.spec_augment import span_mask, time_warp
from alp_jax.golden.case import Case
from alp_jax.golden.compare import Line, compare

# The logarithm of tiny energies is ill conditioned, so a bin may differ more than the mean.
BIN_TOLERANCE, MEAN_TOLERANCE = 1e-2, 1e-4
PERCENT = 1e-4  # the reference computes percentages of retrieval in float32
SUFFIX = ".wave_int16"
TIME_AXIS = "1"


def check_log_mel(case: Case) -> Iterator[Line]:
    """All waves in one padded batch: frame counts, largest |difference|, and the mean over all bins of the case."""
    io, line = case.tensors(), partial(compare, case.name)
    features = jax.jit(partial(log_mel, config=_feature_config(case)))
    waves = {key.removesuffix(SUFFIX): io[key] for key in io if key.endswith(SUFFIX)}
    if not waves:
        raise UserError(f"{io.path} has no NAME{SUFFIX}")
    lengths = np.asarray([len(wave) for wave in waves.values()], np.int32)
    batch = np.stack([np.pad(wave, (0, max(lengths) - len(wave))) for wave in waves.values()])
    mel, mel_len = jax.device_get(features(jnp.asarray(batch), jnp.asarray(lengths)))
    differences = []
    for row, name in enumerate(waves):
        expected = io[f"{name}.lhotse"]
        yield line(f"{name}.frames", mel_len[row], len(expected), 0)
        yield line(f"{name}.bins", mel[row, : mel_len[row]], expected, BIN_TOLERANCE)
        differences.append(np.abs(mel[row, : len(expected)].astype(np.float64) - expected).ravel())
    yield line("all.mean", np.concatenate(differences).mean(), 0.0, MEAN_TOLERANCE)


def _feature_config(case: Case) -> FeatureConfig:
    """Our settings for the case; UserError where one that is a constant here has another value."""
    c = case.config
    fixed = {"sampling_rate": 16000, "frame_length_ms": 25, "frame_shift_ms": 10, "snip_edges": False, "dither": 0}
    for key, value in fixed.items():
        if c[key] != value:
            raise UserError(f"{c.path}: {key}={c[key]!r} is not supported, only {value!r}")
    high = float(c["high_freq"])  # at or below zero it is counted from half the sampling rate
    high_hz = high if high > 0 else c["sampling_rate"] / 2 + high
    return FeatureConfig(num_mel_bins=c["num_mel_bins"], low_hz=float(c["low_freq"]), high_hz=high_hz)


def check_augmentation(case: Case) -> Iterator[Line]:
    """``warpN`` for every warp of the config, then every ``mask.axisA.nN``; masks hold the mean of the input."""
    io, line = case.tensors(), partial(compare, case.name)
    mel_TF = jnp.asarray(io["in.x"])
    length = jnp.int32(len(mel_TF))
    for index, warp in enumerate(case.config["warps"]):
        warped_TF = time_warp(mel_TF, length, jnp.int32(warp["center"]), jnp.int32(warp["warped"]))
        yield line(f"warp{index}", warped_TF, io[f"warp{index}"])
    for name in sorted(io):
        match = re.fullmatch(r"mask\.axis([12])\.n\d+", name)
        if match:
            size = mel_TF.shape[0] if match[1] == TIME_AXIS else mel_TF.shape[1]
            widths, uniforms = jnp.asarray(io[f"{name}.widths"][0], jnp.int32), jnp.asarray(io[f"{name}.u"][0])
            hidden = span_mask(size, jnp.int32(size), widths, uniforms)
            hidden = hidden[:, None] if match[1] == TIME_AXIS else hidden
            yield line(name, jnp.where(hidden, jnp.mean(mel_TF), mel_TF), io[name])


def check_clean_up(case: Case) -> Iterator[Line]:
    """A line per caption (``in``) and recipe; texts are equal or infinitely apart."""
    for row in case.config["cases"]:
        for recipe, expected in row.items():
            if recipe != "in":
                same = recipe in CLEAN_UPS and clean(row["in"], recipe) == expected
                yield Line(case.name, f"{recipe}: {row['in']!r}", 0.0 if same else math.inf, 0.0)


def check_retrieval(case: Case) -> Iterator[Line]:
    """Recall, median and mean rank and the reference's mAP10, both ways, for ``audio``/``text`` and ``multi``."""
    io, captions = case.tensors(), int(case.config["captions_per_audio"])
    actual = {
        **_both_ways("", io["audio"], io["text"], 1),
        **_both_ways("multi_", io["multi.audio_unique"], io["multi.text"], captions),
    }
    for name, metrics in case.config["metrics"].items():
        for metric, expected in metrics.items():
            value = actual.get(name, {}).get(metric, np.zeros(0))
            yield compare(case.name, f"{name}.{metric}", value, expected, PERCENT)


def _both_ways(prefix: str, audio_AE: np.ndarray, text_ME: np.ndarray, captions: int) -> dict[str, dict[str, float]]:
    owner_M = np.repeat(np.arange(len(audio_AE)), captions)
    both = evaluate(audio_AE, text_ME, Gallery(owner_M, np.arange(len(text_ME)), len(audio_AE)))
    return {f"{prefix}a2t": _metrics(both["audio_to_text"]), f"{prefix}t2a": _metrics(both["text_to_audio"])}


def _metrics(direction: Direction) -> dict[str, float]:
    rank_Q = direction.rank_Q
    recalls = {f"r{cutoff}": 100 * np.mean(rank_Q <= cutoff) for cutoff in CUTOFFS}
    lower_median = np.sort(rank_Q)[(len(rank_Q) - 1) // 2]  # as torch.median
    precision = 100 * float(np.nanmean(direction.reference_Q))
    return {**recalls, "medr": lower_median, "meanr": np.mean(rank_Q), "mAP10": precision}


CHECKS = {
    "fbank": check_log_mel,
    "spec_augment": check_augmentation,
    "text_clean": check_clean_up,
    "retrieval": check_retrieval,
}
