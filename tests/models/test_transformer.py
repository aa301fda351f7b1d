"""Text tower: what may and what may not influence a text's vectors, and dropout by key."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import TextTowerConfig
from alp_jax.core.errors import UserError
from alp_jax.models.functional import functionalize
from alp_jax.models.transformer import TextTower

CONFIG = TextTowerConfig(
    vocab_size=31,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=24,
    max_position_embeddings=9,
)
TEXT = jnp.asarray([[1, 5, 6, 7, 2, 0, 0], [1, 9, 2, 0, 0, 0, 0], [1, 8, 11, 12, 13, 14, 2]], jnp.int32)
LEN = jnp.asarray([5, 3, 7], jnp.int32)


def tower(**changes):
    config = dataclasses.replace(CONFIG, **changes)
    init, apply = functionalize(lambda rngs: TextTower(config, rngs=rngs))
    return init(jax.random.key(0)), apply


@pytest.fixture(scope="module")
def deterministic():
    params, apply = tower()
    return params, jax.jit(apply)


def test_padding_does_not_matter(deterministic):
    params, apply = deterministic
    hidden = apply(params, TEXT, LEN)
    other = apply(params, jnp.where(jnp.arange(7) < LEN[:, None], TEXT, 29), LEN)
    wider = apply(params, jnp.pad(TEXT, ((0, 0), (0, 2))), LEN)
    for row, length in enumerate([5, 3, 7]):
        np.testing.assert_array_equal(hidden[row, :length], other[row, :length])
        np.testing.assert_allclose(hidden[row, :length], wider[row, :length], atol=1e-6)


def test_rows_are_independent_of_each_other(deterministic):
    params, apply = deterministic
    order = np.asarray([2, 0, 1])
    np.testing.assert_allclose(apply(params, TEXT[order], LEN[order]), apply(params, TEXT, LEN)[order], atol=1e-6)


def test_every_valid_token_influences_position_zero_and_no_padding_does(deterministic):
    params, apply = deterministic

    def first(table):
        embeddings = {**params["embeddings"], "word_embeddings": {"embedding": table}}
        return apply({**params, "embeddings": embeddings}, TEXT, LEN)[0, 0, 0]

    norms = np.abs(jax.grad(first)(params["embeddings"]["word_embeddings"]["embedding"])).sum(1)
    used = {1, 5, 6, 7, 2}  # ids of row 0 within its length
    assert {int(i) for i in np.flatnonzero(norms)} == used


def test_order_of_words_matters(deterministic):
    params, apply = deterministic
    swapped = TEXT[:1, np.asarray([0, 2, 1, 3, 4, 5, 6])]
    assert np.abs(apply(params, swapped, LEN[:1]) - apply(params, TEXT[:1], LEN[:1]))[0, 0].max() > 1e-4


@pytest.mark.parametrize(("hidden", "attention"), [(0.5, 0.0), (0.0, 0.5)], ids=["hidden dropout", "attention dropout"])
def test_each_dropout_acts_only_with_a_key(hidden, attention):
    params, apply = tower(hidden_dropout_prob=hidden, attention_probs_dropout_prob=attention)
    plain, plain_again = apply(params, TEXT, LEN), apply(params, TEXT, LEN)
    one, again = (apply(params, TEXT, LEN, key=jax.random.key(1)) for _ in range(2))
    other = apply(params, TEXT, LEN, key=jax.random.key(2))
    np.testing.assert_array_equal(plain, plain_again)
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - plain).max() > 1e-3
    assert np.abs(one - other).max() > 1e-3


def test_no_dropout_rate_makes_the_key_irrelevant():
    params, apply = tower(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    np.testing.assert_array_equal(apply(params, TEXT, LEN), apply(params, TEXT, LEN, key=jax.random.key(1)))


def test_more_tokens_than_positions_name_the_knob(deterministic):
    params, apply = deterministic
    with pytest.raises(UserError, match="max_position_embeddings=9"):
        apply(params, jnp.ones((1, 10), jnp.int32), jnp.ones(1, jnp.int32))


def test_heads_that_do_not_divide_the_width_name_the_knobs():
    with pytest.raises(UserError, match="num_attention_heads=3"):
        tower(num_attention_heads=3)


def test_low_precision_stays_close_and_keeps_float32_parameters(deterministic):
    params, apply = deterministic
    init, apply_low = functionalize(lambda rngs: TextTower(CONFIG, rngs=rngs, dtype=jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(init, jax.random.key(0)))} == {jnp.dtype("float32")}
    low = apply_low(params, TEXT, LEN)
    assert low.dtype == jnp.bfloat16
    assert np.abs(low.astype(jnp.float32) - apply(params, TEXT, LEN))[2].max() < 0.1
