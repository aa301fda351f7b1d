"""Caption decoder: causality by gradient, padding, initial values, dropout and greedy decoding."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import DecoderConfig
from alp_jax.core.errors import UserError
from alp_jax.models.decoder import CaptionDecoder, sinusoid
from alp_jax.models.decoding import Ids
from alp_jax.models.functional import functionalize

CONFIG = DecoderConfig(
    vocab_size=23, d_model=16, num_decoder_layers=2, decoder_nhead=4, dim_feedforward=32, decoder_bias=True
)
TOKENS = jnp.asarray([[1, 5, 6, 7, 8], [1, 9, 10, 0, 0], [4, 4, 4, 4, 0]], jnp.int32)
LEN = jnp.asarray([5, 3, 4], jnp.int32)
CAUSAL = jnp.asarray([True, True, False])
FRAMES = jax.random.normal(jax.random.key(9), (3, 6, 12))
FRAMES_LEN = jnp.asarray([6, 4, 5], jnp.int32)


def decoder(memory_width=12, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    init, apply = functionalize(lambda rngs: CaptionDecoder(config, memory_width, rngs=rngs))
    return jax.jit(init)(jax.random.key(0)), apply


@pytest.fixture(scope="module")
def small():
    params, apply = decoder()
    return params, jax.jit(apply)


def influence(params, apply, causal):
    """|d logits[t] / d embedding of the token at position j| for row 0, whose tokens are all different."""

    def logits(table):
        changed = {**params, "text_embed": {"embedding": table}}
        return apply(changed, TOKENS[:1], LEN[:1], jnp.asarray([causal]), FRAMES[:1], FRAMES_LEN[:1])[0].sum(-1)

    jacobian = np.abs(jax.jit(jax.jacrev(logits))(params["text_embed"]["embedding"])).sum(-1)
    return jacobian[:, np.asarray(TOKENS[0])]


@pytest.mark.parametrize("norm_first", [False, True])
def test_causal_rows_see_only_the_past_and_parallel_rows_everything(norm_first):
    params, apply = decoder(decoder_norm_first=norm_first)
    causal, parallel = influence(params, apply, True), influence(params, apply, False)
    assert np.all(causal[np.triu_indices(5, 1)] == 0)
    assert np.all(causal[np.tril_indices(5)] > 0)
    assert np.all(parallel > 0)


def test_padding_of_text_and_frames_does_not_matter(small):
    params, apply = small
    logits = apply(params, TOKENS, LEN, CAUSAL, FRAMES, FRAMES_LEN)
    tokens = jnp.where(jnp.arange(5) < LEN[:, None], TOKENS, 17)
    frames = jnp.where((jnp.arange(6) < FRAMES_LEN[:, None])[..., None], FRAMES, 1e3)
    other = apply(params, tokens, LEN, CAUSAL, frames, FRAMES_LEN)
    for row, length in enumerate([5, 3, 4]):
        np.testing.assert_array_equal(logits[row, :length], other[row, :length])


def test_rows_are_independent_of_each_other(small):
    params, apply = small
    order = np.asarray([2, 0, 1])
    logits = apply(params, TOKENS, LEN, CAUSAL, FRAMES, FRAMES_LEN)
    permuted = apply(params, TOKENS[order], LEN[order], CAUSAL[order], FRAMES[order], FRAMES_LEN[order])
    np.testing.assert_allclose(permuted, logits[order], atol=1e-5)


def test_the_audio_is_heard(small):
    params, apply = small
    logits = apply(params, TOKENS, LEN, CAUSAL, FRAMES, FRAMES_LEN)
    silent = apply(params, TOKENS, LEN, CAUSAL, jnp.zeros_like(FRAMES), FRAMES_LEN)
    assert np.abs(logits - silent).max() > 1e-2


def test_an_empty_row_stays_finite(small):
    params, apply = small
    assert np.isfinite(apply(params, TOKENS, LEN * 0, CAUSAL, FRAMES, FRAMES_LEN * 0)).all()


def test_layers_start_equal_with_pytorch_bounds():
    params, _ = decoder(d_model=32, vocab_size=500)
    first, second = (jax.tree.leaves(params["layers"][i]) for i in sorted(params["layers"]))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    layer = params["layers"][min(params["layers"])]
    bounds = {
        ("linear1", "kernel"): 1 / math.sqrt(32),
        ("linear1", "bias"): 1 / math.sqrt(32),
        ("linear2", "kernel"): 1 / math.sqrt(32),
    }
    for (module, leaf), bound in bounds.items():
        assert 0.8 * bound < np.abs(layer[module][leaf]).max() <= bound
    attention = layer["self_attn"]
    xavier = math.sqrt(6 / (32 + 96))
    assert 0.97 * xavier < np.abs(attention["in_proj"]["kernel"]).max() <= xavier
    assert 0.97 / math.sqrt(32) < np.abs(attention["out_proj"]["kernel"]).max() <= 1 / math.sqrt(32)
    assert not np.any(attention["in_proj"]["bias"])
    assert not np.any(attention["out_proj"]["bias"])
    assert np.std(params["text_embed"]["embedding"]) == pytest.approx(1.0, abs=0.03)


def names(params):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    }


def test_settings_decide_which_parameters_exist():
    plain = names(decoder(decoder_bias=False)[0])
    assert not any(name.endswith("bias") for name in plain)
    assert {"enc_dec_proj/kernel", "output_proj/kernel"} <= plain
    shared = names(decoder(memory_width=16, decoder_bias=False, decoder_shared_emb=True)[0])
    assert plain - shared == {"enc_dec_proj/kernel", "output_proj/kernel"}


def test_dropout_acts_only_with_a_key(small):
    params, apply = small
    plain = apply(params, TOKENS, LEN, CAUSAL, FRAMES, FRAMES_LEN)
    one, again = (apply(params, TOKENS, LEN, CAUSAL, FRAMES, FRAMES_LEN, key=jax.random.key(1)) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - plain).max() > 1e-2


def test_greedy_decoding_repeats_the_best_next_token_and_pads_from_the_end_token(small):
    params, apply = small
    generate = jax.jit(decoder()[1], static_argnames=("method", "max_length"))
    steps, tokens = 5, np.ones((3, 1), np.int32)
    for _ in range(steps):
        length = jnp.full(3, tokens.shape[1])
        padded = jnp.pad(jnp.asarray(tokens), ((0, 0), (0, steps - tokens.shape[1])))
        logits = apply(params, padded, length, jnp.ones(3, bool), FRAMES, FRAMES_LEN)
        tokens = np.concatenate([tokens, np.asarray(logits)[:, tokens.shape[1] - 1].argmax(-1)[:, None]], axis=1)
    free = tokens[:, 1:]
    never = next(i for i in range(23) if i not in free)
    options = {"method": "generate", "max_length": steps}
    np.testing.assert_array_equal(generate(params, FRAMES, FRAMES_LEN, ids=Ids(1, never, 0), **options), free)
    eos = int(free[0, 2])
    expected = np.where(np.cumsum(free == eos, axis=1) > 0, 0, free)
    np.testing.assert_array_equal(generate(params, FRAMES, FRAMES_LEN, ids=Ids(1, eos, 0), **options), expected)


def test_positions_are_sines_and_cosines():
    table = sinusoid(50, 8)
    np.testing.assert_allclose(table[:, 0], np.sin(np.arange(50)), atol=1e-6)
    np.testing.assert_allclose(table[:, 1], np.cos(np.arange(50)), atol=1e-6)
    np.testing.assert_allclose(table[:, 6], np.sin(np.arange(50) / 1000), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"), [({"decoder_nhead": 3}, "decoder_nhead=3"), ({"decoder_activation": "gelo"}, "'gelu'")]
)
def test_settings_that_cannot_work_name_the_knob(change, message):
    with pytest.raises(UserError, match=message):
        decoder(**change)
