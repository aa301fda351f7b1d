"""The whole model on tiny shapes: which parts exist, what comes out, and what must not matter."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import DecoderConfig, ModelConfig, TextTowerConfig, ZipformerConfig
from alp_jax.config.schema.model import DECODER, TEXT
from alp_jax.core.errors import UserError
from alp_jax.models.decoding import Ids
from alp_jax.models.dual import AudioTextModel, masked_mean, unit
from alp_jax.models.functional import functionalize

CONFIG = ModelConfig(
    name="tiny",
    encoder=ZipformerConfig(
        feature_dim=16,
        num_encoder_layers=(1,),
        downsampling_factor=(2,),
        encoder_dim=(12,),
        feedforward_dim=(16,),
        num_heads=(2,),
        query_head_dim=(4,),
        value_head_dim=(4,),
        pos_dim=8,
        encoder_unmasked_dim=(12,),
        cnn_module_kernel=(5,),
        frontend_channels=(2, 3, 4),
    ),
    text=TextTowerConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=8,
    ),
    decoder=DecoderConfig(vocab_size=20, d_model=8, num_decoder_layers=1, decoder_nhead=2, dim_feedforward=8),
    shared_emb_dim=6,
)
MEL = jax.random.normal(jax.random.key(5), (3, 40, 16))
LEN = jnp.asarray([40, 25, 31], jnp.int32)
TOKENS = jnp.asarray([[1, 5, 6, 2], [1, 7, 2, 0], [1, 8, 9, 2]], jnp.int32)
TOKENS_LEN = jnp.asarray([4, 3, 4], jnp.int32)
CONTRASTIVE = {"text_BL": TOKENS, "text_len_B": TOKENS_LEN}
CAPTIONING = {"decoder_in_BL": TOKENS, "decoder_len_B": TOKENS_LEN, "causal_B": jnp.asarray([True, False, True])}


def model(side, **options):
    init, apply = functionalize(lambda rngs: AudioTextModel(CONFIG, (side,), rngs=rngs, **options))
    return init, jax.jit(apply, static_argnames=("method", "max_length"))


def random_params(init):
    """Values for every parameter without compiling the initialisers."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(lambda like: jnp.asarray(rng.normal(size=like.shape) * 0.3, like.dtype), shapes)


@pytest.fixture(scope="module")
def contrastive():
    init, apply = model(TEXT)
    return random_params(init), apply


@pytest.fixture(scope="module")
def captioning():
    init, apply = model(DECODER)
    return random_params(init), apply


def test_the_sides_decide_which_parts_exist(contrastive, captioning):
    assert set(contrastive[0]) == {"encoder", "text", "audio_proj", "text_proj", "logit_scale"}
    assert set(captioning[0]) == {"encoder", "decoder"}


def test_contrastive_outputs_are_float32_unit_vectors_and_a_scale(contrastive):
    params, apply = contrastive
    outputs = apply(params, MEL, LEN, CONTRASTIVE)
    assert set(outputs) == {"audio_embed_BD", "text_embed_BD", "logit_scale"}
    for name in ("audio_embed_BD", "text_embed_BD"):
        assert outputs[name].shape == (3, 6)
        assert outputs[name].dtype == jnp.float32
        np.testing.assert_allclose(np.linalg.norm(outputs[name], axis=1), 1, atol=1e-5)
    assert outputs["logit_scale"] == params["logit_scale"]


def test_the_scale_starts_as_the_logarithm_of_the_inverse_temperature():
    init, _ = model(TEXT, temperature=0.05)
    scale = jax.jit(lambda key: init(key)["logit_scale"])(jax.random.key(0))
    assert float(scale) == pytest.approx(math.log(20), rel=1e-6)


def test_the_two_towers_can_be_used_alone_and_rows_are_independent(contrastive):
    params, apply = contrastive
    outputs, order = apply(params, MEL, LEN, CONTRASTIVE), np.asarray([2, 0, 1])
    audio = apply(params, MEL[order], LEN[order], method="embed_audio")
    text = apply(params, TOKENS[order], TOKENS_LEN[order], method="embed_text")
    np.testing.assert_allclose(audio, outputs["audio_embed_BD"][order], atol=1e-5)
    np.testing.assert_allclose(text, outputs["text_embed_BD"][order], atol=1e-5)


