"""Generates text from a language model, token by token: beam search over a cache of earlier computations.

Scores are those of Hugging Face transformers: the sum of log-probabilities divided by the number of tokens, EOS (end of
sequence) included, to the power ``length_penalty``. A beam that ends is set aside, and the search continues until no
open beam can beat the ones set aside.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

_NEVER = -1e30  # a score below all others; finite, so that differences stay numbers


class Ids(NamedTuple):
    """Token ids that begin, end and fill a text."""

    bos: int
    eos: int
    pad: int


class Found(NamedTuple):
    """tokens_BKL int32 without BOS, PAD from the first EOS on, best first; and their score_BK."""

    tokens_BKL: jax.Array
    score_BK: jax.Array


class _Search(NamedTuple):
    step: jax.Array
    tokens_BKL: jax.Array
    sum_BK: jax.Array
    cache: Any
    ended: Found


def beam_search(
    extend: Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, Any]],
    cache: Any,
    batch: int,
    ids: Ids,
    *,
    beams: int,
    max_length: int,
    length_penalty: float = 1.0,
) -> Found:
    """The ``beams`` best texts of every row found with as many open beams; one beam is greedy search.

    Rows do not influence each other.

    Args:
      extend: (last tokens_BK, their position, cache) -> (logits_BKV, cache).
      cache: arrays whose first axes are (B, K): whatever state of the model belongs to a beam.
      max_length: tokens of a text, EOS included; open beams end there without one.
      length_penalty: above 0 favours long texts; greedy search has none.
    """
    if beams == 1:  # the first text to end is then the best: EOS was the likeliest token, and sums only fall
        length_penalty = 0.0
    # All beams start out alike. Only the first may compete, or step 0 would pick the same token once per beam.
    state = _Search(
        step=jnp.zeros((), jnp.int32),
        tokens_BKL=jnp.full((batch, beams, max_length), ids.pad, jnp.int32),
        sum_BK=jnp.where(jnp.arange(beams) == 0, 0.0, _NEVER) * jnp.ones((batch, 1)),
        cache=cache,
        ended=Found(jnp.full((batch, beams, max_length), ids.pad, jnp.int32), jnp.full((batch, beams), _NEVER)),
    )

    def improvable(state: _Search) -> jax.Array:
        # An upper bound on what an open beam can still score: its sum, below 0, only falls, and with a penalty above 0
        # a longer text divides it by more. The loop ends when no row's bound beats the worst text it has set aside.
        length = max_length if length_penalty > 0 else state.step + 1
        best_B = state.sum_BK[:, 0] / jnp.asarray(length, jnp.float32) ** length_penalty
        return (state.step < max_length) & jnp.any(best_B > state.ended.score_BK[:, -1])

    def advance(state: _Search) -> _Search:
        last_BK = jnp.take(state.tokens_BKL, jnp.maximum(state.step - 1, 0), axis=2)
        last_BK = jnp.where(state.step == 0, ids.bos, last_BK)
        logits_BKV, cache = extend(last_BK, state.step, state.cache)
        sum_BKV = state.sum_BK[:, :, None] + jax.nn.log_softmax(logits_BKV.astype(jnp.float32), axis=-1)
        vocabulary = sum_BKV.shape[2]
        wide = min(2 * beams, beams * vocabulary)  # at most ``beams`` of these are EOS, so ``beams`` that go on remain
        sum_BW, place_BW = jax.lax.top_k(sum_BKV.reshape(batch, -1), wide)
        parent_BW, token_BW = place_BW // vocabulary, place_BW % vocabulary
        tokens_BWL = _pick(state.tokens_BKL, parent_BW)
        ends_BW = token_BW == ids.eos
        value_BW = sum_BW / (state.step + 1).astype(jnp.float32) ** length_penalty
        # as in transformers, an end counts only among the best ``beams`` continuations
        value_BW = jnp.where(ends_BW & (jnp.arange(wide) < beams), value_BW, _NEVER)
        ended = _best(state.ended, Found(tokens_BWL, value_BW), beams)
        sum_BK, kept_BK = jax.lax.top_k(jnp.where(ends_BW, _NEVER, sum_BW), beams)
        tokens_BKL = _pick(tokens_BWL, kept_BK).at[:, :, state.step].set(_pick(token_BW, kept_BK))
        parent_BK = _pick(parent_BW, kept_BK)
        # the cache follows its beam: left in place, a beam would attend to the tokens of another
        cache = jax.tree.map(lambda x: _pick(x, parent_BK), cache) if beams > 1 else cache
        return _Search(state.step + 1, tokens_BKL, sum_BK, cache, ended)

    state = jax.lax.while_loop(improvable, advance, state)
    # beams cut off at max_length compete with those that ended; after an earlier stop, open ones cannot win
    open_BK = jnp.where(state.step == max_length, state.sum_BK / float(max_length) ** length_penalty, _NEVER)
    return _best(state.ended, Found(state.tokens_BKL, open_BK), beams)


def _pick(x_BK: jax.Array, place_BP: jax.Array) -> jax.Array:
    """x_BP...: the entries of axis 1 at ``place_BP``."""
    return jnp.take_along_axis(x_BK, place_BP.reshape(place_BP.shape + (1,) * (x_BK.ndim - 2)), axis=1)


def _best(a: Found, b: Found, beams: int) -> Found:
    """The best of both; ties go to ``a``."""
    score_BK, place_BK = jax.lax.top_k(jnp.concatenate([a.score_BK, b.score_BK], axis=1), beams)
    return Found(_pick(jnp.concatenate([a.tokens_BKL, b.tokens_BKL], axis=1), place_BK), score_BK)
