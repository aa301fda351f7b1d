"""Zipformer encoders from icefall's recipes, whose checkpoints come without their settings.

A state dict has ``encoder_embed.*`` and ``encoder.*``, named as in the reference, and the parts of a recogniser
(``decoder.*``, ``joiner.*``, ``ctc_output.*`` and so on). Sizes are read off the shapes; what shapes cannot
tell is taken from the recipe's defaults, or from a file with the keys of the reference's config.json.
"""

import pathlib
import re
from typing import Any

import numpy as np

from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json
from alp_jax.interop.formats import reference
from alp_jax.interop.formats.auden import encoder_alone
from alp_jax.interop.reading.foreign import Imported, Weights, described_by, load_weights

OWN = ("encoder_embed.", "encoder.", "model_batch_count")
HEAD_DIMS = {"query_head_dim": 32, "pos_head_dim": 4, "value_head_dim": 12}  # the recipe's defaults
FEATURE_DIM = 80
UNMASKED = (192, 192, 256, 256, 256, 192)
_STACK = re.compile(r"encoder\.encoders\.(\d+)\.(?:encoder\.)?layers\.(\d+)\.")


def read_checkpoint(
    source: pathlib.Path, *, settings: pathlib.Path | None, only_encoder: bool, allow_pickle: bool
) -> Imported:
    """The encoder of a checkpoint.

    Args:
      source: a folder with one of ``foreign.WEIGHTS``, or a file.
      settings: JSON file with settings that take precedence over what the shapes say.
      only_encoder: drop weights that are not the encoder's; without it such weights are an error.
      allow_pickle: also read pickles (``.pt``, ``.bin``), in a separate process.

    Raises:
      UserError: as ``auden.read_folder``; also sizes that the shapes do not determine.
    """
    weights = load_weights(source, allow_pickle=allow_pickle)
    others = tuple(sorted(name for name in weights.tensors if not name.startswith(OWN)))
    if others and not only_encoder:
        parts = ", ".join(sorted({name.split(".")[0] for name in others}))
        raise UserError(
            f"{weights.path} holds {len(others)} weights that are not the encoder's ({parts}): "
            "--only_encoder leaves them out"
        )
    own = {name: value for name, value in weights.tensors.items() if name not in others}
    weights = Weights(weights.path, own, {name: t for name, t in weights.converted.items() if name in own})
    given = {} if settings is None else read_json(settings, "encoder settings")
    if not isinstance(given, dict):
        raise UserError(f"encoder settings {settings} are not a JSON object")
    with described_by(settings or weights.path):
        values = {**TensorShapes(weights).settings(given), **given}
        reference.check_zipformer(values)
        return encoder_alone(weights, values)._replace(model_type="icefall", left_out=others)


class TensorShapes:
    """The sizes of a model, as the shapes of its state dict tell them."""

    def __init__(self, weights: Weights):
        self.path = weights.path
        self.shapes = {name: np.shape(value) for name, value in weights.tensors.items()}
        layers = {(int(m[1]), int(m[2])) for name in self.shapes if (m := _STACK.match(name))}
        stacks = {stack for stack, _ in layers}
        self.layers = [sum(stack == one for one, _ in layers) for stack in range(len(stacks))]
        if not layers or min(self.layers) == 0:
            raise UserError(f"{self.path} has no stacks of layers encoder.encoders.0, 1, ...: it is not a Zipformer")

    def size(self, name: str, axis: int) -> int:
        """The length of one axis of the tensor ``name``; UserError if it is missing or has no such axis."""
        if name not in self.shapes or len(self.shapes[name]) <= axis:
            raise UserError(f"{self.path} lacks {name}, or it is not of a Zipformer's shape")
        return self.shapes[name][axis]

    def factor(self, stack: int) -> int:
        """How much a stack downsamples time; 1 for a stack without a downsampling layer."""
        name = f"encoder.encoders.{stack}.downsample.bias"
        return self.size(name, 0) if name in self.shapes else 1

    def each(self, name: str, axis: int) -> list[int]:
        """A size in the first layer of every stack."""
        within = ["" if self.factor(stack) == 1 else "encoder." for stack in range(len(self.layers))]
        return [self.size(f"encoder.encoders.{i}.{inner}layers.0.{name}", axis) for i, inner in enumerate(within)]

    def settings(self, given: dict[str, Any]) -> dict[str, Any]:
        """The settings that the shapes tell, under the reference's names; heads and mel bins only if not ``given``.

        Raises:
          UserError: shapes that are not a Zipformer's, or that the recipe's defaults do not fit.
        """
        causal = any(name.endswith("chunkwise_conv_scale") for name in self.shapes)
        conv = "conv_module1.depthwise_conv" + ".chunkwise_conv" * causal
        dims = self.each("norm.bias", 0)
        default = len(dims) == len(UNMASKED) and all(u <= d for u, d in zip(UNMASKED, dims, strict=True))
        return {
            **({} if "num_heads" in given else self.heads()),
            **({} if "feature_dim" in given else {"feature_dim": self.bins()}),
            "output_downsampling_factor": self.size("encoder.downsample_output.bias", 0),
            "num_encoder_layers": self.layers,
            "downsampling_factor": [self.factor(stack) for stack in range(len(self.layers))],
            "encoder_dim": dims,
            "feedforward_dim": self.each("feed_forward2.in_proj.weight", 0),
            "cnn_module_kernel": self.each(f"{conv}.weight", 2),
            "pos_dim": self.each("self_attn_weights.linear_pos.weight", 1)[0],
            "encoder_unmasked_dim": list(UNMASKED) if default else dims,
            "causal": causal,
        }

    def heads(self) -> dict[str, list[int]]:
        """``num_heads`` of every stack and the dimensions of a head; UserError if shapes do not fit ``HEAD_DIMS``."""
        query, pos, value = HEAD_DIMS.values()
        counts = [rows // pos for rows in self.each("self_attn_weights.linear_pos.weight", 0)]
        expected = {
            "self_attn_weights.linear_pos.weight": pos,
            "self_attn_weights.in_proj.weight": 2 * query + pos,
            "self_attn1.in_proj.weight": value,
        }
        for name, rows in expected.items():
            if self.each(name, 0) != [count * rows for count in counts]:
                raise UserError(
                    f"{self.path}: the rows {self.each(name, 0)} of {name} do not come from heads of {HEAD_DIMS}: give "
                    f"--config with num_heads, {', '.join(HEAD_DIMS)}"
                )
        return {"num_heads": counts, **{name: [size] for name, size in HEAD_DIMS.items()}}

    def bins(self) -> int:
        """The number of mel bins; UserError unless the front end's shape is that of ``FEATURE_DIM`` bins."""
        columns = self.size("encoder_embed.out.weight", 1)
        after = ((FEATURE_DIM - 1) // 2 - 1) // 2 * reference.FRONTEND_CHANNELS[-1]
        if columns != after:
            raise UserError(
                f"{self.path}: encoder_embed.out.weight has {columns} columns, where {FEATURE_DIM} mel bins give "
                f"{after}: give --config with feature_dim"
            )
        return FEATURE_DIM
