"""Model presets by name: the encoder of the paper and small ones for one CPU."""

from alp_jax.config.schema import DecoderConfig, ModelConfig, TextTowerConfig, ZipformerConfig


def _small(
    name: str,
    dims: tuple[int, ...],
    factors: tuple[int, ...],
    *,
    heads: int,
    channels: tuple[int, int, int],
    text_width: int,
) -> ModelConfig:
    """A Zipformer with a one-layer stack per width, each at 50 Hz over its factor, and a two-layer text side."""
    text_heads = text_width // 32
    return ModelConfig(
        name=name,
        encoder=ZipformerConfig(
            num_encoder_layers=(1,) * len(dims),
            downsampling_factor=factors,
            encoder_dim=dims,
            feedforward_dim=tuple(3 * d for d in dims),
            num_heads=(heads,),
            query_head_dim=(8,),
            value_head_dim=(6,),
            pos_dim=16,
            encoder_unmasked_dim=dims,
            cnn_module_kernel=tuple(15 if factor < 4 else 9 for factor in factors),
            frontend_channels=channels,
        ),
        text=TextTowerConfig(
            vocab_size=2048,
            hidden_size=text_width,
            num_hidden_layers=2,
            num_attention_heads=text_heads,
            intermediate_size=2 * text_width,
            max_position_embeddings=160,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        decoder=DecoderConfig(
            vocab_size=2048,
            d_model=text_width,
            num_decoder_layers=2,
            decoder_nhead=text_heads,
            dim_feedforward=2 * text_width,
            decoder_dropout=0.0,
        ),
        shared_emb_dim=2 * text_width,
        regularise=False,  # schedules made for hundreds of thousands of batches; runs of hundreds never leave warm-up
    )


MODELS = {
    "zipformer_m": ModelConfig(),
    "zipformer_xs": _small(
        "zipformer_xs", (64, 96, 128, 96), (1, 2, 4, 2), heads=4, channels=(8, 16, 32), text_width=128
    ),
    "zipformer_xxs": _small("zipformer_xxs", (32, 48), (2, 4), heads=2, channels=(4, 8, 8), text_width=64),
}
