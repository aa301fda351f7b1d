"""One Zipformer layer."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from alp_jax.models.layers import BiasNorm, scaled_linear, swoosh_l
from alp_jax.models.transformer import linear
from alp_jax.models.zipformer.attention import AttentionWeights, NonlinAttention, SelfAttention
from alp_jax.models.zipformer.convolution import ConvolutionModule
from alp_jax.models.zipformer.extent import Extent

Note = Callable[[str, jax.Array], None]  # is shown intermediate results by name


def ignore(name: str, value: jax.Array) -> None:
    """The ``Note`` of ordinary use."""


class FeedForward(nnx.Module):
    """Linear, SwooshL, linear."""

    def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs, dtype):
        self.in_proj = linear(width, hidden, rngs=rngs, dtype=dtype)
        self.out_proj = scaled_linear(hidden, width, 0.1, rngs=rngs, dtype=dtype)

    def __call__(self, x_BTD: jax.Array, key: jax.Array | None = None) -> jax.Array:
        return self.out_proj(swoosh_l(self.in_proj(x_BTD)))


class Bypass(nnx.Module):
    """original + (changed - original) * scale, a scale per channel."""

    def __init__(self, width: int):
        self.bypass_scale = nnx.Param(jnp.full((width,), 0.5))

    def __call__(self, original_BTD: jax.Array, changed_BTD: jax.Array, key: jax.Array | None = None) -> jax.Array:
        return original_BTD + (changed_BTD - original_BTD) * self.bypass_scale[...].astype(original_BTD.dtype)


class ZipformerLayer(nnx.Module):
    """Attention weights computed once, then eight residual modules, a bypass half way, BiasNorm and a bypass.

    ``sizes`` holds num_heads, query_head_dim, pos_head_dim, value_head_dim, feedforward_dim, cnn_module_kernel.
    """

    def __init__(self, width: int, pos_dim: int, sizes: dict, causal: bool, form: str, *, rngs: nnx.Rngs, dtype):
        kw = {"rngs": rngs, "dtype": dtype}
        heads, hidden, taps = sizes["num_heads"], sizes["feedforward_dim"], sizes["cnn_module_kernel"]
        self.bypass = Bypass(width)
        self.bypass_mid = Bypass(width)
        self.bypass_scale = nnx.Param(jnp.full((width,), 0.5))  # unused, but part of the reference's checkpoints
        self.self_attn_weights = AttentionWeights(
            width, pos_dim, heads, sizes["query_head_dim"], sizes["pos_head_dim"], **kw
        )
        self.self_attn1 = SelfAttention(width, heads, sizes["value_head_dim"], **kw)
        self.self_attn2 = SelfAttention(width, heads, sizes["value_head_dim"], **kw)
        self.feed_forward1 = FeedForward(width, hidden * 3 // 4, **kw)
        self.feed_forward2 = FeedForward(width, hidden, **kw)
        self.feed_forward3 = FeedForward(width, hidden * 5 // 4, **kw)
        self.nonlin_attention = NonlinAttention(width, **kw)
        self.conv_module1 = ConvolutionModule(width, taps, causal, form, **kw)
        self.conv_module2 = ConvolutionModule(width, taps, causal, form, **kw)
        self.norm = BiasNorm(width, rngs=rngs)

    def __call__(
        self, x_BTD: jax.Array, pos_ND: jax.Array, extent: Extent, key: jax.Array | None = None, note: Note = ignore
    ) -> jax.Array:
        """Same shape as ``x_BTD``; ``note`` sees the result of every module under its attribute name."""

        def run(name, *args):
            result = getattr(self, name)(*args)
            note(name, result)
            return result

        note("in", x_BTD)
        x = x_BTD
        weights_BHTS = run("self_attn_weights", x, pos_ND, extent)
        x = x + run("feed_forward1", x)
        x = x + run("nonlin_attention", x, weights_BHTS[:, 0])
        x = x + run("self_attn1", x, weights_BHTS)
        x = x + run("conv_module1", x, extent)
        x = x + run("feed_forward2", x)
        x = run("bypass_mid", x_BTD, x)
        x = x + run("self_attn2", x, weights_BHTS)
        x = x + run("conv_module2", x, extent)
        x = x + run("feed_forward3", x)
        x = self.bypass(x_BTD, run("norm", x))
        note("out", x)
        return x
