"""Cross entropy of tokens against a large vocabulary, exact and in bounded memory.

512 captions of 129 positions and 50,000 tokens have 13 GB of float32 logits, and as much again for their gradient.
Here every device computes one tile of them at a time, of some positions and some tokens, with an online softmax; the
backward pass computes each tile again from one number per position (Milakov and Gimelshein 2018, "Online normalizer
calculation for softmax"). Products are taken in the type of the states, sums in float32 at least.

Devices keep the rows that they have and, where the tensor axis divides the vocabulary, their part of its tokens, as the
logits would be placed.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from alp_jax.objectives.info_nce import MASKED, chunks
from alp_jax.parallel.mesh import AXES_OF, BATCH_AXES, batch_shards

TILE = (4096, 8192)  # most positions and most tokens: 134 MB of float32


class TokenLosses(NamedTuple):
    """Per position, [B, L] each: the loss, and whether no token is likelier than the target."""

    loss: jax.Array
    hit: jax.Array


class _Statistics(NamedTuple):
    """Of the logits of every position: the largest, the sum of exponentials less that one, the target's, the sum."""

    top: Any  # arrays, or PartitionSpecs where this describes shardings
    total: Any
    target: Any
    sum: Any


def token_losses(
    states_BLD: jax.Array,
    vocab_DV: jax.Array,
    targets_BL: jax.Array,
    *,
    smoothing: float,
    mesh: Mesh,
    tile: tuple[int, int] = TILE,
) -> TokenLosses:
    """Cross entropy per position of the logits ``states_BLD @ vocab_DV``, which are never held.

    Args:
      states_BLD: in the type that products are computed in.
      vocab_DV: the matrix from states to logits.
      targets_BL: int, the token of every position.
      smoothing: probability that is spread over the whole vocabulary, as in torch.
      mesh: rows are split over its batch axes and the vocabulary over its tensor axis, where these divide them.
      tile: most positions and most tokens that a device has logits of at a time.
    """
    rows = BATCH_AXES if states_BLD.shape[0] % batch_shards(mesh) == 0 else None
    (tensor,) = AXES_OF["vocab"]
    tokens = tensor if vocab_DV.shape[1] % mesh.shape[tensor] == 0 else None
    by_row, by_token = PartitionSpec(rows), PartitionSpec(None, tokens)
    across = partial(jax.shard_map, mesh=mesh, check_vma=False)
    forward = across(
        partial(_forward, tokens=tokens, tile=tile),
        in_specs=(by_row, by_token, by_row),
        out_specs=_Statistics(by_row, by_row, by_row, by_row),
    )
    backward = across(
        partial(_backward, tokens=tokens, rows=rows, tile=tile, smoothing=smoothing, vocabulary=vocab_DV.shape[1]),
        in_specs=(by_row, by_token, by_row, by_row, by_row),
        out_specs=(by_row, by_token),
    )

    def losses(found: _Statistics) -> TokenLosses:
        mean = found.sum / vocab_DV.shape[1]
        loss = found.top + jnp.log(found.total) - (1 - smoothing) * found.target - smoothing * mean
        return TokenLosses(loss, found.target >= found.top)

    @jax.custom_vjp
    def of(states_BLD: jax.Array, vocab_DV: jax.Array, targets_BL: jax.Array) -> TokenLosses:
        return losses(forward(states_BLD, vocab_DV, targets_BL))

    def of_forward(states_BLD: jax.Array, vocab_DV: jax.Array, targets_BL: jax.Array) -> tuple[TokenLosses, tuple]:
        found = forward(states_BLD, vocab_DV, targets_BL)
        return losses(found), (states_BLD, vocab_DV, targets_BL, found.top + jnp.log(found.total))

    def of_backward(saved: tuple, gradient: TokenLosses) -> tuple[jax.Array, jax.Array, None]:
        by_states, by_vocab = backward(*saved, gradient.loss)
        return by_states, by_vocab, None

    of.defvjp(of_forward, of_backward)
    # The cast is outside the custom gradient, so that JAX casts the gradient back to the type of the parameters.
    return of(states_BLD, vocab_DV.astype(states_BLD.dtype), targets_BL)


