"""Qwen2.5: published sizes, causality, the cache against whole sequences, and greedy continuations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from alp_jax.core.errors import UserError
from alp_jax.models.accounting import parameters
from alp_jax.models.functional import functionalize, outline
from alp_jax.models.qwen import Qwen, QwenConfig, empty_cache

# The totals that the published safetensors files state.
PARAMETERS = {
    "0.5B": 494_032_768,
    "1.5B": 1_543_714_304,
    "3B": 3_085_938_688,
    "7B": 7_615_616_512,
    "14B": 14_770_033_664,
    "32B": 32_763_876_352,
    "72B": 72_706_203_648,
}
TINY = QwenConfig(24, 2, 6, 2, 40, 31, rope_theta=1e4)  # three queries share a key; heads of four
TOKENS = jnp.asarray([[5, 6, 7, 8, 9, 10, 11], [12, 3, 4, 1, 2, 29, 30]], jnp.int32)
LEN = jnp.asarray([7, 4], jnp.int32)


def size_of(width, layers, heads, groups, inner, vocabulary, tied=False, eps=1e-6):
    return QwenConfig(width, layers, heads, groups, inner, vocabulary, tied, eps)


# Qwen2.5-*-Instruct, as their config.json state them.
SIZES = {
    "0.5B": size_of(896, 24, 14, 2, 4864, 151936, tied=True),
    "1.5B": size_of(1536, 28, 12, 2, 8960, 151936, tied=True),
    "3B": size_of(2048, 36, 16, 2, 11008, 151936, tied=True),
    "7B": size_of(3584, 28, 28, 4, 18944, 152064),
    "14B": size_of(5120, 48, 40, 8, 13824, 152064),
    "32B": size_of(5120, 64, 40, 8, 27648, 152064),
    "72B": size_of(8192, 80, 64, 8, 29568, 152064),
}


def build(config=TINY, **options):
    init, apply = functionalize(lambda rngs: Qwen(config, rngs=rngs, **options))
    return init, apply


@pytest.fixture(scope="module")
def tiny():
    """(params with large enough weights that positions and words matter, compiled apply)."""
    init, apply = build()
    like, rng = jax.eval_shape(init, jax.random.key(0)), np.random.default_rng(0)
    params = jax.tree.map_with_path(
        lambda path, x: rng.normal("scale" in str(path[-1]), 0.4, x.shape).astype(np.float32), like
    )
    return params, jax.jit(apply, static_argnames=("method", "max_length", "remat"))


def embed(params):
    """The vectors of TOKENS."""
    return jnp.asarray(params["embed_tokens"]["embedding"])[TOKENS]


def count(config):
    """Parameters, by shapes alone."""
    return parameters(nnx.state(outline(lambda rngs: Qwen(config, rngs=rngs))))


@pytest.mark.parametrize("size", SIZES)
def test_published_sizes_have_the_published_parameters(size):
    """Layers are alike: what a second one adds, they all add; the smallest model is counted as a whole too."""
    config = SIZES[size]
    one, two = (count(dataclasses.replace(config, num_hidden_layers=layers)) for layers in (1, 2))
    assert one + (config.num_hidden_layers - 1) * (two - one) == PARAMETERS[size]
    assert size != "0.5B" or count(config) == PARAMETERS[size]


def test_biases_and_tied_tables_are_where_they_are_published():
    assert {size for size, config in SIZES.items() if config.tie_word_embeddings} == {"0.5B", "1.5B", "3B"}
    for tied in (False, True):
        config = dataclasses.replace(TINY, tie_word_embeddings=tied)
        model = outline(lambda rngs, config=config: Qwen(config, rngs=rngs))
        assert (model.lm_head is None) == tied
        attention = model.layers[0].self_attn
        assert [getattr(attention, f"{name}_proj").bias is not None for name in "qkvo"] == [True, True, True, False]


def test_a_position_depends_on_those_before_it_and_on_no_other(tiny):
    params, apply = tiny

    @jax.jit
    def slopes(x_BLD):
        """How each vector moves the size of what position 3 of row 0 becomes, kept and computed again."""

        def size(x, remat):
            return jnp.square(apply(params, x, remat=remat, method="hidden")[0, 3]).sum()

        return [jax.grad(size)(x_BLD, remat) for remat in (False, True)]

    kept_BLD, again_BLD = map(np.asarray, slopes(embed(params)))
    norms = np.abs(kept_BLD).sum(-1)
    assert (norms[0, :4] > 0).all()
    assert not norms[0, 4:].any()
    assert not norms[1].any()
    np.testing.assert_allclose(again_BLD, kept_BLD, rtol=1e-4, atol=1e-5)


def test_a_cache_changes_nothing(tiny):
    """A prompt at once, then one token, then two, with rows that begin at different positions."""
    params, apply = tiny
    first_B = jnp.asarray([4, 2])

    @jax.jit
    def in_parts(x_BLD):
        cache = empty_cache(TINY, 2, 9, jnp.float32)
        prompt, cache = apply(params, x_BLD[:, :4], jnp.zeros(2, jnp.int32), cache, method="extend")
        one = jnp.take_along_axis(x_BLD, first_B[:, None, None], axis=1)
        next_, cache = apply(params, one, first_B, cache, method="extend")
        two = jnp.take_along_axis(x_BLD, (first_B[:, None] + jnp.asarray([1, 2]))[:, :, None], axis=1)
        last, _ = apply(params, two, first_B + 1, cache, method="extend")
        return apply(params, jnp.concatenate([prompt, next_, last], axis=1), method="logits")

    want, got = np.asarray(apply(params, TOKENS)), np.asarray(in_parts(embed(params)))
    np.testing.assert_allclose(got[:, :4], want[:, :4], atol=1e-5)
    for row, first in enumerate([4, 2]):
        np.testing.assert_allclose(got[row, 4:], want[row, first : first + 3], atol=1e-5)


def test_greedy_continuations_are_those_of_whole_sequences(tiny):
    """Rows of different lengths, padded with anything; PAD from the first EOS on."""
    params, apply = tiny

    def generate(eos):
        return np.asarray(apply(params, embed(params), LEN, max_length=5, eos=eos, pad=-1, method="generate"))

    def whole(row):
        ids = TOKENS[row, : LEN[row]].tolist()
        for _ in range(5):
            padded = jnp.asarray([ids + [0] * (12 - len(ids))])
            ids.append(int(np.argmax(apply(params, padded)[0, len(ids) - 1])))
        return ids[-5:]

    want = np.array([whole(0), whole(1)])
    assert len(set(want.ravel().tolist())) > 4
    np.testing.assert_array_equal(generate(eos=-2), want)
    ended = want.copy()
    ended[0, 2:] = -1
    assert want[0, 2] not in want[1]
    assert want[0, 2] not in want[0, :2]
    np.testing.assert_array_equal(generate(eos=int(want[0, 2])), ended)


def test_tied_embeddings_are_one_table(tiny):
    params, _ = tiny
    _, apply = build(dataclasses.replace(TINY, tie_word_embeddings=True))
    tied = {name: value for name, value in params.items() if name != "lm_head"}
    hidden = jnp.ones((1, 1, 24))
    table = params["embed_tokens"]["embedding"]
    np.testing.assert_allclose(apply(tied, hidden, method="logits"), hidden @ table.T, rtol=1e-5)


def test_low_precision_is_stored_and_stays_close(tiny):
    params, apply = tiny
    init, low_apply = build(dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(init, jax.random.key(0)))} == {jnp.dtype("bfloat16")}
    low = jax.jit(low_apply)(jax.tree.map(lambda x: x.astype(jnp.bfloat16), params), TOKENS)
    assert low.dtype == jnp.float32
    want = np.asarray(apply(params, TOKENS))
    assert np.abs(low - want).max() < 0.1 * np.abs(want).max()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_attention_heads": 5}, "hidden_size = 24 is not an even multiple of num_attention_heads = 5"),
        ({"num_key_value_heads": 4}, "num_attention_heads = 6 is not a multiple of num_key_value_heads = 4"),
        ({"num_hidden_layers": 0}, "num_hidden_layers = 0 must be positive"),
    ],
)
def test_sizes_that_do_not_fit_are_named(changes, words):
    with pytest.raises(UserError, match=words):
        build(dataclasses.replace(TINY, **changes))
