"""Analytic counts against abstract parameters and against XLA's own operation counts."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from alp_jax.config import MODELS
from alp_jax.config.schema import (
    ConformerConfig,
    DecoderConfig,
    ModelConfig,
    TextTowerConfig,
    ViTConfig,
    ZipformerConfig,
)
from alp_jax.config.schema.model import DECODER, TEXT
from alp_jax.models.accounting import (
    decoder_flops,
    encoder_flops,
    encoder_parameters,
    parameters,
    table,
    text_flops,
    train_flops,
)
from alp_jax.models.encoders import encoder_frames, make_encoder, output_dim
from alp_jax.models.functional import functionalize

ZIPFORMER = ZipformerConfig(
    num_encoder_layers=(1, 1),
    downsampling_factor=(1, 2),
    encoder_dim=(64, 96),
    encoder_unmasked_dim=(64, 96),
    feedforward_dim=(192, 288),
    num_heads=(4,),
    cnn_module_kernel=(15,),
    frontend_channels=(8, 32, 64),
)
ODD = {"feature_dim": 50, "num_layers": 2, "num_heads": 4, "width": 128}
CASES = {
    "zipformer": (ModelConfig(encoder=ZIPFORMER), 0.1),
    "zipformer_causal": (ModelConfig(encoder=dataclasses.replace(ZIPFORMER, causal=True)), 0.1),
    "vit": (ModelConfig(encoder_kind="vit", vit=ViTConfig(**ODD, patch_bins=10, mlp_dim=300)), 0.03),
    "conformer": (
        ModelConfig(
            encoder_kind="conformer", conformer=ConformerConfig(**ODD, ff_dim=300, subsampling_channels=24, kernel=9)
        ),
        0.03,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_counts_agree_with_the_program(name):
    """Parameters exactly; operations within the share of what is left out (norms, softmax, activations, masks)."""
    config, share = CASES[name]
    config = dataclasses.replace(config, depthwise_form="lax")
    init, apply = functionalize(lambda rngs: make_encoder(config, rngs=rngs))
    params, bins = jax.eval_shape(init, jax.random.key(0)), 80 if name.startswith("zipformer") else 50
    assert encoder_parameters(config) == parameters(params)
    mel_BTF, len_B = jax.ShapeDtypeStruct((2, 413, bins), jnp.float32), jax.ShapeDtypeStruct((2,), jnp.int32)
    lowered = jax.jit(apply).lower(params, mel_BTF, len_B)
    assert abs(lowered.cost_analysis()["flops"] / 2 / encoder_flops(config, 4.13) - 1) < share
    frames_BTD = lowered.out_info[0]
    assert frames_BTD.shape[2] == output_dim(config)
    given = apply_lengths(apply, params, bins)
    assert [encoder_frames(config, t) for t in range(1, 42)] == given


def apply_lengths(apply, params, bins) -> list[int]:
    """The lengths that the encoder itself gives for clips of 1 to 41 frames; parameters are zeros."""
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), params)
    lengths = jnp.arange(1, 42, dtype=jnp.int32)
    return jax.jit(lambda len_B: apply(zeros, jnp.zeros((41, 41, bins)), len_B)[1])(lengths).tolist()


def test_towers_of_the_paper():
    assert abs(encoder_flops(ModelConfig(), 10.0) / 19.89e9 - 1) < 0.02
    assert abs(text_flops(TextTowerConfig(), 30) / 5.13e9 - 1) < 0.02
    decoder = dataclasses.replace(DecoderConfig(), vocab_size=50265)
    assert abs(decoder_flops(decoder, 768, 250, 30) / (6.67e9 + 2.32e9) - 1) < 0.03
    assert encoder_frames(ModelConfig(), 1000) == 248
    assert 7.4e10 < train_flops(ModelConfig(), (TEXT,), 10.0, 30) < 8.0e10
    assert train_flops(ModelConfig(), (DECODER,), 10.0, 30) > 3 * encoder_flops(ModelConfig(), 10.0)


@pytest.mark.parametrize("side", [TEXT, DECODER])
def test_training_counts_the_encoder_that_is_named(side):
    """Presets of one size: the text side is the same, so what differs is the encoder and the width it hands on."""
    costs = {name: train_flops(MODELS[name], (side,), 10.0, 30) for name in ("zipformer_m", "vit_b")}
    difference = costs["vit_b"] - costs["zipformer_m"]  # both hand on 512 channels, 250 and 248 frames
    encoders = 3 * (encoder_flops(MODELS["vit_b"], 10.0) - encoder_flops(MODELS["zipformer_m"], 10.0))
    assert difference == pytest.approx(encoders, rel=0.2)
    assert train_flops(MODELS["conformer_s"], (side,), 10.0, 30) < 0.8 * costs["vit_b"]


def test_the_table_compares_with_the_model_that_is_matched():
    models = {"a": MODELS["zipformer_xxs"], "b": MODELS["vit_xxs"]}
    first, second = table(models, {"b": "a"}, 10.0)
    assert first["matches"] is first["ratio"] is None
    assert second["ratio"] == second["flops"] / first["flops"]
    assert (first["width"], second["width"]) == (48, 40)
