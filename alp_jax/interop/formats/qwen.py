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
from alp_jax.interop.reading.checked_safetensors import read_safetensors
from alp_jax.interop.reading.foreign import read_settings, require_names, shards
from alp_jax.models.functional import functionalize
from alp_jax.models.qwen import Qwen, QwenConfig

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(jnp.bfloat16)}
_HEAD, _TABLE = "lm_head.weight", "model.embed_tokens.weight"
# Settings of config.json that may have only one value, because the model here supports no other.
_FIXED = {"hidden_act": "silu", "use_sliding_window": False, "attention_dropout": 0.0}


class LoadedQwen(NamedTuple):
    """The sizes of a language model, and its parameters in the type that was asked for."""

    config: QwenConfig
    params: dict[str, Any]


def read_config(folder: pathlib.Path) -> QwenConfig:
    """The sizes in a folder's config.json.

    Raises:
      UserError: it is missing or damaged, of another model, or asks for what the model here does not support.
    """
    path, values, kind = read_settings(folder)
    if kind != "qwen2":
        raise UserError(f"{path} has model_type {kind!r}; Qwen2.5 has 'qwen2'")
    for name, only in _FIXED.items():
        if values.get(name, only) != only:
            raise UserError(f"{path}: {name} = {values[name]!r} is not supported, only {only!r}")
    rope = values.get("rope_parameters") or {}
    scaling = values.get("rope_scaling") or rope
    if scaling.get("rope_type", scaling.get("type", "default")) != "default":
        raise UserError(f"{path}: scaled rotary positions ({scaling}) are not supported")
    sizes = {"rope_theta": rope.get("rope_theta", values.get("rope_theta"))}
    for field in dataclasses.fields(QwenConfig):
        value = sizes.get(field.name, values.get(field.name))
        if value is None and field.default is dataclasses.MISSING:
            raise UserError(f"{path} lacks {field.name}")
        value = field.default if value is None else value
        if type(value) is not field.type and not (field.type is float and type(value) is int):
            raise UserError(f"{path}: {field.name} = {value!r} must be of type {field.type.__name__}")
        sizes[field.name] = value
    config = QwenConfig(**sizes)
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


def _files(folder: pathlib.Path) -> dict[pathlib.Path, set[str] | None]:
    """The files with weights, and the tensors that each must hold (None: not stated).

    Raises:
      UserError: there are none, only pickles, or the index is damaged or names anything but files of the folder.
    """
    if (folder / INDEX).exists():
        return shards(folder / INDEX)
    if (folder / WHOLE).exists():
        return {folder / WHOLE: None}
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
    if pickles:
        raise UserError(
            f"{folder} has its weights as a pickle ({pickles[0]}), which can run code: take {WHOLE} instead"
        )
    raise UserError(f"{folder} has neither {WHOLE} nor {INDEX}")


def _tensors(folder: pathlib.Path) -> Iterator[tuple[pathlib.Path, str, np.ndarray]]:
    """(file, name, float32 array) of every tensor; one file's tensors are dropped before the next is read."""
    for path, names in _files(folder).items():
        stored = read_safetensors(path)
        if names is not None:
            require_names(path, stored, names, folder / INDEX)
        for name in sorted(stored.tensors):
            yield path, name, stored.tensors.pop(name)


def load_qwen(folder: str | pathlib.Path, dtype: str = "float32") -> LoadedQwen:
    """Reads a model folder.

    Args:
      dtype: of the parameters, one of DTYPES; published weights are bfloat16, so bfloat16 loses nothing.

    Raises:
      UserError: as ``read_config`` and ``read_safetensors``; also tensors that are missing, unexpected, of another
        shape, not floating point or not finite. Every missing or unexpected one is named.
    """
    folder = pathlib.Path(folder)
    config, kind = read_config(folder), DTYPES[dtype]
    init, _ = functionalize(lambda rngs: Qwen(config, rngs=rngs))
    leaves, structure = jax.tree.flatten_with_path(jax.eval_shape(init, jax.random.key(0)))
    expected = {published_name(tuple(key.key for key in path)): (path, leaf.shape) for path, leaf in leaves}
    tensors, unexpected, table, head = {}, [], None, None
    for path, name, value in _tensors(folder):
        if name == _HEAD and config.tie_word_embeddings:
            head = value
            continue
        if name not in expected:
            unexpected.append(name)
            continue
        key_path, shape = expected[name]
        tensors[name] = _converted(path, name, value, shape, key_path[-1].key == "kernel", kind)
        if name == _TABLE:
            table = value
    missing = sorted(set(expected) - set(tensors))
    if missing or unexpected:
        parts = [("lacks", missing), ("has weights that the model lacks:", sorted(unexpected))]
        raise UserError(f"{folder} " + " and ".join(f"{text} {', '.join(names)}" for text, names in parts if names))
    if head is not None and not np.array_equal(head, table):
        raise UserError(f"{folder}: {_HEAD} differs from {_TABLE}, though tie_word_embeddings says that they are one")
    params = jax.tree.unflatten(structure, [tensors[name] for name in expected])
    return LoadedQwen(config, params)


def _converted(path, name: str, value: np.ndarray, shape: tuple, is_kernel: bool, kind: np.dtype) -> np.ndarray:
    """A tensor as the model stores it: linear weights transposed, converted to the type ``kind``."""
    if value.dtype != np.float32:
        raise UserError(f"{path}: {name} holds {value.dtype} numbers; no weight of the model has that type")
    if not np.isfinite(value).all():
        raise UserError(f"{path}: {name} holds numbers that are not finite")
    stored = shape[::-1] if is_kernel else shape
    if value.shape != stored:
        raise UserError(f"{path}: {name} has shape {list(value.shape)}; config.json asks for {list(stored)}")
    return np.ascontiguousarray(value.T if is_kernel else value, kind)
