"""What the text tower and the caption decoder share: masked attention, dropout by key, PyTorch initialisers."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from alp_jax.parallel.activations import constrain

MASKED = -1e30  # finite, so that a row with nothing to look at stays a number


def split_key(key: jax.Array | None, num: int) -> list[jax.Array | None]:
    """``num`` keys from one; None (deterministic) stays None."""
    return [None] * num if key is None else list(jax.random.split(key, num))


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zeroes a share ``rate`` of ``x`` and rescales the rest; the identity when ``key`` is None."""
    if key is None or rate == 0.0:
        return x
    return jnp.where(jax.random.bernoulli(key, 1.0 - rate, x.shape), x / (1.0 - rate), 0).astype(x.dtype)


def recompute_if(remat: bool, layer: Callable) -> Callable:
    """``layer``; with ``remat`` its intermediate results are recomputed in the backward pass instead of kept."""
    return jax.checkpoint(lambda *args: layer(*args)) if remat else layer  # a new function: jax keeps what it traced


def valid_mask(len_B: jax.Array, length: int) -> jax.Array:
    """mask_BL: True where the position is below the row's length."""
    return jnp.arange(length) < len_B[:, None]


def look_up(table: nnx.Embed, tokens_BL: jax.Array) -> jax.Array:
    """The rows of a table of token embeddings, float32; on a mesh its rows stay split over the vocabulary."""
    rows = jnp.take(constrain(table.embedding[...], "vocab", "width"), tokens_BL, axis=0)
    return constrain(rows, "batch", "time", "width")


def attend(
    query_BQD: jax.Array,
    key_BKD: jax.Array,
    value_BKD: jax.Array,
    allowed_BQK: jax.Array,
    *,
    num_heads: int,
    rate: float = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """Scaled dot-product attention of already projected inputs, heads side by side on the last axis.

    Args:
      allowed_BQK: bool, True where the query may look; axes of size 1 broadcast.
      rate: dropout on the attention weights.
      key: randomness of the dropout; None is deterministic.

    Returns:
      out_BQD in the type of ``value_BKD``; the softmax is float32.
    """

    by_head = (split_heads(x, num_heads) for x in (query_BQD, key_BKD, value_BKD))
    return attend_by_head(*by_head, allowed_BQK, rate=rate, key=key)


def split_heads(x_BLD: jax.Array, num_heads: int) -> jax.Array:
    """x_BHLd: the heads that lie side by side on the last axis."""
    heads = constrain(x_BLD.reshape(*x_BLD.shape[:-1], num_heads, -1), "batch", "time", "heads", "each")
    return jnp.swapaxes(heads, 1, 2)


def attend_by_head(query_BHQd, key_BHKd, value_BHKd, allowed_BQK, *, rate=0.0, key=None) -> jax.Array:
    """As ``attend``, of split heads; out_BQD has them side by side."""
    scores = jnp.einsum("bhqd,bhkd->bhqk", query_BHQd, key_BHKd, preferred_element_type=jnp.float32)
    scores = scores / math.sqrt(query_BHQd.shape[-1])
    weights = jax.nn.softmax(jnp.where(allowed_BQK[:, None], scores, MASKED), axis=-1)
    weights = dropout(weights, rate, key).astype(value_BHKd.dtype)
    out = jnp.einsum("bhqk,bhkd->bqhd", weights, value_BHKd)
    return out.reshape(*out.shape[:2], -1)


def fan_in_uniform(fan_in: int):
    """PyTorch's default for linear weights and biases: uniform within 1/sqrt(fan_in) of zero."""
    bound = 1.0 / math.sqrt(fan_in)

    def init(key, shape, dtype=jnp.float32, **_):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def linear(width_in: int, width_out: int, *, rngs: nnx.Rngs, dtype=jnp.float32, use_bias: bool = True) -> nnx.Linear:
    """A linear layer with PyTorch's default initialisation; float32 parameters, computing in ``dtype``."""
    init = fan_in_uniform(width_in)
    return nnx.Linear(width_in, width_out, use_bias=use_bias, kernel_init=init, bias_init=init, dtype=dtype, rngs=rngs)


def layer_norm(width: int, eps: float, *, rngs: nnx.Rngs, dtype=jnp.float32, use_bias: bool = True) -> nnx.LayerNorm:
    """Layer normalisation with float32 statistics and a result in ``dtype``."""
    return nnx.LayerNorm(width, epsilon=eps, use_bias=use_bias, use_fast_variance=False, dtype=dtype, rngs=rngs)
