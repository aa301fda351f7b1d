"""Model presets by name: the encoder of the paper and small ones for one CPU."""

from alp_jax.config.schema import DecoderConfig, ModelConfig, TextTowerConfig, ZipformerConfig


def _small(name: str, dims: tuple[int, int, int, int], text_width: int, channels: tuple[int, int, int]) -> ModelConfig:
    """A four-stack Zipformer (50, 25, 12.5 and 25 Hz, one layer each) with a two-layer text side."""
    text_heads = text_width // 32
    return ModelConfig(
        name=name,
        encoder=ZipformerConfig(
            num_encoder_layers=(1, 1, 1, 1),
            downsampling_factor=(1, 2, 4, 2),
            encoder_dim=dims,
            feedforward_dim=tuple(3 * d for d in dims),
            num_heads=(4,),
            query_head_dim=(8,),
            value_head_dim=(6,),
            pos_dim=16,
            encoder_unmasked_dim=dims,
            cnn_module_kernel=(15, 15, 9, 9),
            frontend_channels=channels,
        ),
        text=TextTowerConfig(
            vocab_size=2048,
            hidden_size=text_width,
            num_hidden_layers=2,
            num_attention_heads=text_heads,
            intermediate_size=2 * text_width,
            max_position_embeddings=128,
        ),
        decoder=DecoderConfig(
            vocab_size=2048,
            d_model=text_width,
            num_decoder_layers=2,
            decoder_nhead=text_heads,
            dim_feedforward=2 * text_width,
        ),
        shared_emb_dim=2 * text_width,
    )


MODELS = {
    "zipformer_m": ModelConfig(),
    "zipformer_xs": _small("zipformer_xs", (64, 96, 128, 96), 128, (8, 16, 32)),
    "zipformer_xxs": _small("zipformer_xxs", (32, 48, 64, 48), 64, (4, 8, 16)),
}
