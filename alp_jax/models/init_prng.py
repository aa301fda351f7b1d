"""Random bits for the initial values of parameters: a counter put through an integer hash.

Threefry, jax's default, compiles to a separate loop for each of several hundred parameters, which takes most of a
minute on CPU. This is a handful of elementwise operations, equal on every backend and under every sharding. It is for
initial values only; dropout and augmentation keep jax's generator.
"""

import jax
import jax.numpy as jnp
from jax.extend import random as extend_random


def _mix(x: jax.Array) -> jax.Array:
    """A bijection of uint32 in which every input bit moves every output bit (Mueller's and Wellons' lowbias32)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _counted(key_2: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    count = jnp.zeros(shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        count += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride % 2**32)
        stride *= shape[axis]
    return _mix(_mix(count ^ key_2[0]) + key_2[1])


def _bits(key_2: jax.Array, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
    if bit_width > 32:
        raise ValueError(f"start values have at most 32 random bits, not {bit_width}")
    return (_counted(key_2, shape) >> (32 - bit_width)).astype(f"uint{bit_width}")


def _seed(seed: jax.Array) -> jax.Array:
    word = jnp.asarray(seed).astype(jnp.uint32)
    return jnp.stack([_mix(word + jnp.uint32(1)), _mix(word + jnp.uint32(0x9E3779B9))])


def _split(key_2: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return _counted(key_2, (*shape, 2))


def _fold_in(key_2: jax.Array, data: jax.Array) -> jax.Array:
    word = _mix(jnp.asarray(data).astype(jnp.uint32) + jnp.uint32(0x9E3779B9))
    return jnp.stack([_mix(key_2[0] ^ word), _mix(key_2[1] + word)])


_IMPL = extend_random.define_prng_impl(
    key_shape=(2,), seed=_seed, split=_split, random_bits=_bits, fold_in=_fold_in, name="alp_start", tag="alp"
)


def init_key(key: jax.Array) -> jax.Array:
    """A key of this generator from any jax key."""
    if key.dtype == jax.random.key(0, impl=_IMPL).dtype:
        return key
    return jax.random.wrap_key_data(jax.random.bits(key, (2,), jnp.uint32), impl=_IMPL)


class ParamKeys:
    """Stands in for ``nnx.Rngs`` while a module is built: ``params()`` gives a new key at every call.

    ``nnx.Rngs`` keeps its counter as an array, with which abstract construction of a large model takes seconds.
    """

    def __init__(self, key: jax.Array):
        self.key, self.count = init_key(key), 0

    def params(self) -> jax.Array:
        """The next key."""
        self.count += 1
        return jax.random.fold_in(self.key, self.count)
