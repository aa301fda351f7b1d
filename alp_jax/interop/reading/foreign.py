"""Weights of other toolboxes: finds them in a folder and reads them defensively."""

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from alp_jax.config import RunConfig
from alp_jax.config.schema import DataConfig, FeatureConfig, ModelConfig, ObjectiveConfig
from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json
from alp_jax.interop.isolated.process import require, run_isolated
from alp_jax.interop.reading.checked_safetensors import Stored, read_safetensors

CONFIG = "config.json"
# Those of the reference in the order in which it looks for them, then those of transformers.
WEIGHTS = (
    "pretrained.safetensors",
    "model.safetensors",
    "pretrained.pt",
    "model.pt",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_INDEX = ".index.json"  # names the files that a large model is split into
_PICKLES = ("*.pt", "*.bin", "*.pth", "*.ckpt")
_PARALLEL = "module."  # what torch's DistributedDataParallel puts before every name


class Weights(NamedTuple):
    """A state dict from a file.

    Fields:
      path: the file.
      tensors: name -> float32 array (or whole numbers, where a file has them).
      converted: name -> type in the file, for floating point tensors that were not float32.
    """

    path: pathlib.Path
    tensors: dict[str, np.ndarray]
    converted: dict[str, str]

    def within(self, prefix: str) -> "Weights":
        """The tensors whose names begin with ``prefix``, without it; UserError when there are none."""
        cut = len(prefix)
        tensors = {name[cut:]: value for name, value in self.tensors.items() if name.startswith(prefix)}
        if not tensors:
            raise UserError(f"{self.path} has no weights that begin with {prefix}")
        return Weights(self.path, tensors, {n[cut:]: t for n, t in self.converted.items() if n.startswith(prefix)})


class Imported(NamedTuple):
    """A model from elsewhere as this project keeps it.

    Fields:
      config: settings of a run that could have trained it.
      params: nested dictionaries, float32.
      model_type: what its toolbox calls it.
      settings: its config.json there; empty when there is none.
      batch_count: the value of its ``model_batch_count``, or None.
      left_out: names in the file that were dropped, as the model has no place for them.
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
    """The state dict of a folder (see ``WEIGHTS``), of a file, or of the files that an index names.

    Raises:
      UserError: no weights, a damaged file, a pickle without ``allow_pickle``, an index that does not match its files,
        numbers that are not finite.
    """
    path = source if source.is_file() else next((p for n in WEIGHTS if (p := source / n).is_file()), None)
    if path is None:
        others = [p.name for kind in ("*.safetensors", *_PICKLES) for p in sorted(source.glob(kind))]
        hint = f"; name one of its files: {', '.join(others[:4])}{', ...' if len(others) > 4 else ''}" if others else ""
        raise UserError(f"{source} has none of {', '.join(WEIGHTS)}{hint}")
    stored = _read_split(path, allow_pickle) if path.name.endswith(_INDEX) else _read_file(path, allow_pickle)
    weights = Weights(path, *stored)
    if weights.tensors and all(name.startswith(_PARALLEL) for name in weights.tensors):
        weights = weights.within(_PARALLEL)
    for name, value in weights.tensors.items():
        if not np.all(np.isfinite(value)):
            raise UserError(f"{path}: {name} holds numbers that are not finite")
    return weights


def _read_file(path: pathlib.Path, allow_pickle: bool) -> Stored:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if not allow_pickle:
        raise UserError(f"{path} is a pickle, which can run code: --allow_pickle reads it in a process of its own")
    require("torch", user=str(path), extras="torch")
    with tempfile.TemporaryDirectory() as temporary:
        made = pathlib.Path(temporary) / "weights.safetensors"
        problem = f"{path} cannot be read as a checkpoint of tensors"
        run_isolated("unpickle.py", path.absolute(), made, problem=problem, error=UserError)
        return read_safetensors(made)


def _read_split(index: pathlib.Path, allow_pickle: bool) -> Stored:
    tensors, converted = {}, {}
    for path, names in shards(index).items():
        stored = _read_file(path, allow_pickle)
        require_names(path, stored, names, index)
        tensors |= stored.tensors
        converted |= stored.converted
    return Stored(tensors, converted)


def shards(index: pathlib.Path) -> dict[pathlib.Path, set[str]]:
    """The files that an index of weights names, which lie beside it, and the names of the tensors in each."""
    content = read_json(index, "index of weights")
    file_of = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(file_of, dict) or not file_of or not all(isinstance(file, str) for file in file_of.values()):
        raise UserError(f"{index} has no weight_map that names the file of every tensor")
    files: dict[pathlib.Path, set[str]] = {}
    for name, file in sorted(file_of.items(), key=lambda item: item[1]):
        # the index is not trusted either: without this it could name any file on this machine
        if pathlib.PurePath(file).name != file or "\\" in file or not file.strip("."):
            raise UserError(f"{index} names {file!r}, which is not the name of a file beside it")
        if not (index.parent / file).is_file():
            raise UserError(f"{index.parent / file} is missing: {index.name} names it")
        files.setdefault(index.parent / file, set()).add(name)
    return files


def require_names(path: pathlib.Path, stored: Stored, names: set[str], index: pathlib.Path) -> None:
    """Raises UserError unless ``path`` holds the tensors that the index says, and no other."""
    if differ := sorted(names ^ stored.tensors.keys()):
        where = "lacks" if differ[0] in names else "also holds"
        raise UserError(f"{path} {where} {differ[0]}, contrary to {index.name}")


@contextlib.contextmanager
def described_by(path: pathlib.Path) -> Iterator[None]:
    """Turns errors inside the block, from settings that no model can have, into UserErrors that name ``path``."""
    try:
        yield
    except (ValueError, TypeError, ArithmeticError, LookupError) as error:  # a ConfigError is a ValueError
        raise UserError(f"{path} describes no model that can be built: {error}") from None


def read_settings(folder: pathlib.Path) -> tuple[pathlib.Path, dict[str, Any], str]:
    """(path, content, model_type in lower case) of a folder's config.json."""
    path = folder / CONFIG
    settings = read_json(path, "model configuration")
    if not isinstance(settings, dict) or not isinstance(settings.get("model_type"), str):
        raise UserError(f"{path} does not say its model_type")
    return path, settings, settings["model_type"].lower()


def run_config(model: ModelConfig, objective: ObjectiveConfig, text_budget: int = DataConfig.text_budget) -> RunConfig:
    """Settings of a run for an imported model: as many mel bins as its encoder takes, captions of its length."""
    features = FeatureConfig(num_mel_bins=model.encoder.feature_dim)
    return RunConfig(model=model, objective=objective, features=features, data=DataConfig(text_budget=text_budget))
