"""One Zipformer layer, and a stack of them at one frame rate."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from alp_jax.models.forms import Forms
from alp_jax.models.gradients import swoosh_l
from alp_jax.models.init_prng import ParamKeys
from alp_jax.models.regularisers import (
    NEVER,
    Balancer,
    DrawCounts,
    Draws,
    Schedule,
    ValueLimit,
    Whiten,
    clip_mask,
    constant,
    keep_clips,
    line,
    shared_dropout,
    whitening_limit,
)
from alp_jax.models.transformer import linear, recompute_if, scaled_linear
from alp_jax.models.zipformer.frontend import BiasNorm
from alp_jax.models.zipformer.modules import (
    AttentionWeights,
    ConvolutionModule,
    FrameLengths,
    NonlinAttention,
    SelfAttention,
    relative_positions,
)
from alp_jax.parallel.mesh import constrain

Note = Callable[[str, jax.Array], None]  # called with the name and value of an intermediate result
DROPOUT = line(0.3, 0.1, 20000)
_SKIP = Schedule(((0.0, 0.2), (4000.0, 0.05), (16000.0, 0.0)))  # of attention and convolution modules
_SKIP_FEED_FORWARD = Schedule(((0.0, 0.1), (4000.0, 0.01), (50000.0, 0.0)))


def ignore(name: str, value: jax.Array) -> None:
    """The default ``Note``, which does nothing."""


class FeedForward(nnx.Module):
    """Linear, SwooshL, dropout with a mask shared over time, linear."""

    def __init__(self, width: int, hidden: int, swoosh_form: str = "own", *, rngs: nnx.Rngs, dtype):
        self.swoosh_form = swoosh_form
        self.in_proj = linear(width, hidden, rngs=rngs, dtype=dtype)
        self.out_proj = scaled_linear(hidden, width, 0.1, rngs=rngs, dtype=dtype)
        self.hidden_balancer = Balancer(min_positive=0.3, max_positive=1.0, min_abs=0.75, max_abs=5.0)
        self.dropout_rate = DROPOUT
        self.out_whiten = Whiten(whitening_limit(7.5))
        self.own_draws = DrawCounts(channels=hidden)

    def __call__(self, x_BTD: jax.Array, draws: Draws | None = None) -> jax.Array:
        hidden = constrain(self.in_proj(x_BTD), "batch", "time", "hidden")
        hidden = swoosh_l(self.hidden_balancer(hidden, draws), self.swoosh_form)
        return self.out_whiten(self.out_proj(shared_dropout(hidden, self.dropout_rate, draws)), draws)


class Bypass(nnx.Module):
    """original + (changed - original) * scale, a scale per channel.

    In training the scale is pushed towards its range, whose lower end is high at first so that everything learns; with
    probability ``skip_rate`` a whole clip keeps the original.
    """

    def __init__(self, width: int, skip_rate: Schedule = NEVER):
        self.bypass_scale = nnx.Param(jnp.full((width,), 0.5))
        self.limit = ValueLimit(line(0.9, 0.2, 20000), 1.0)
        self.skip_rate = skip_rate
        self.own_draws = DrawCounts(clips=0 if skip_rate.never else 1)

    def __call__(self, original_BTD: jax.Array, changed_BTD: jax.Array, draws: Draws | None = None) -> jax.Array:
        scale = self.limit(self.bypass_scale[...], draws).astype(original_BTD.dtype)
        if draws is not None and self.own_draws.clips:
            scale = scale * clip_mask(original_BTD, self.skip_rate, draws)
        return original_BTD + (changed_BTD - original_BTD) * scale


class ZipformerLayer(nnx.Module):
    """Attention weights computed once, then eight residual modules, a bypass half way, BiasNorm and a bypass.

    ``sizes`` holds num_heads, query_head_dim, pos_head_dim, value_head_dim, feedforward_dim, cnn_module_kernel.
    In training each module's result is left out for some clips, without rescaling the others; the three that use the
    attention weights are left out together. ``skip_rate`` is that of the whole layer.
    """

    own_draws = DrawCounts(scalars=1, clips=5)

    def __init__(
        self, width: int, pos_dim: int, sizes: dict, causal: bool, forms: Forms, skip_rate: Schedule, *, rngs, dtype
    ):
        kw = {"rngs": rngs, "dtype": dtype}
        heads, hidden, taps = sizes["num_heads"], sizes["feedforward_dim"], sizes["cnn_module_kernel"]
        self.bypass = Bypass(width, skip_rate)
        self.bypass_mid = Bypass(width)
        self.bypass_scale = nnx.Param(jnp.full((width,), 0.5))  # unused, but part of the reference's checkpoints
        self.self_attn_weights = AttentionWeights(
            width, pos_dim, heads, sizes["query_head_dim"], sizes["pos_head_dim"], forms.position, **kw
        )
        self.self_attn1 = SelfAttention(width, heads, sizes["value_head_dim"], **kw)
        self.self_attn2 = SelfAttention(width, heads, sizes["value_head_dim"], **kw)
        self.feed_forward1 = FeedForward(width, hidden * 3 // 4, forms.swoosh, **kw)
        self.feed_forward2 = FeedForward(width, hidden, forms.swoosh, **kw)
        self.feed_forward3 = FeedForward(width, hidden * 5 // 4, forms.swoosh, **kw)
        self.nonlin_attention = NonlinAttention(width, **kw)
        self.conv_module1 = ConvolutionModule(width, taps, causal, forms, **kw)
        self.conv_module2 = ConvolutionModule(width, taps, causal, forms, **kw)
        self.norm = BiasNorm(width, rngs=rngs)
        self.balancer_na = Balancer(
            min_positive=0.3, max_positive=0.7, min_abs=line(0.004, 0.02, 4000), max_abs=100.0, prob=0.05
        )
        self.balancer_ff2 = Balancer(
            min_positive=0.3, max_positive=0.7, min_abs=line(0.0, 0.1, 4000), max_abs=2.0, prob=0.05
        )
        self.balancer_ff3 = Balancer(
            min_positive=0.3, max_positive=0.7, min_abs=line(0.0, 0.2, 4000), max_abs=4.0, prob=0.05
        )
        self.balancer1 = Balancer(min_positive=0.45, max_positive=0.55, min_abs=0.2, max_abs=4.0)
        self.balancer2 = Balancer(min_positive=0.45, max_positive=0.55, min_abs=0.1, max_abs=4.0)
        self.whiten = Whiten(whitening_limit(4.0, 3.0))
        self.attention_skip_rate = self.conv_skip_rate = _SKIP
        self.ff2_skip_rate = self.ff3_skip_rate = _SKIP_FEED_FORWARD
        self.const_attention_rate = line(0.25, 0.025, 4000)

    def __call__(
        self,
        x_BTD: jax.Array,
        pos_ND: jax.Array,
        lengths: FrameLengths,
        draws: Draws | None = None,
        note: Note = ignore,
    ) -> jax.Array:
        """Same shape as ``x_BTD``; ``note`` sees the result of every module under its attribute name."""

        def run(name, *args):
            result = getattr(self, name)(*args, draws)
            note(name, result)
            return result

        # The order is the reference's, and that of the draws: modules take from shared pools when they are called. If
        # two lines change places they get each other's draws, and the golden vectors of training no longer match.
        note("in", x_BTD)
        x = x_BTD
        weights_BHTS = run("self_attn_weights", x, pos_ND, lengths)
        # drawn once, so that the three modules that use the weights are left out of the same clips
        attended = 1 if draws is None else clip_mask(x, self.attention_skip_rate, draws)
        x = x + run("feed_forward1", x)
        mixed = run("nonlin_attention", x, self._head_or_constant(weights_BHTS[:, 0], draws))
        x = x + self.balancer_na(mixed, draws) * attended
        x = x + run("self_attn1", x, weights_BHTS) * attended
        x = x + keep_clips(run("conv_module1", x, lengths), self.conv_skip_rate, draws)
        x = x + keep_clips(self.balancer_ff2(run("feed_forward2", x), draws), self.ff2_skip_rate, draws)
        x = run("bypass_mid", x_BTD, x)
        x = x + run("self_attn2", x, weights_BHTS) * attended
        x = x + keep_clips(run("conv_module2", x, lengths), self.conv_skip_rate, draws)
        x = x + keep_clips(self.balancer_ff3(run("feed_forward3", x), draws), self.ff3_skip_rate, draws)
        x = self.bypass(x_BTD, run("norm", self.balancer1(x, draws)), draws)
        x = self.whiten(self.balancer2(x, draws), draws)
        note("out", x)
        return x

    def _head_or_constant(self, weights_BTS: jax.Array, draws: Draws | None) -> jax.Array:
        """Sometimes the mean over all frames in sight instead of the weights, so that something like it is learnt."""
        if draws is None:
            return weights_BTS
        in_sight = (weights_BTS > 0).astype(weights_BTS.dtype)
        constant_BTS = in_sight / jnp.sum(in_sight, axis=-1, keepdims=True)
        return jnp.where(draws.draw() < draws.value(self.const_attention_rate), constant_BTS, weights_BTS)


class Downsample(nnx.Module):
    """Weighted mean of every ``factor`` frames; frames from the clip's end on repeat its last one."""

    def __init__(self, factor: int):
        self.bias = nnx.Param(jnp.zeros((factor,)))

    def __call__(self, x_BTD: jax.Array, end_B: jax.Array) -> jax.Array:
        """frames_BTD with T divided by the factor, rounded up."""
        num_clips, length, width = x_BTD.shape
        factor = self.bias.shape[0]
        last_B1D = jnp.take_along_axis(x_BTD, jnp.maximum(end_B - 1, 0)[:, None, None], axis=1)
        padded = jnp.pad(x_BTD, ((0, 0), (0, -length % factor), (0, 0)))
        # past a clip's end its last frame is repeated: zeros would pull the mean of its last window down
        inside = jnp.arange(padded.shape[1]) < end_B[:, None]
        windows = jnp.where(inside[:, :, None], padded, last_B1D).reshape(num_clips, -1, factor, width)
        weights = jax.nn.softmax(self.bias[...])[:, None].astype(x_BTD.dtype)
        return jnp.sum(windows * weights, axis=2)