def _evenly(size: int, most: int, multiple: int) -> int:
    """The least multiple that cuts ``size`` into as few pieces as ``most`` does; 8,200 by 4,096 is three of 2,736."""
    pieces = -(-size // most)
    return min(most, -(-size // (pieces * multiple)) * multiple)


def _tiles(states_BLD: jax.Array, vocab_DV: jax.Array, tokens: str | None, tile: tuple[int, int]) -> tuple:
    """Positions a tile; (first token, valid_W, vocab_DW) of every tile of the vocabulary, padded at its end."""
    positions, most_tokens = math.prod(states_BLD.shape[:2]), vocab_DV.shape[1]
    height, width = _evenly(positions, tile[0], 8), _evenly(most_tokens, tile[1], 128)
    vocab_KWD = chunks(vocab_DV.T, width)
    first_K = jnp.arange(len(vocab_KWD)) * vocab_KWD.shape[1]
    valid_KW = first_K[:, None] + jnp.arange(vocab_KWD.shape[1]) < most_tokens
    offset = 0 if tokens is None else lax.axis_index(tokens) * most_tokens
    return height, (first_K + offset, valid_KW, vocab_KWD)


def _logits(states_PD: jax.Array, vocab_WD: jax.Array) -> jax.Array:
    wide = jnp.promote_types(states_PD.dtype, jnp.float32)
    return jnp.matmul(states_PD, vocab_WD.T, preferred_element_type=wide)


def _is_target(target_P: jax.Array, first: jax.Array, width: int) -> jax.Array:
    return target_P[:, None] == first + jnp.arange(width)


def _forward(
    states_BLD: jax.Array, vocab_DV: jax.Array, targets_BL: jax.Array, *, tokens: str | None, tile: tuple[int, int]
) -> _Statistics:
    height, columns = _tiles(states_BLD, vocab_DV, tokens, tile)

    def of_positions(block: tuple[jax.Array, jax.Array]) -> _Statistics:
        states_PD, target_P = block

        def add(carry: _Statistics, column: tuple) -> tuple[_Statistics, None]:
            first, valid_W, vocab_WD = column
            logits_PW = _logits(states_PD, vocab_WD)
            own_PW = _is_target(target_P, first, len(valid_W)) & valid_W
            masked_PW = jnp.where(valid_W, logits_PW, MASKED)
            top = jnp.maximum(carry.top, masked_PW.max(1))
            total = carry.total * jnp.exp(carry.top - top) + jnp.exp(masked_PW - top[:, None]).sum(1)
            target = carry.target + jnp.where(own_PW, logits_PW, 0.0).sum(1)
            return _Statistics(top, total, target, carry.sum + logits_PW.sum(1)), None  # zeros beyond the vocabulary

        zero = jnp.zeros(target_P.shape, jnp.promote_types(states_PD.dtype, jnp.float32))
        return lax.scan(add, _Statistics(zero + MASKED, zero, zero, zero), columns)[0]

    flat = states_BLD.reshape(-1, states_BLD.shape[2]), targets_BL.reshape(-1)
    found = lax.map(of_positions, chunks(flat, height))
    found = _Statistics(*(x.reshape(-1)[: targets_BL.size].reshape(targets_BL.shape) for x in found))
    if tokens is None:
        return found
    # Each device has its part of the vocabulary, and sums relative to its own largest logit: they are brought to the
    # same one before they are added.
    top = lax.pmax(found.top, tokens)
    total = found.total * jnp.exp(found.top - top)
    return _Statistics(top, *lax.psum((total, found.target, found.sum), tokens))


def _backward(
    states_BLD: jax.Array,
    vocab_DV: jax.Array,
    targets_BL: jax.Array,
    logsum_BL: jax.Array,
    gradient_BL: jax.Array,
    *,
    tokens: str | None,
    rows: tuple[str, ...] | None,
    tile: tuple[int, int],
    smoothing: float,
    vocabulary: int,
) -> tuple[jax.Array, jax.Array]:
    height, columns = _tiles(states_BLD, vocab_DV, tokens, tile)
    wide = logsum_BL.dtype

    def of_positions(by_vocab_KWD: jax.Array, block: tuple) -> tuple[jax.Array, jax.Array]:
        states_PD, target_P, logsum_P, gradient_P = block

        def add(by_states_PD: jax.Array, column: tuple) -> tuple[jax.Array, jax.Array]:
            (first, valid_W, vocab_WD), by_vocab_WD = column
            share_PW = jnp.exp(_logits(states_PD, vocab_WD) - logsum_P[:, None])
            own_PW = _is_target(target_P, first, len(valid_W))
            by_logits_PW = gradient_P[:, None] * (share_PW - (1 - smoothing) * own_PW - smoothing / vocabulary)
            # Beyond the vocabulary too something stands here: by zeros of the matrix, and cut off below.
            by_logits_PW = by_logits_PW.astype(states_PD.dtype)
            by_states_PD += jnp.matmul(by_logits_PW, vocab_WD, preferred_element_type=wide)
            return by_states_PD, by_vocab_WD + jnp.matmul(by_logits_PW.T, states_PD, preferred_element_type=wide)

        by_states_PD, by_vocab_KWD = lax.scan(add, jnp.zeros(states_PD.shape, wide), (columns, by_vocab_KWD))
        return by_vocab_KWD, by_states_PD.astype(states_PD.dtype)

    width = states_BLD.shape[2]
    flat = states_BLD.reshape(-1, width), *(x.reshape(-1) for x in (targets_BL, logsum_BL, gradient_BL))
    # Summed over all positions in float32 at least: in bfloat16, what a tile adds would soon be below the rounding of
    # the sum.
    start = jnp.zeros(columns[2].shape, wide)
    by_vocab_KWD, by_states_CPD = lax.scan(of_positions, start, chunks(flat, height))
    by_states_BLD = by_states_CPD.reshape(-1, width)[: targets_BL.size].reshape(states_BLD.shape)
    by_vocab_DV = by_vocab_KWD.reshape(-1, width)[: vocab_DV.shape[1]].T.astype(vocab_DV.dtype)
    # A gradient is summed over the axis that its own array is not split over: states meet every part of the vocabulary,
    # the matrix meets the rows of every device. Without these sums devices would go on with different parameters.
    if tokens is not None:
        by_states_BLD = lax.psum(by_states_BLD, tokens)
    if rows is not None:
        by_vocab_DV = lax.psum(by_vocab_DV, rows)
    return by_states_BLD, by_vocab_DV
