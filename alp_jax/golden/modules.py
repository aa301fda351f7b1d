"""Cases of the Zipformer's modules, forward and backward, with and without what is active in training only."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.golden.case import Case
from alp_jax.golden.compare import Line, compare
from alp_jax.golden.module_case import check_function, check_module, swap
from alp_jax.golden.training import Recorded
from alp_jax.models.forms import Forms
from alp_jax.models.regularisers import NEVER, constant, make_certain
from alp_jax.models.zipformer.frontend import Conv2dSubsampling, ConvNeXt, output_length
from alp_jax.models.zipformer.layer import Bypass, Downsample, FeedForward, ZipformerLayer, ZipformerStack, upsample
from alp_jax.models.zipformer.modules import (
    AttentionWeights,
    ConvolutionModule,
    FrameLengths,
    NonlinAttention,
    SelfAttention,
)

_SIZES = ("num_heads", "query_head_dim", "pos_head_dim", "value_head_dim", "feedforward_dim", "cnn_module_kernel")
_FORMS = Forms(depthwise="shift", frontend="shift").resolved()
_LAYER = ("encoders/0/layers/0", "encoder.encoders.0.layers.0.")


def _place(name: str) -> tuple[str, str]:
    """Where a module of a layer sits in our tree and in the reference's names."""
    return f"{_LAYER[0]}/{name}", f"{_LAYER[1]}{name}."


