"""Cases of the Zipformer's modules, forward and backward, with and without what is active in training only."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.golden.case import Case, Named
from alp_jax.golden.compare import Line, compare
from alp_jax.golden.module_case import Inputs, Recorded, check_function, check_module, swap
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
_LAYER, _REFERENCE_LAYER = "encoders/0/layers/0", "encoder.encoders.0.layers.0."


class Module(NamedTuple):
    """How cases of one kind of module are run.

    Fields:
      ours, theirs: where the module sits in our parameter tree and in the reference's names.
      make: builds it from the case's settings and a source of keys.
      arguments: (settings, inputs by name, x) -> the arguments that follow x in a call.
      clips: (inputs by name) -> recorded draws per clip.
      inward, outward: from the reference's axes to ours, and back.
    """

    ours: str
    theirs: str
    make: Callable[[dict, Any], Any]
    arguments: Callable[[dict, Inputs, jax.Array], tuple] = lambda c, inputs, x: ()
    clips: Callable[[Inputs], jax.Array | None] = lambda inputs: None
    inward: Callable[[jax.Array], jax.Array] = swap
    outward: Callable[[jax.Array], jax.Array] = swap


def check(case: Case) -> Iterator[Line]:
    """Output and gradients of a module, in training where the case says so."""
    io, module = case.tensors(), MODULES[case.config["kind"]]
    c = Named({**case.config, "width": io["in.grad_y"].shape[-1]}, case.config.path)

    def run(apply, params, inputs, draw_counts):
        x = module.inward(inputs["src_orig" if "src_orig" in inputs else "x"])
        train, clips_NB = None, module.clips(inputs)
        if c.get("train", clips_NB is not None):
            train = Recorded(draw_counts, c.get("batch_count", 0.0), num_clips=len(x), clips_NB=clips_NB)
        return module.outward(apply(params, x, *module.arguments(c, inputs, x), train))

    yield from check_module(case, lambda rngs: module.make(c, rngs), run, module.ours, module.theirs)
    if "out.lens" in io:
        yield compare(case.name, "out.lens", output_length(np.asarray(io["in.x_lens"])), io["out.lens"], 0)


def _with_certainty(c: dict, module: Any) -> Any:
    """The module with every drop off and its regularisers as likely as the case says."""
    return make_certain(module, c.get("regularisers_prob", 0.0))


def _frame_lengths(x_BTD: jax.Array, inputs: Inputs, chunk: int = -1) -> FrameLengths:
    num_clips, length = x_BTD.shape[:2]
    valid = ~inputs["key_padding_mask"] if "key_padding_mask" in inputs else jnp.ones((num_clips, length), bool)
    allowed = ~inputs["attn_mask"] if "attn_mask" in inputs else None
    return FrameLengths(valid, jnp.full(num_clips, length), allowed, (chunk,))


def _positions_and_lengths(c: dict, inputs: Inputs, x: jax.Array) -> tuple:
    return inputs["pos_emb"][0], _frame_lengths(x, inputs)


def _feedforward(c: dict, rngs: Any) -> FeedForward:
    return _with_certainty(c, FeedForward(c["embed_dim"], c["feedforward_dim"], rngs=rngs, dtype=jnp.float32))


def _self_attention(c: dict, rngs: Any) -> SelfAttention:
    sizes = (c["embed_dim"], c["num_heads"], c["value_head_dim"])
    module = _with_certainty(c, SelfAttention(*sizes, rngs=rngs, dtype=jnp.float32))
    if "whitening_limit_override" in c:
        module.whiten.limit = constant(c["whitening_limit_override"])
    return module


def _nonlin_attention(c: dict, rngs: Any) -> NonlinAttention:
    return _with_certainty(c, NonlinAttention(c["channels"], rngs=rngs, dtype=jnp.float32))


def _attention_weights(c: dict, rngs: Any) -> AttentionWeights:
    sizes = (c["embed_dim"], c["pos_dim"], c["num_heads"], c["query_head_dim"], c["pos_head_dim"])
    module = _with_certainty(c, AttentionWeights(*sizes, rngs=rngs, dtype=jnp.float32))
    module.pos_skip_rate = NEVER if c["use_pos_scores"] else constant(1.0)
    module.penalty_prob = constant(float(c["penalize_abs_values_gt"] == "on"))
    return module


def _convolution(c: dict, rngs: Any) -> ConvolutionModule:
    sizes = (c["channels"], c["kernel_size"], c["causal"])
    return _with_certainty(c, ConvolutionModule(*sizes, _FORMS, rngs=rngs, dtype=jnp.float32))


def _convolution_lengths(c: dict, inputs: Inputs, x: jax.Array) -> tuple:
    lengths = _frame_lengths(x, inputs, c.get("chunk_size", -1))
    if "key_padding_mask" in inputs:
        return (lengths,)
    return (lengths._replace(valid_BT=jnp.arange(x.shape[1]) < jnp.asarray(c["padding_lens"])[:, None]),)


def _bypass(c: dict, rngs: Any) -> Bypass:
    # not through _with_certainty: the skip rate at construction decides whether the module takes draws at all
    module = Bypass(c["width"], constant(c["skip_rate"]))
    module.limit.prob = constant(float(c["limit_param_value_active"]))
    return module


def _layer(c: dict, rngs: Any) -> ZipformerLayer:
    sizes, skip = {name: c[name] for name in _SIZES}, constant(c.get("bypass_skip_rate", 0.5))
    layer = ZipformerLayer(c["embed_dim"], c["pos_dim"], sizes, False, _FORMS, skip, rngs=rngs, dtype=jnp.float32)
    _with_certainty(c, layer)  # turns every rate off, so those of the case come after it
    for name in c:
        if name == "bypass_skip_rate":
            layer.bypass.skip_rate = constant(c[name])
        elif name.endswith("_skip_rate"):
            setattr(layer, name, constant(c[name]))
    if c.get("const_attention"):
        layer.const_attention_rate = constant(1.0)
    return layer


def _layer_clips(inputs: Inputs) -> jax.Array | None:
    order = [f"u.{name}" for name in ("attention", "conv1", "ff2", "conv2", "ff3", "bypass")]  # in which ours draw
    return jnp.stack([inputs[name][:, 0] for name in order]) if order[0] in inputs else None


def _downsampled_stack(c: dict, rngs: Any) -> ZipformerStack:
    sizes, skips = {name: c[name] for name in _SIZES}, (NEVER,) * c["num_layers"]
    stack = (c["embed_dim"], c["factor"], c["pos_dim"], sizes, False, _FORMS, skips)
    return ZipformerStack(*stack, remat=False, rngs=rngs, dtype=jnp.float32)


def _convnext(c: dict, rngs: Any) -> ConvNeXt:
    module = _with_certainty(c, ConvNeXt(c["channels"], _FORMS, rngs=rngs, dtype=jnp.float32))
    module.skip_rate = constant(c["layerdrop_rate"])
    return module


def _subsampling(c: dict, rngs: Any) -> Conv2dSubsampling:
    sizes = (c["in_channels"], c["out_channels"], c["layer_channels"])
    return _with_certainty(c, Conv2dSubsampling(*sizes, _FORMS, rngs=rngs, dtype=jnp.float32))


def _of_layer(name: str, *given: Any, **more: Any) -> Module:
    return Module(f"{_LAYER}/{name}", f"{_REFERENCE_LAYER}{name}.", *given, **more)


_WHOLE_LAYER = Module(_LAYER, _REFERENCE_LAYER, _layer, _positions_and_lengths, _layer_clips)
MODULES = {
    "bypass": _of_layer("bypass", _bypass, lambda c, i, x: (swap(i["src"]),), lambda i: i["u"].T),
    "convolution_module": _of_layer("conv_module1", _convolution, _convolution_lengths),
    "encoder_layer": _WHOLE_LAYER,
    "encoder_layer_seq_dropout": _WHOLE_LAYER,
    "feedforward": _of_layer("feed_forward1", _feedforward),
    "nonlin_attention": _of_layer("nonlin_attention", _nonlin_attention, lambda c, i, x: (i["attn_weights"][0],)),
    "rel_pos_attn_weights": _of_layer("self_attn_weights", _attention_weights, _positions_and_lengths),
    "self_attention": _of_layer("self_attn1", _self_attention, lambda c, i, x: (swap(i["attn_weights"]),)),
    "downsampled_encoder": Module(
        "encoders/0", "encoder.encoders.0.", _downsampled_stack, lambda c, i, x: (_frame_lengths(x, i),)
    ),
    # the reference's axes are (clip, channel, time, bin) and (clip, time, bin)
    "convnext": Module(
        "encoder_embed/convnext",
        "encoder_embed.convnext.",
        _convnext,
        clips=lambda i: i["u"].reshape(1, -1) if "u" in i else None,
        inward=lambda x: jnp.transpose(x, (0, 2, 3, 1)),
        outward=lambda y: jnp.transpose(y, (0, 3, 1, 2)),
    ),
    "conv2d_subsampling": Module(
        "encoder_embed",
        "encoder_embed.",
        _subsampling,
        lambda c, i, x: (jnp.full(len(x), output_length(x.shape[1])),),
        inward=lambda x: x,
        outward=lambda y: y,
    ),
}


def check_downsample(case: Case) -> Iterator[Line]:
    """Downsampling, and upsampling under the prefix ``up.``."""
    factor = case.config["factor"]

    def run(apply, params, inputs, draw_counts):
        x = swap(inputs["x"])
        return swap(apply(params, x, jnp.full(len(x), x.shape[1])))

    path = ("encoders/0/downsample", "encoder.encoders.0.downsample.")
    yield from check_module(case, lambda rngs: Downsample(factor), run, *path)

    def run_up(_, inputs):
        return swap(upsample(swap(inputs["x"]), factor, factor * len(inputs["x"])))

    yield from check_function(case, run_up, prefix="up.")


CHECKS = {**dict.fromkeys(MODULES, check), "simple_downsample_upsample": check_downsample}