def upsample(x_BTD: jax.Array, factor: int, length: int) -> jax.Array:
    """Every frame ``factor`` times, cut to ``length``."""
    num_clips, short, width = x_BTD.shape
    repeated = jnp.broadcast_to(x_BTD[:, :, None], (num_clips, short, factor, width))
    return repeated.reshape(num_clips, short * factor, width)[:, :length]


class ZipformerStack(nnx.Module):
    """Downsample, layers, upsample and a bypass around it all; without a factor only the layers.

    The layers start identical, as in the reference; ``skip_rates`` holds the schedule of each.
    """

    def __init__(
        self,
        width,
        factor,
        pos_dim,
        sizes,
        causal,
        forms: Forms,
        skip_rates: tuple[Schedule, ...],
        *,
        remat,
        rngs,
        dtype,
    ):
        self.factor, self.pos_dim, self.remat = factor, pos_dim, remat
        self.pos_dropout_rate = constant(0.15)
        # one key for all of them: the reference makes one layer and copies it
        key = rngs.params()
        self.layers = nnx.List(
            ZipformerLayer(width, pos_dim, sizes, causal, forms, skip_rate, rngs=ParamKeys(key), dtype=dtype)
            for skip_rate in skip_rates
        )
        if factor > 1:
            self.downsample = Downsample(factor)
            self.out_combiner = Bypass(width)

    def __call__(
        self,
        x_BTD: jax.Array,
        lengths: FrameLengths,
        draws: Draws | None = None,
        feature_mask_B1D: jax.Array | None = None,
        note: Note = ignore,
    ) -> jax.Array:
        """Same shape as ``x_BTD``; ``lengths`` is that of ``x_BTD``; the mask multiplies the input of every layer."""
        x = x_BTD
        if self.factor > 1:
            x = self.downsample(x, lengths.end_B)
            lengths = lengths.downsampled(self.factor)
            note("downsampled", x)
        pos_ND = jnp.asarray(relative_positions(x.shape[1], self.pos_dim))
        note("pos_emb", pos_ND)
        if draws is not None:
            rate = draws.value(self.pos_dropout_rate)
            pos_ND = pos_ND * (draws.draw_mask(pos_ND.shape) > rate) / (1.0 - rate)
        mask = 1 if feature_mask_B1D is None else feature_mask_B1D
        # Before every layer, not once: what a layer adds is not masked, and the next would see masked channels again.
        x = x * mask
        for i, layer in enumerate(self.layers):
            noted = ignore if note is ignore else lambda name, value, i=i: note(f"layer{i}.{name}", value)

            def run(x, pos_ND, layer=layer, noted=noted):
                return layer(x, pos_ND, lengths, draws, noted)

            x = constrain(recompute_if(self.remat, run)(x, pos_ND) * mask, "batch", "time", "width")
        if self.factor > 1:
            note("inner_out", x)
            x = self.out_combiner(x_BTD, upsample(x, self.factor, x_BTD.shape[1]), draws)
        note("out", x)
        return x
