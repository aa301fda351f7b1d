"""The small adapter between a frozen encoder and a frozen language model, the only part that is trained.

It is the projector of SLAM-ASR (Ma et al. 2024, "An Embarrassingly Simple Approach for LLM with Strong ASR Capacity"):
a few neighbouring frames are concatenated and go through two linear layers with a ReLU between. Frames are standardised
with statistics of the training sounds, and the output is scaled to the size of the language model's embeddings.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from alp_jax.core import files
from alp_jax.core.errors import UserError
from alp_jax.core.names import check_positive

WEIGHTS, SETTINGS = "adapter.safetensors", "adapter.json"


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """The sizes of an adapter.

    Attributes:
      frame_width, model_width: widths of the encoder's frames and of the language model.
      stack: number of neighbouring frames that become one position.
      hidden: width between the two layers.
      max_frames: sounds with more frames are reduced to this many by averaging neighbours.
    """

    frame_width: int
    model_width: int
    stack: int = 5
    hidden: int = 2048
    max_frames: int = 500

    def __post_init__(self):
        check_positive("adapter", **dataclasses.asdict(self))

    @property
    def positions(self) -> int:
        """The number of positions that the longest sound takes."""
        return -(-self.max_frames // self.stack)


@dataclasses.dataclass(frozen=True)
class Adapter:
    """A trained adapter.

    Attributes:
      params: ``first`` and ``second``, each ``kernel`` and ``bias``; float32.
      fixed: ``mean`` and ``std`` of frames (D), and ``size``, the root mean square of the language model's embeddings.
      origin: what it was trained with and on; an adapter works with its own encoder and language model only.
    """

    config: AdapterConfig
    params: dict[str, dict[str, Any]]
    fixed: dict[str, Any]
    origin: dict[str, Any]


def init(key: jax.Array, config: AdapterConfig) -> dict[str, dict[str, jax.Array]]:
    """Initial parameters: normal weights of variance 2 / inputs, then 1 / inputs in the second layer; zero bias."""

    def layer(key, rows, columns, gain):
        kernel = jax.random.normal(key, (rows, columns)) * (gain / rows) ** 0.5
        return {"kernel": kernel, "bias": jnp.zeros(columns)}

    first, second = jax.random.split(key)
    return {
        "first": layer(first, config.stack * config.frame_width, config.hidden, 2.0),
        "second": layer(second, config.hidden, config.model_width, 1.0),
    }


def apply(params: dict, fixed: dict, frames_BTD: jax.Array, len_B: jax.Array, stack: int) -> jax.Array:
    """x_BPW, float32, P = ceil(T / stack); positions of a row from ceil(len / stack) on are meaningless."""
    batch, length, width = frames_BTD.shape
    frames_BTD = (frames_BTD - fixed["mean"]) / fixed["std"]
    frames_BTD = jnp.where(jnp.arange(length)[:, None] < len_B[:, None, None], frames_BTD, 0.0)
    stacked = jnp.pad(frames_BTD, ((0, 0), (0, -length % stack), (0, 0))).reshape(batch, -1, stack * width)
    hidden = jax.nn.relu(stacked @ params["first"]["kernel"] + params["first"]["bias"])
    return fixed["size"] * (hidden @ params["second"]["kernel"] + params["second"]["bias"])


def positions(len_B: np.ndarray, stack: int) -> np.ndarray:
    """The number of positions that sounds of ``len_B`` frames take."""
    return -(-np.asarray(len_B) // stack)


def save_adapter(folder: str | pathlib.Path, adapter: Adapter) -> None:
    """Writes weights, then settings: a folder with settings is complete."""
    folder = pathlib.Path(folder)
    tensors = {f"{layer}.{name}": value for layer, own in adapter.params.items() for name, value in own.items()}
    tensors |= {f"fixed.{name}": value for name, value in adapter.fixed.items()}
    files.write_bytes(folder / WEIGHTS, save({name: np.asarray(value, np.float32) for name, value in tensors.items()}))
    files.write_json(folder / SETTINGS, {"config": dataclasses.asdict(adapter.config), "origin": adapter.origin})


def load_adapter(folder: str | pathlib.Path) -> Adapter:
    """Reads what ``save_adapter`` wrote. Raises UserError if anything is missing, damaged or of another shape."""
    folder = pathlib.Path(folder)
    settings = files.read_json(folder / SETTINGS, "adapter")
    try:
        config, origin = AdapterConfig(**settings["config"]), settings["origin"]
        if not isinstance(origin, dict):
            raise TypeError(f"origin is {origin!r}, not a JSON object")
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        raise UserError(f"adapter {folder} is damaged: {type(error).__name__}: {error}") from None
    frame = (config.frame_width,)
    fixed = {"mean": frame, "std": frame, "size": ()}
    shapes = {f"fixed.{name}": shape for name, shape in fixed.items()}
    like = jax.eval_shape(lambda: init(jax.random.key(0), config))
    shapes |= {f"{layer}.{name}": value.shape for layer, own in like.items() for name, value in own.items()}
    if shapes != {name: value.shape for name, value in tensors.items()}:
        raise UserError(f"adapter {folder}: {WEIGHTS} does not hold the tensors that {SETTINGS} asks for")
    params = {layer: {name: tensors[f"{layer}.{name}"] for name in own} for layer, own in like.items()}
    return Adapter(config, params, {name: tensors[f"fixed.{name}"] for name in fixed}, origin)