def _forced(case: Case, make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda rngs: make_certain(make(rngs), dict(case.config).get("regularisers_prob", 0.0))


def _draws(case: Case, draw_counts, num_clips: int, clips_NB: Any = None) -> Recorded | None:
    if not dict(case.config).get("train", clips_NB is not None):
        return None
    return Recorded(draw_counts, dict(case.config).get("batch_count", 0.0), num_clips=num_clips, clips_NB=clips_NB)


def _frame_lengths(x_BTD: jax.Array, inputs: dict, chunk: int = -1) -> FrameLengths:
    num_clips, length = x_BTD.shape[:2]
    valid = ~inputs["key_padding_mask"] if "key_padding_mask" in inputs else jnp.ones((num_clips, length), bool)
    allowed = ~inputs["attn_mask"] if "attn_mask" in inputs else None
    return FrameLengths(valid, jnp.full(num_clips, length), allowed, (chunk,))


def check_feedforward(case: Case) -> Iterator[Line]:
    width, hidden = case.config["embed_dim"], case.config["feedforward_dim"]

    def run(apply, params, inputs, draw_counts):
        x = swap(inputs["x"])
        return swap(apply(params, x, _draws(case, draw_counts, len(x))))

    make = _forced(case, lambda rngs: FeedForward(width, hidden, rngs=rngs, dtype=jnp.float32))
    yield from check_module(case, make, run, *_place("feed_forward1"))


def check_self_attention(case: Case) -> Iterator[Line]:
    c = case.config

    def make(rngs):
        module = SelfAttention(c["embed_dim"], c["num_heads"], c["value_head_dim"], rngs=rngs, dtype=jnp.float32)
        if "whitening_limit_override" in c:
            module.whiten.limit = constant(c["whitening_limit_override"])
        return module

    def run(apply, params, inputs, draw_counts):
        x = swap(inputs["x"])
        return swap(apply(params, x, swap(inputs["attn_weights"]), _draws(case, draw_counts, len(x))))

    yield from check_module(case, _forced(case, make), run, *_place("self_attn1"))


def check_nonlin_attention(case: Case) -> Iterator[Line]:
    def run(apply, params, inputs, draw_counts):
        x = swap(inputs["x"])
        return swap(apply(params, x, inputs["attn_weights"][0], _draws(case, draw_counts, len(x))))

    width = case.config["channels"]
    make = _forced(case, lambda rngs: NonlinAttention(width, rngs=rngs, dtype=jnp.float32))
    yield from check_module(case, make, run, *_place("nonlin_attention"))


def check_attention_weights(case: Case) -> Iterator[Line]:
    c = case.config

    def make(rngs):
        dims = (c["embed_dim"], c["pos_dim"], c["num_heads"], c["query_head_dim"], c["pos_head_dim"])
        module = make_certain(AttentionWeights(*dims, rngs=rngs, dtype=jnp.float32), c["regularisers_prob"])
        module.pos_skip_rate = NEVER if c["use_pos_scores"] else constant(1.0)
        module.penalty_prob = constant(float(c["penalize_abs_values_gt"] == "on"))
        return module

    def run(apply, params, inputs, draw_counts):
        x = swap(inputs["x"])
        return swap(
            apply(params, x, inputs["pos_emb"][0], _frame_lengths(x, inputs), _draws(case, draw_counts, len(x)))
        )

    yield from check_module(case, make, run, *_place("self_attn_weights"))


def check_convolution(case: Case) -> Iterator[Line]:
    c = case.config

    def run(apply, params, inputs, draw_counts):
        x = swap(inputs["x"])
        lengths = _frame_lengths(x, inputs, dict(c).get("chunk_size", -1))
        if "key_padding_mask" not in inputs:
            lengths = lengths._replace(valid_BT=jnp.arange(x.shape[1]) < jnp.asarray(c["padding_lens"])[:, None])
        return swap(apply(params, x, lengths, _draws(case, draw_counts, len(x))))

    def make(rngs):
        return ConvolutionModule(c["channels"], c["kernel_size"], c["causal"], _FORMS, rngs=rngs, dtype=jnp.float32)

    yield from check_module(case, _forced(case, make), run, *_place("conv_module1"))


def check_bypass(case: Case) -> Iterator[Line]:
    c = case.config

    def make(rngs):
        module = Bypass(case.tensors("weights")["bypass_scale"].size, constant(c["skip_rate"]))
        module.limit.prob = constant(float(c["limit_param_value_active"]))
        return module

    def run(apply, params, inputs, draw_counts):
        original, changed = swap(inputs["src_orig"]), swap(inputs["src"])
        clips_NB = inputs["u"].T if draw_counts.clips else jnp.zeros((0, len(changed)))
        return swap(apply(params, original, changed, _draws(case, draw_counts, len(changed), clips_NB)))

    yield from check_module(case, make, run, *_place("bypass"))


def check_layer(case: Case) -> Iterator[Line]:
    c = dict(case.config)
    rates = {name: c[name] for name in c if name.endswith("_skip_rate")}

    def make(rngs):
        sizes = {name: c[name] for name in _SIZES}
        skip = constant(c.get("bypass_skip_rate", 0.5))
        layer = ZipformerLayer(c["embed_dim"], c["pos_dim"], sizes, False, _FORMS, skip, rngs=rngs, dtype=jnp.float32)
        make_certain(layer, c.get("regularisers_prob", 0.0))
        for name, rate in rates.items():
            if name == "bypass_skip_rate":
                layer.bypass.skip_rate = constant(rate)
            else:
                setattr(layer, name, constant(rate))
        if c.get("const_attention"):
            layer.const_attention_rate = constant(1.0)
        return layer

    def run(apply, params, inputs, draw_counts):
        x = swap(inputs["x"])
        order = [f"u.{name}" for name in ("attention", "conv1", "ff2", "conv2", "ff3", "bypass")]
        clips_NB = jnp.stack([inputs[name][:, 0] for name in order]) if order[0] in inputs else None
        return swap(
            apply(
                params, x, inputs["pos_emb"][0], _frame_lengths(x, inputs), _draws(case, draw_counts, len(x), clips_NB)
            )
        )

    yield from check_module(case, make, run, *_LAYER)


def check_downsampled_stack(case: Case) -> Iterator[Line]:
    c = case.config

    def make(rngs):
        sizes = {name: c[name] for name in _SIZES}
        skips = (NEVER,) * c["num_layers"]
        stack = (c["embed_dim"], c["factor"], c["pos_dim"], sizes, False, _FORMS, skips)
        return ZipformerStack(*stack, remat=False, rngs=rngs, dtype=jnp.float32)

    def run(apply, params, inputs, draw_counts):
        x = swap(inputs["x"])
        return swap(apply(params, x, _frame_lengths(x, inputs)))

    yield from check_module(case, make, run, "encoders/0", "encoder.encoders.0.")


def check_downsample(case: Case) -> Iterator[Line]:
    """Downsampling, and upsampling under the prefix ``up.``."""
    factor = case.config["factor"]

    def run(apply, params, inputs, draw_counts):
        x = swap(inputs["x"])
        return swap(apply(params, x, jnp.full(len(x), x.shape[1])))

    place = ("encoders/0/downsample", "encoder.encoders.0.downsample.")
    yield from check_module(case, lambda rngs: Downsample(factor), run, *place)

    def run_up(_, inputs):
        return swap(upsample(swap(inputs["x"]), factor, factor * len(inputs["x"])))

    yield from check_function(case, run_up, prefix="up.")


def check_convnext(case: Case) -> Iterator[Line]:
    """The reference's axes are (clip, channel, time, bin)."""
    c = case.config

    def make(rngs):
        module = make_certain(ConvNeXt(c["channels"], _FORMS, rngs=rngs, dtype=jnp.float32), c["regularisers_prob"])
        module.skip_rate = constant(c["layerdrop_rate"])
        return module

    def run(apply, params, inputs, draw_counts):
        x = jnp.transpose(inputs["x"], (0, 2, 3, 1))
        clips_NB = inputs["u"].reshape(1, -1) if "u" in inputs else None
        train = _draws(case, draw_counts, len(x), clips_NB)
        return jnp.transpose(apply(params, x, train), (0, 3, 1, 2))

    yield from check_module(case, make, run, "encoder_embed/convnext", "encoder_embed.convnext.")


def check_subsampling(case: Case) -> Iterator[Line]:
    c = case.config

    def make(rngs):
        sizes = (c["in_channels"], c["out_channels"], c["layer_channels"], _FORMS)
        return Conv2dSubsampling(*sizes, rngs=rngs, dtype=jnp.float32)

    def run(apply, params, inputs, draw_counts):
        num_clips, length = inputs["x"].shape[:2]
        end_B = jnp.full(num_clips, output_length(length))
        return apply(params, inputs["x"], end_B, _draws(case, draw_counts, num_clips))

    yield from check_module(case, _forced(case, make), run, "encoder_embed", "encoder_embed.")
    io = case.tensors()
    yield compare(case.name, "out.lens", output_length(np.asarray(io["in.x_lens"])), io["out.lens"], 0)
