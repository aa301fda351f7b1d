"""What the ViT and the Conformer share: clean features, sinusoids, a feed-forward module, one way to run the blocks."""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from alp_jax.core.names import choose
from alp_jax.models.transformer import dropout, layer_norm, linear, recompute_if, split_key, valid_mask
from alp_jax.parallel.mesh import constrain

NORM_EPS = 1e-5


def standardize(mel_BTF: jax.Array, len_B: jax.Array, mean: float, std: float) -> jax.Array:
    """(mel - mean) / std, and zero beyond each clip's end, whatever the batch holds there."""
    inside_BT1 = valid_mask(len_B, mel_BTF.shape[1])[:, :, None]
    return jnp.where(inside_BT1, (mel_BTF.astype(jnp.float32) - mean) / std, 0.0)


def sinusoids(position_N: np.ndarray, width: int) -> np.ndarray:
    """table_ND float32: sines, then cosines, of positions of any size and sign (Vaswani et al. 2017)."""
    rates = 10000.0 ** (-np.arange(0, width, 2) / width)
    angle = position_N[:, None].astype(np.float64) * rates
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)


def check_padding(padding: str, kind: str) -> None:
    """Raises UserError for reference padding: only the Zipformer has a reference whose padding leaks."""
    choose(padding, ("exact",), f"padding of a {kind} encoder")


class FeedForward(nnx.Module):
    """Norm, linear, activation, dropout, linear, dropout; without the residual."""

    def __init__(self, width: int, hidden: int, activation: Callable, rate: float, *, rngs: nnx.Rngs, dtype):
        self.norm = layer_norm(width, NORM_EPS, rngs=rngs, dtype=dtype)
        self.in_proj = linear(width, hidden, rngs=rngs, dtype=dtype)
        self.out_proj = linear(hidden, width, rngs=rngs, dtype=dtype)
        self.activation, self.rate = activation, rate

    def __call__(self, x_BLD: jax.Array, key: jax.Array | None = None) -> jax.Array:
        hidden_key, out_key = split_key(key, 2)
        hidden = constrain(self.in_proj(self.norm(x_BLD)), "batch", "time", "hidden")
        hidden = dropout(self.activation(hidden), self.rate, hidden_key)
        return dropout(self.out_proj(hidden), self.rate, out_key)


def run_blocks(blocks: Iterable[Callable], x_BLD: jax.Array, key: jax.Array | None, remat: bool) -> jax.Array:
    """``x = block(x, key)`` one after another; ``remat`` recomputes them in the backward pass."""
    blocks = list(blocks)
    for block, block_key in zip(blocks, split_key(key, len(blocks)), strict=True):
        x_BLD = constrain(recompute_if(remat, block)(x_BLD, block_key), "batch", "time", "width")
    return x_BLD
