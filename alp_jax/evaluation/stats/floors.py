"""The floor under every number: the same linear probe on mean and deviation of log-mel frames, no network at all.

Floors depend on data and settings, not on the run, so runs on the same data share them through one file.
"""

import pathlib
from collections.abc import Callable

import jax

from alp_jax.config.schema import FeatureConfig
from alp_jax.core import files
from alp_jax.evaluation.model import EvalModel
from alp_jax.features.logmel import log_mel

NAME = "log-mel statistics"


def log_mel_model(config: FeatureConfig) -> EvalModel:
    """An ``EvalModel`` whose frames are the log-mel features themselves."""
    return EvalModel(name=NAME, frames=jax.jit(lambda audio_BS, audio_len_B: log_mel(audio_BS, audio_len_B, config)))


def shared_floors(
    path: pathlib.Path, identity: str, names: list[str], compute: Callable[[list[str]], dict[str, dict]]
) -> dict[str, dict]:
    """Floors of ``names`` (task -> metric -> value), from ``path`` where it has them, else computed and added to it.

    ``identity`` stands for data and settings; floors of another identity in the file are left alone.
    """
    stored = files.read_json(path, "floors file") if path.exists() else {}
    known = stored.get(identity, {})
    missing = [name for name in names if name not in known]
    if missing:
        known = {**known, **{name: {} for name in missing}, **compute(missing)}
        files.write_json(path, {**stored, identity: known})
    return {name: known[name] for name in names}
