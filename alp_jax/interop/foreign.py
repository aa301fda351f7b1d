"""Weights of other toolboxes: found in a folder, read defensively, and turned into parameters of ours."""

import pathlib
import tempfile
from typing import Any, NamedTuple

import numpy as np

from alp_jax.config import RunConfig
from alp_jax.config.schema import DataConfig, FeatureConfig, ModelConfig, ObjectiveConfig
from alp_jax.core.errors import UserError
from alp_jax.interop.checked_safetensors import read_safetensors
from alp_jax.interop.names import from_torch
from alp_jax.interop.pickles import to_safetensors

# In the order in which the reference looks for them.
WEIGHTS = ("pretrained.safetensors", "model.safetensors", "pretrained.pt", "model.pt")
_PARALLEL = "module."  # what torch's DistributedDataParallel puts before every name


class Weights(NamedTuple):
    """A state dict from a file.

    Fields:
      path: the file.
      tensors: name -> float32 array (or whole numbers, where a file has them).
      converted: name -> type in the file, for those that were floating point but not float32.
    """

    path: pathlib.Path
    tensors: dict[str, np.ndarray]
    converted: dict[str, str]

    def within(self, prefix: str) -> "Weights":
        """Those whose names begin with ``prefix``, without it; UserError when there are none."""
        cut = len(prefix)
        tensors = {name[cut:]: value for name, value in self.tensors.items() if name.startswith(prefix)}
        if not tensors:
            raise UserError(f"{self.path} has no weights that begin with {prefix}")
        return Weights(self.path, tensors, {n[cut:]: t for n, t in self.converted.items() if n.startswith(prefix)})


class Imported(NamedTuple):
    """A model from elsewhere as this project keeps it.

    Fields:
      config: settings of a run that would have made it.
      params: nested dictionaries, float32.
      model_type: what it is called where it is from.
      settings: its config.json there; empty when there is none.
      batch_count: of its ``model_batch_count``, or None.
      left_out: names in the file that have no place in the model and were dropped.
      converted: as in ``Weights``.
    """

    config: RunConfig
    params: dict[str, Any]
    model_type: str
    settings: dict[str, Any]
    batch_count: float | None
    left_out: tuple[str, ...]
    converted: dict[str, str]


def load_weights(source: pathlib.Path, *, allow_pickle: bool) -> Weights:
    """The state dict of a folder (see ``WEIGHTS``) or of a file.

    Raises:
      UserError: no weights, a damaged file, a ``.pt`` file without ``allow_pickle``, numbers that are not finite.
    """
    path = source if source.is_file() else next((p for n in WEIGHTS if (p := source / n).is_file()), None)
    if path is None:
        split = source.is_dir() and any(source.glob("*.index.json"))
        raise UserError(f"{source} has none of {', '.join(WEIGHTS)}{': join the files it is split into' * split}")
    if path.suffix == ".safetensors":
        stored = read_safetensors(path)
    elif not allow_pickle:
        raise UserError(f"{path} is a pickle, which can run code: --allow_pickle reads it in a process of its own")
    else:
        with tempfile.TemporaryDirectory() as temporary:
            made = pathlib.Path(temporary) / "weights.safetensors"
            to_safetensors(path, made)
            stored = read_safetensors(made)
    weights = Weights(path, *stored)
    if weights.tensors and all(name.startswith(_PARALLEL) for name in weights.tensors):
        weights = weights.within(_PARALLEL)
    for name, value in weights.tensors.items():
        if not np.all(np.isfinite(value)):
            raise UserError(f"{path}: {name} holds numbers that are not finite")
    return weights


def params_from(weights: Weights, like: Any, kind: str, *, outside: dict[str, float] | None = None) -> Any:
    """``names.from_torch`` for a file: float32 weights only, and errors that name the file."""
    for name, value in weights.tensors.items():
        if value.dtype != np.float32:
            raise UserError(f"{weights.path}: {name} holds {value.dtype} numbers, which no weight of the model does")
    try:
        return from_torch(weights.tensors, like, kind, outside=outside)
    except UserError as error:
        raise UserError(f"{weights.path}: {error}") from None


def run_config(model: ModelConfig, objective: ObjectiveConfig, text_budget: int = DataConfig.text_budget) -> RunConfig:
    """Settings of a run for an imported model: features in the width of its encoder, captions of its length."""
    features = FeatureConfig(num_mel_bins=model.encoder.feature_dim)
    return RunConfig(model=model, objective=objective, features=features, data=DataConfig(text_budget=text_budget))
