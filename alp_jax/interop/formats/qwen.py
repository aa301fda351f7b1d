"""Qwen2.5 as published: a folder with config.json and safetensors, whole or in shards, becomes our parameters.

The names in the files are those of transformers' Qwen2ForCausalLM; linear weights there are [out, in]. Nothing but
safetensors is read, one file at a time.
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json
from alp_jax.interop.reading.checked_safetensors import read_safetensors
from alp_jax.models.functional import functionalize
from alp_jax.models.qwen import Qwen, QwenConfig

CONFIG, WHOLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(jnp.bfloat16)}
_HEAD, _TABLE = "lm_head.weight", "model.embed_tokens.weight"
# What a config.json may say of itself only in one way, because the model here has no other.
_FIXED = {"hidden_act": "silu", "use_sliding_window": False, "attention_dropout": 0.0}


class LoadedQwen(NamedTuple):
    """A language model ready for ``functionalize``'s apply.

    Fields:
      config: its sizes.
      params: nested dictionaries in the type that was asked for.
    """

    config: QwenConfig
    params: dict[str, Any]


def read_config(folder: pathlib.Path) -> QwenConfig:
    """The sizes in a folder's config.json.

    Raises:
      UserError: it is missing or damaged, of another model, or asks for what the model here does not do.
    """
    path = pathlib.Path(folder) / CONFIG
    values = read_json(path, "model configuration")
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind != "qwen2":
        raise UserError(f"{path} has model_type {kind!r}; Qwen2.5 has 'qwen2'")
    for name, only in _FIXED.items():
        if values.get(name, only) != only:
            raise UserError(f"{path}: {name} = {values[name]!r} is not supported, only {only!r}")
    rope = values.get("rope_parameters") or {}
    scaling = values.get("rope_scaling") or rope
    if scaling.get("rope_type", scaling.get("type", "default")) != "default":
        raise UserError(f"{path}: scaled rotary positions ({scaling}) are not supported")
    found = {"rope_theta": rope.get("rope_theta", values.get("rope_theta"))}
    for field in dataclasses.fields(QwenConfig):
        value = found.get(field.name, values.get(field.name))
        if value is None and field.default is dataclasses.MISSING:
            raise UserError(f"{path} lacks {field.name}")
        value = field.default if value is None else value
        if type(value) is not field.type and not (field.type is float and type(value) is int):
            raise UserError(f"{path}: {field.name} = {value!r} is no {field.type.__name__}")
        found[field.name] = value
    config = QwenConfig(**found)
    try:
        config.check()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if values.get("head_dim") not in (None, config.head_size):
        raise UserError(f"{path}: head_dim = {values['head_dim']}, but hidden_size says {config.head_size}")
    return config


def published_name(path: tuple[str, ...]) -> str:
    """The name of one of our parameters in published files."""
    *module, leaf = path
    last = {"kernel": "weight", "embedding": "weight", "scale": "weight"}.get(leaf, leaf)
    return ".".join([*([] if module[0] == "lm_head" else ["model"]), *module, last])


def _files(folder: pathlib.Path) -> dict[str, set[str] | None]:
    """The files with weights, and the tensors that each must hold (None: not stated).

    Raises:
      UserError: there are none, only pickles, or the index is damaged or names what is no file of the folder.
    """
    if (folder / INDEX).exists():
        path = folder / INDEX
        index = read_json(path, "index of weights")
        table = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(table, dict) or not table:
            raise UserError(f"{path} has no weight_map")
        shards: dict[str, set[str] | None] = {}
        for name, file in table.items():
            if not isinstance(file, str) or pathlib.PurePath(file).name != file or not file.endswith(".safetensors"):
                raise UserError(
                    f"{path}: {name} is said to be in {str(file)[:80]!r}, which is no safetensors file here"
                )
            shards.setdefault(file, set()).add(name)
        return dict(sorted(shards.items()))
    if (folder / WHOLE).exists():
        return {WHOLE: None}
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    if pickles:
        raise UserError(
            f"{folder} has its weights as a pickle ({pickles[0]}), which can run code: take {WHOLE} instead"
        )
    raise UserError(f"{folder} has neither {WHOLE} nor {INDEX}")


def _tensors(folder: pathlib.Path) -> Iterator[tuple[pathlib.Path, str, np.ndarray]]:
    """(file, name, float32 array) of every tensor; a file is forgotten before the next is read."""
    for file, wanted in _files(folder).items():
        path = folder / file
        tensors = read_safetensors(path).tensors
        if wanted is not None and wanted != tensors.keys():
            odd = sorted(wanted ^ tensors.keys())
            raise UserError(f"{path} does not hold what {INDEX} says: {', '.join(odd)}")
        for name in sorted(tensors):
            yield path, name, tensors.pop(name)


def load_qwen(folder: str | pathlib.Path, dtype: str = "float32") -> LoadedQwen:
    """Reads a model folder.

    Args:
      dtype: what the parameters are kept in: one of DTYPES; published weights are bfloat16, so that loses nothing.

    Raises:
      UserError: what ``read_config`` and ``read_safetensors`` raise; tensors that are missing, unexpected, of another
        shape, no floating point numbers or not finite, all of the missing and unexpected ones by name.
    """
    folder = pathlib.Path(folder)
    config, kind = read_config(folder), DTYPES[dtype]
    init, _ = functionalize(lambda rngs: Qwen(config, rngs=rngs))
    leaves, structure = jax.tree.flatten_with_path(jax.eval_shape(init, jax.random.key(0)))
    expected = {published_name(tuple(key.key for key in path)): (path, leaf.shape) for path, leaf in leaves}
    found, unexpected, table, head = {}, [], None, None
    for path, name, value in _tensors(folder):
        if name == _HEAD and config.tie_word_embeddings:
            head = value
            continue
        if name not in expected:
            unexpected.append(name)
            continue
        where, shape = expected[name]
        found[name] = _converted(path, name, value, shape, where[-1].key == "kernel", kind)
        if name == _TABLE:
            table = value
    missing = sorted(set(expected) - set(found))
    if missing or unexpected:
        parts = [("lacks", missing), ("has what the model has not:", sorted(unexpected))]
        raise UserError(f"{folder} " + " and ".join(f"{what} {', '.join(names)}" for what, names in parts if names))
    if head is not None and not np.array_equal(head, table):
        raise UserError(f"{folder}: {_HEAD} differs from {_TABLE}, though tie_word_embeddings says that they are one")
    params = jax.tree.unflatten(structure, [found[name] for name in expected])
    return LoadedQwen(config, params)


def _converted(path, name: str, value: np.ndarray, shape: tuple, is_kernel: bool, kind: np.dtype) -> np.ndarray:
    """A tensor as the model has it: linear weights the other way round, in the type ``kind``."""
    if value.dtype != np.float32:
        raise UserError(f"{path}: {name} holds {value.dtype} numbers, which no weight of the model does")
    if not np.isfinite(value).all():
        raise UserError(f"{path}: {name} holds numbers that are not finite")
    stored = shape[::-1] if is_kernel else shape
    if value.shape != stored:
        raise UserError(f"{path}: {name} has shape {list(value.shape)}; config.json asks for {list(stored)}")
    return np.ascontiguousarray(value.T if is_kernel else value, kind)
