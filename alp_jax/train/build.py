"""From a configuration or a run folder to the parts of a run: data, tokenizer, model functions and objective.

Run folders get copied to machines where data set and tokenizer are elsewhere, so both are searched for.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from alp_jax.config import RunConfig, resolve
from alp_jax.config.resolve import as_stored
from alp_jax.config.schema.model import DECODER, TAGGER, TEXT
from alp_jax.core import storage
from alp_jax.core.errors import UserError
from alp_jax.core.files import read_object
from alp_jax.core.run_files import CONFIG, ENVIRONMENT
from alp_jax.data.store.dataset import Dataset, open_dataset
from alp_jax.data.store.schema import INFO
from alp_jax.data.text.open import open_tokenizer, tokenizer_path
from alp_jax.data.text.tags import TagList
from alp_jax.data.text.tokenizer import FILE_NAME, FILE_NAMES, Tokenizer
from alp_jax.models.dual import AudioTextModel
from alp_jax.models.encoders import check_features
from alp_jax.models.functional import functionalize
from alp_jax.objectives.base import Objective, SpecialTokens
from alp_jax.objectives.registry import make_objective, sides_of
from alp_jax.train.checkpoint import load_params


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a step is made of: pure functions on nested dictionaries, and parameters that do not start fresh."""

    init: Callable[[jax.Array], dict]
    apply: Callable[..., Any]
    objective: Objective
    start: dict[str, Any]  # of the parameters, as host arrays


def make_model(config: RunConfig) -> tuple[Callable, Callable]:
    """(init, apply) of the model that the configuration describes.

    Raises:
      UserError: sizes that do not fit together, the number of mel bins among them.
    """
    check_features(config.model, config.features.num_mel_bins)
    objective = config.objective
    bias = objective.start_bias if objective.learn_bias else None
    return functionalize(
        lambda rngs: AudioTextModel(
            config.model, sides_of(objective), temperature=objective.temperature, bias=bias, rngs=rngs
        )
    )


def make_parts(config: RunConfig, tokenizer: Tokenizer, mesh: Mesh) -> Parts:
    """Model and objective for ``config``.

    Raises:
      UserError: the tokenizer or the list of tags is larger than the model, or captions are longer than its positions.
    """
    _check_targets(config, tokenizer)
    init, apply = make_model(config)
    start = {}
    if config.init != "scratch":
        start["encoder"] = _start_from(config.init, init, "encoder", "config.init")
    if config.init_text != "scratch":
        start["text"] = _start_from(config.init_text, init, "text", "config.init_text")
    return Parts(init, apply, make_objective(config.objective, SpecialTokens.of(tokenizer), mesh), start)


def _check_targets(config: RunConfig, tokenizer: Tokenizer) -> None:
    sides = sides_of(config.objective)
    vocabularies = {TEXT: config.model.text.vocab_size, DECODER: config.model.decoder.vocab_size}
    for side, size in vocabularies.items():
        if side in sides and tokenizer.vocab_size > size:
            raise UserError(
                f"config.model.{side}.vocab_size is {size} but the tokenizer has {tokenizer.vocab_size} tokens"
            )
    if TAGGER in sides:
        if not config.data.tags:
            raise UserError(
                f"config.objective.name={config.objective.name} needs config.data.tags: a list made by 'alp tags'"
            )
        if len(tags := TagList.load(config.data.tags)) > config.model.num_tags:
            raise UserError(f"config.model.num_tags is {config.model.num_tags} but config.data.tags has {len(tags)}")
    longest = config.data.text_budget + 2
    if TEXT in sides and longest > config.model.text.max_position_embeddings:
        raise UserError(
            f"config.data.text_budget {config.data.text_budget} with its two special tokens exceeds "
            f"config.model.text.max_position_embeddings {config.model.text.max_position_embeddings}"
        )


def _start_from(run_dir: str, init: Callable, part: str, knob: str) -> dict[str, Any]:
    """The parameters below ``part`` of a run or an import, as host arrays."""
    params, expected = load_params(run_dir)[0], jax.eval_shape(init, jax.random.key(0))
    if part not in params or part not in expected:
        where = run_dir if part not in params else "a model of this objective"
        raise UserError(f"{knob} = {run_dir}: {where} has no {part}")
    given, needed = _shapes(params[part]), _shapes(expected[part])
    if given != needed:
        name = sorted(set(given.items()) ^ set(needed.items()))[0][0]
        raise UserError(
            f"{knob}: the {part} in {run_dir} does not fit config.model: {name} is "
            f"{given.get(name, 'absent')} there and {needed.get(name, 'absent')} here"
        )
    return jax.tree.map(np.asarray, params[part])


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}


def open_data(config: RunConfig) -> tuple[Dataset, Tokenizer]:
    """The data set of a run and its tokenizer."""
    dataset = open_dataset(config.data.path)
    return dataset, open_tokenizer(tokenizer_path(dataset.path, config.data))


def read_config(run_dir: str | pathlib.Path) -> RunConfig:
    """The configuration a run was made with."""
    return resolve(as_stored(read_object(pathlib.Path(run_dir) / CONFIG, "run configuration")))


def find_data(run_dir: str | os.PathLike, config: RunConfig) -> str | None:
    """The data set a run was trained on: the configured path, seen from here, or its location at the time.

    None when it is in neither place.
    """
    stated = [config.data.path]
    environment = storage.join(run_dir, ENVIRONMENT)
    if storage.size(environment) >= 0:
        data = read_object(environment, "run environment", storage.read).get("data", "")
        if not isinstance(data, str):
            raise UserError(f"run environment {environment}: data is {data!r}, not a path")
        stated.append(data)
    return next((path for path in stated if path and storage.size(storage.join(path, INFO)) >= 0), None)


def require_data(run_dir: str | os.PathLike, config: RunConfig) -> str:
    """``find_data``; UserError when the data set is not here."""
    path = find_data(run_dir, config)
    if path is None:
        raise UserError(
            f"{run_dir} was trained on data set {config.data.path}, which was not found: give one with --data"
        )
    return path


def run_tokenizer(run_dir: str | os.PathLike, config: RunConfig, data: storage.Location) -> Tokenizer:
    """The tokenizer of a run: the copy in its folder or, for runs without one, where it was during training.

    An imported encoder without a text side has no tokenizer of its own and takes that of the data set ``data``.

    Raises:
      UserError: it is in none of these places.
    """
    run_dir = pathlib.Path(run_dir)
    copy = next((run_dir / name for name in FILE_NAMES if (run_dir / name).is_file()), None)
    if copy is not None:
        return open_tokenizer(copy)
    if not (run_dir / ENVIRONMENT).exists():  # imported: its configuration names a data set that it never saw
        return open_tokenizer(tokenizer_path(data, dataclasses.replace(config.data, tokenizer="")))
    path = tokenizer_path(find_data(run_dir, config) or config.data.path, config.data)
    if path.is_file():
        return open_tokenizer(path)
    raise UserError(
        f"{run_dir} has no tokenizer of its own, and {path}, with which it was trained, is not here: copy that file to "
        f"{run_dir / (FILE_NAME if path.suffix == '.model' else path.name)}"
    )
