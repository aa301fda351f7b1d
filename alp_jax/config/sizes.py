"""Model presets by name: the encoder of the paper, its relatives, other encoders of equal cost, small ones for one CPU.

``alp models`` prints parameters and operations of each. The text side of the presets from ``_s`` up is the paper's.
A ViT (vision transformer) and a Conformer need as many operations (within 5 % on 10 s of audio) as the Zipformer that
``MATCHES`` names; they have fewer parameters, because most of a Zipformer's are used at low frame rates.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from alp_jax.config.errors import ConfigError
from alp_jax.config.schema import (
    ConformerConfig,
    DecoderConfig,
    ModelConfig,
    TextTowerConfig,
    ViTConfig,
    ZipformerConfig,
)
from alp_jax.config.schema.model import ENCODER_KINDS, ENCODERS
from alp_jax.core import plugins

MATCHES = {
    "vit_b": "zipformer_m",
    "conformer_b": "zipformer_m",
    "vit_s": "zipformer_s",
    "conformer_s": "zipformer_s",
    "vit_xxs": "zipformer_xxs",
    "conformer_xxs": "zipformer_xxs",
}

# icefall's large and small sizes; the paper's layers with a widest stack of 768 and the cost of Zipformer-M: the stacks
# beside it and its feed-forward modules give way
ZIPFORMER_L = ZipformerConfig(
    num_encoder_layers=(2, 2, 4, 5, 4, 2),
    encoder_dim=(192, 256, 512, 768, 512, 256),
    feedforward_dim=(576, 768, 1536, 2304, 1536, 768),
    encoder_unmasked_dim=(192, 192, 256, 320, 256, 192),
)
ZIPFORMER_S = ZipformerConfig(
    num_encoder_layers=(2, 2, 2, 2, 2, 2),
    encoder_dim=(192, 256, 256, 256, 256, 256),
    feedforward_dim=(512, 768, 768, 768, 768, 768),
    encoder_unmasked_dim=(192, 192, 192, 192, 192, 192),
)
ZIPFORMER_M_768 = ZipformerConfig(
    encoder_dim=(192, 256, 320, 768, 320, 256),
    feedforward_dim=(576, 768, 960, 768, 960, 768),
    encoder_unmasked_dim=(192, 192, 256, 320, 256, 192),
)
# chunks of 0.64 s (counted at 50 frames per second) with 2.56 s of left context
ZIPFORMER_M_CAUSAL = ZipformerConfig(causal=True, chunk_size=(32,), left_context_frames=(128,))


def _small_zipformer(
    dims: tuple[int, ...], factors: tuple[int, ...], heads: int, channels: tuple[int, int, int]
) -> ZipformerConfig:
    """A one-layer stack per width, each at 50 Hz over its factor."""
    return ZipformerConfig(
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
    )


def _small(text_width: int, **encoder: Any) -> ModelConfig:
    """An encoder with a two-layer text side, for runs of hundreds of steps: nothing is regularised."""
    text_heads = text_width // 32
    return ModelConfig(
        **encoder,
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
        regularise=False,  # schedules for hundreds of thousands of batches would never leave warm-up in such runs
    )


_ZIPFORMER_XS = _small_zipformer((64, 96, 128, 96), (1, 2, 4, 2), 4, (8, 16, 32))
_ZIPFORMER_XXS = _small_zipformer((32, 48), (2, 4), 2, (4, 8, 8))
_VIT_S = ViTConfig(width=384, num_layers=9, num_heads=6, mlp_dim=1536)
_VIT_XXS = ViTConfig(width=40, num_layers=3, num_heads=2, mlp_dim=160)
_CONFORMER_S = ConformerConfig(width=192, num_layers=18, ff_dim=768)
_CONFORMER_XXS = ConformerConfig(subsampling_channels=8, width=40, num_layers=2, num_heads=2, ff_dim=160, kernel=15)

_PRESETS = {
    "zipformer_l": ModelConfig(encoder=ZIPFORMER_L),
    "zipformer_m": ModelConfig(),
    "zipformer_m_768": ModelConfig(encoder=ZIPFORMER_M_768),
    "zipformer_m_causal": ModelConfig(encoder=ZIPFORMER_M_CAUSAL),
    "zipformer_s": ModelConfig(encoder=ZIPFORMER_S),
    "zipformer_xs": _small(128, encoder=_ZIPFORMER_XS),
    "zipformer_xxs": _small(64, encoder=_ZIPFORMER_XXS),
    "vit_b": ModelConfig(encoder_kind="vit"),
    "vit_s": ModelConfig(encoder_kind="vit", vit=_VIT_S),
    "vit_xxs": _small(64, encoder_kind="vit", vit=_VIT_XXS),
    "conformer_b": ModelConfig(encoder_kind="conformer"),
    "conformer_s": ModelConfig(encoder_kind="conformer", conformer=_CONFORMER_S),
    "conformer_xxs": _small(64, encoder_kind="conformer", conformer=_CONFORMER_XXS),
}


class _Models(Mapping[str, ModelConfig]):
    """Our presets, then those that encoders of other distributions bring; looked up when asked for."""

    def __getitem__(self, name: str) -> ModelConfig:
        return dataclasses.replace(_PRESETS[name] if name in _PRESETS else _outside()[name], name=name)

    def __iter__(self) -> Iterator[str]:
        return iter((*_PRESETS, *_outside()))

    def __len__(self) -> int:
        return len(list(iter(self)))


def _outside() -> dict[str, ModelConfig]:
    presets: dict[str, ModelConfig] = {}
    for kind, encoder in plugins.load(ENCODERS, ENCODER_KINDS).items():
        brought = getattr(encoder, "presets", None)
        if not isinstance(brought, Mapping):  # everything else that it must be is for models/ to check
            raise ConfigError(
                f"entry point {kind!r} of {ENCODERS} is not an EncoderSpec: {encoder!r:.80} has no presets"
            )
        for name, model in brought.items():
            if name in _PRESETS or name in presets:
                raise ConfigError(f"encoder {kind!r} brings a model preset {name!r}, a name that is taken")
            presets[name] = model
    return presets


MODELS = _Models()
