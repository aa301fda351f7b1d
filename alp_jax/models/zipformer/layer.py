"""One Zipformer layer."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from alp_jax.models.forms import Forms
from alp_jax.models.layers import BiasNorm, scaled_linear, swoosh_l
from alp_jax.models.regularisers import Balancer, ValueLimit, Whiten, whitening_limit
from alp_jax.models.schedule import NEVER, Schedule, line
from alp_jax.models.training import Sites, Training, clip_mask, keep_clips, shared_dropout
from alp_jax.models.transformer import linear
from alp_jax.models.zipformer.attention import AttentionWeights, NonlinAttention, SelfAttention
from alp_jax.models.zipformer.convolution import ConvolutionModule
from alp_jax.models.zipformer.frame_lengths import Extent
from alp_jax.parallel.activations import constrain

Note = Callable[[str, jax.Array], None]  # is shown intermediate results by name


DROPOUT = line(0.3, 0.1, 20000)
_SKIP = Schedule(((0.0, 0.2), (4000.0, 0.05), (16000.0, 0.0)))  # of attention and convolution modules
_SKIP_FEED_FORWARD = Schedule(((0.0, 0.1), (4000.0, 0.01), (50000.0, 0.0)))


def ignore(name: str, value: jax.Array) -> None:
    """The ``Note`` of ordinary use."""


class FeedForward(nnx.Module):
    """Linear, SwooshL, dropout with a mask shared over time, linear."""

    def __init__(self, width: int, hidden: int, swoosh_form: str = "own", *, rngs: nnx.Rngs, dtype):
        self.swoosh_form = swoosh_form
        self.in_proj = linear(width, hidden, rngs=rngs, dtype=dtype)
        self.out_proj = scaled_linear(hidden, width, 0.1, rngs=rngs, dtype=dtype)
        self.hidden_balancer = Balancer(min_positive=0.3, max_positive=1.0, min_abs=0.75, max_abs=5.0)
        self.dropout_rate = DROPOUT
        self.out_whiten = Whiten(whitening_limit(7.5))
        self.own_sites = Sites(channels=hidden)

    def __call__(self, x_BTD: jax.Array, train: Training | None = None) -> jax.Array:
        hidden = constrain(self.in_proj(x_BTD), "batch", "time", "hidden")
        hidden = swoosh_l(self.hidden_balancer(hidden, train), self.swoosh_form)
        return self.out_whiten(self.out_proj(shared_dropout(hidden, self.dropout_rate, train)), train)


class Bypass(nnx.Module):
    """original + (changed - original) * scale, a scale per channel.

    In training the scale is pushed towards its range, whose lower end is high at first so that everything learns, and
    with ``skip_rate`` whole clips keep the original.
    """

    def __init__(self, width: int, skip_rate: Schedule = NEVER):
        self.bypass_scale = nnx.Param(jnp.full((width,), 0.5))
        self.limit = ValueLimit(line(0.9, 0.2, 20000), 1.0)
        self.skip_rate = skip_rate
        self.own_sites = Sites(clips=0 if skip_rate.never else 1)

    def __call__(self, original_BTD: jax.Array, changed_BTD: jax.Array, train: Training | None = None) -> jax.Array:
        scale = self.limit(self.bypass_scale[...], train).astype(original_BTD.dtype)
        if train is not None and self.own_sites.clips:
            scale = scale * clip_mask(original_BTD, self.skip_rate, train)
        return original_BTD + (changed_BTD - original_BTD) * scale


class ZipformerLayer(nnx.Module):
    """Attention weights computed once, then eight residual modules, a bypass half way, BiasNorm and a bypass.

    ``sizes`` holds num_heads, query_head_dim, pos_head_dim, value_head_dim, feedforward_dim, cnn_module_kernel.
    In training each module's result is left out for some clips, without rescaling the others; the three that use the
    attention weights are left out together. ``skip_rate`` is that of the whole layer.
    """

    own_sites = Sites(scalars=1, clips=5)

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
        self, x_BTD: jax.Array, pos_ND: jax.Array, extent: Extent, train: Training | None = None, note: Note = ignore
    ) -> jax.Array:
        """Same shape as ``x_BTD``; ``note`` sees the result of every module under its attribute name."""

        def run(name, *args):
            result = getattr(self, name)(*args, train)
            note(name, result)
            return result

        note("in", x_BTD)
        x = x_BTD
        weights_BHTS = run("self_attn_weights", x, pos_ND, extent)
        attended = 1 if train is None else clip_mask(x, self.attention_skip_rate, train)
        x = x + run("feed_forward1", x)
        mixed = run("nonlin_attention", x, self._head_or_constant(weights_BHTS[:, 0], train))
        x = x + self.balancer_na(mixed, train) * attended
        x = x + run("self_attn1", x, weights_BHTS) * attended
        x = x + keep_clips(run("conv_module1", x, extent), self.conv_skip_rate, train)
        x = x + keep_clips(self.balancer_ff2(run("feed_forward2", x), train), self.ff2_skip_rate, train)
        x = run("bypass_mid", x_BTD, x)
        x = x + run("self_attn2", x, weights_BHTS) * attended
        x = x + keep_clips(run("conv_module2", x, extent), self.conv_skip_rate, train)
        x = x + keep_clips(self.balancer_ff3(run("feed_forward3", x), train), self.ff3_skip_rate, train)
        x = self.bypass(x_BTD, run("norm", self.balancer1(x, train)), train)
        x = self.whiten(self.balancer2(x, train), train)
        note("out", x)
        return x

    def _head_or_constant(self, weights_BTS: jax.Array, train: Training | None) -> jax.Array:
        """Sometimes the mean over all frames in sight instead of the weights, so that something like it is learnt."""
        if train is None:
            return weights_BTS
        in_sight = (weights_BTS > 0).astype(weights_BTS.dtype)
        constant_BTS = in_sight / jnp.sum(in_sight, axis=-1, keepdims=True)
        return jnp.where(train.draw() < train.value(self.const_attention_rate), constant_BTS, weights_BTS)
