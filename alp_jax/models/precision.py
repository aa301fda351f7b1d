"""Where sums, norms and activations are computed more precisely than the layers around them."""

import jax
import jax.numpy as jnp


def wide_type(dtype) -> jnp.dtype:
    """float32, or float64 where values already are: what statistics and transcendental functions are computed in."""
    return jnp.promote_types(dtype, jnp.float32)


def wide(x: jax.Array) -> jax.Array:
    """``x`` in its ``wide_type``."""
    return x.astype(wide_type(x.dtype))