def test_audio_padding_does_not_matter(contrastive):
    params, apply = contrastive
    noise = jnp.where((jnp.arange(40) < LEN[:, None])[..., None], MEL, 7.0)
    clean = apply(params, MEL, LEN, method="embed_audio")
    np.testing.assert_allclose(apply(params, noise, LEN, method="embed_audio"), clean, atol=1e-5)


def test_a_key_turns_dropout_on(contrastive):
    params, apply = contrastive
    plain = apply(params, TOKENS, TOKENS_LEN, method="embed_text")
    random = apply(params, TOKENS, TOKENS_LEN, method="embed_text", key=jax.random.key(3))
    assert np.abs(random - plain).max() > 1e-3


def test_captioning_gives_logits_and_captions(captioning):
    params, apply = captioning
    outputs = apply(params, MEL, LEN, CAPTIONING)
    assert set(outputs) == {"decoded_BLD", "vocab_DV"}
    frames, frames_len = apply(params, MEL, LEN, method="encode")
    logits = apply(params, *CAPTIONING.values(), frames, frames_len, method="decode")
    assert logits.shape == (3, 4, 20)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, outputs["decoded_BLD"] @ outputs["vocab_DV"], atol=1e-5)
    tokens = apply(params, frames, frames_len, method="caption", max_length=5, ids=Ids(1, 2, 0))
    assert tokens.shape == (3, 5)
    assert frames.shape == (3, 8, 12)
    np.testing.assert_array_equal(frames_len, (((LEN - 7) // 2) + 1) // 2)


def test_every_part_of_the_text_side_gets_a_gradient(contrastive):
    params, apply = contrastive
    frames = jax.random.normal(jax.random.key(1), (3, 8, 12))

    @jax.jit
    @jax.grad
    def gradient(params):
        audio = apply(params, frames, jnp.asarray([8, 5, 6]), method="pool_audio")
        return jnp.sum(audio * apply(params, TOKENS, TOKENS_LEN, method="embed_text") * jnp.arange(6))

    found = gradient(params)
    del found["text"]["layers"]["0"]["attention"]["key"]["bias"]  # softmax ignores it: rounding noise
    for part in ("text", "audio_proj", "text_proj"):
        for path, value in jax.tree_util.tree_leaves_with_path(found[part]):
            assert np.any(value), f"{part} {jax.tree_util.keystr(path, simple=True, separator='/')}"
    assert not np.any(jax.tree.leaves(found["encoder"])[0])


def test_low_precision_keeps_outputs_in_float32():
    config = ModelConfig(**{**vars(CONFIG), "compute_dtype": "bfloat16"})
    init, apply = functionalize(lambda rngs: AudioTextModel(config, (TEXT,), rngs=rngs))
    outputs = jax.eval_shape(lambda key: apply(init(key), MEL, LEN, CONTRASTIVE), jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("side", "options", "message"),
    [("txt", {}, "side of a model 'txt'"), (TEXT, {"temperature": 0.0}, "temperature=0.0")],
)
def test_wrong_settings_are_named(side, options, message):
    with pytest.raises(UserError, match=message):
        model(side, **options)


def test_masked_mean_and_unit_length_at_their_edges():
    frames = jnp.asarray([[[2.0, 4.0], [4.0, 8.0], [9.0, 9.0]], [[1.0, 1.0]] * 3])
    np.testing.assert_array_equal(masked_mean(frames, jnp.asarray([2, 0])), [[3.0, 6.0], [0.0, 0.0]])
    np.testing.assert_allclose(unit(jnp.asarray([3.0, 4.0])), [0.6, 0.8], rtol=1e-6)
    assert np.isfinite(jax.grad(lambda x: unit(x).sum())(jnp.zeros(2))).all()
