"""Analytic operation counts against XLA's own."""

import dataclasses

import jax
import jax.numpy as jnp

from alp_jax.config.schema import DecoderConfig, ModelConfig, TextTowerConfig, ZipformerConfig
from alp_jax.models.accounting import decoder_flops, encoder_frames, text_flops, train_flops, zipformer_flops
from alp_jax.models.functional import functionalize
from alp_jax.models.zipformer import Zipformer


def test_encoder_count_agrees_with_the_program():
    config = ZipformerConfig(
        num_encoder_layers=(1, 1),
        downsampling_factor=(1, 2),
        encoder_dim=(64, 96),
        encoder_unmasked_dim=(64, 96),
        feedforward_dim=(192, 288),
        num_heads=(4,),
        cnn_module_kernel=(15,),
        frontend_channels=(8, 32, 64),
    )
    init, apply = functionalize(lambda rngs: Zipformer(config, rngs=rngs, depthwise="lax"))
    shapes = jax.eval_shape(init, jax.random.key(0)), jax.ShapeDtypeStruct((2, 400, 80), jnp.float32)
    lowered = jax.jit(apply).lower(*shapes, jax.ShapeDtypeStruct((2,), jnp.int32))
    counted = lowered.cost_analysis()["flops"] / 2
    assert abs(counted / zipformer_flops(config, 4.0) - 1) < 0.1


def test_towers_of_the_paper():
    assert abs(zipformer_flops(ZipformerConfig(), 10.0) / 19.89e9 - 1) < 0.02
    assert abs(text_flops(TextTowerConfig(), 30) / 5.13e9 - 1) < 0.02
    decoder = dataclasses.replace(DecoderConfig(), vocab_size=50265)
    assert abs(decoder_flops(decoder, 768, 250, 30) / (6.67e9 + 2.32e9) - 1) < 0.03
    assert encoder_frames(ZipformerConfig(), 10.0) == 248
    assert 7.4e10 < train_flops(ModelConfig(), "contrastive", 10.0, 30) < 8.0e10
    assert train_flops(ModelConfig(), "captioning", 10.0, 30) > 3 * zipformer_flops(ZipformerConfig(), 10.0)
