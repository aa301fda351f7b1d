"""From frame and token vectors to one unit vector per clip and per text."""

import jax
import jax.numpy as jnp
from flax import nnx

from alp_jax.models.transformer import linear, valid_mask


class ProjectionHead(nnx.Module):
    """Two linear layers with a ReLU between them; applied to the last axis."""

    def __init__(self, width_in: int, width_out: int, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.hidden = linear(width_in, width_out, rngs=rngs, dtype=dtype)
        self.output = linear(width_out, width_out, rngs=rngs, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.output(jax.nn.relu(self.hidden(x)))


def masked_mean(frames_BTD: jax.Array, len_B: jax.Array) -> jax.Array:
    """Mean over the first ``len_B`` frames in float32; zero for a length of zero."""
    mask_BT1 = valid_mask(len_B, frames_BTD.shape[1])[:, :, None]
    total_BD = jnp.sum(jnp.where(mask_BT1, frames_BTD.astype(jnp.float32), 0.0), axis=1)
    return total_BD / jnp.maximum(len_B, 1)[:, None]


def unit(x: jax.Array, eps: float = 1e-12) -> jax.Array:
    """``x`` divided by its L2 norm over the last axis, at least ``eps``, in float32; its gradient at zero is finite."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), eps * eps))
