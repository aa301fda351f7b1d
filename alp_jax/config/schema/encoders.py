"""Settings of the audio encoders."""

import dataclasses

from alp_jax.config.domain import setting

_BINS = "mel bins of a frame, equal to config.features.num_mel_bins"
_MEAN = "of the features, which are standardised with AST's statistics of AudioSet; padding is then zero"


@dataclasses.dataclass(frozen=True)
class ZipformerConfig:
    """Zipformer encoder; the defaults are Zipformer-M (65.9 M parameters). Names follow the reference's config.json.

    Tuples have an item per stack; those of length 1 hold for every stack.
    """

    feature_dim: int = setting(80, _BINS, unit="mel bins", low=1)
    output_downsampling_factor: int = setting(
        2, "frames at 50 Hz that become one after the last stack", unit="frames", low=1
    )
    num_encoder_layers: tuple[int, ...] = setting((2, 2, 3, 4, 3, 2), "layers of each stack", unit="layers", low=1)
    downsampling_factor: tuple[int, ...] = setting(
        (1, 2, 4, 8, 4, 2), "frames at 50 Hz that each stack merges into one", unit="frames", low=1
    )
    encoder_dim: tuple[int, ...] = setting(
        (192, 256, 384, 512, 384, 256), "width of each stack", unit="channels", low=1
    )
    feedforward_dim: tuple[int, ...] = setting(
        (576, 768, 1152, 1536, 1152, 768),
        "width inside the second feed-forward module of a layer",
        unit="channels",
        low=1,
    )
    num_heads: tuple[int, ...] = setting((4, 4, 4, 8, 4, 4), "attention heads", unit="heads", low=1)
    query_head_dim: tuple[int, ...] = setting((32,), "width of a head's queries and keys", unit="channels", low=1)
    value_head_dim: tuple[int, ...] = setting((12,), "width of a head's values", unit="channels", low=1)
    pos_head_dim: tuple[int, ...] = setting((4,), "width of a head's query for positions", unit="channels", low=1)
    pos_dim: int = setting(48, "width of the relative positions", unit="channels", low=1)
    encoder_unmasked_dim: tuple[int, ...] = setting(
        (192, 192, 256, 256, 256, 192), "first channels that feature masking never hides", unit="channels", low=1
    )
    cnn_module_kernel: tuple[int, ...] = setting(
        (31, 31, 15, 15, 15, 31), "length of the depthwise convolutions, odd", unit="frames", low=1
    )
    causal: bool = setting(False, "whether a frame sees no chunk after its own, for streaming")
    chunk_size: tuple[int, ...] = setting(
        (-1,),
        "chunks of a causal encoder, at 50 Hz; -1 the whole clip; training draws one per batch, others take the first",
        unit="frames",
        low=1,
        also=(-1,),
    )
    left_context_frames: tuple[int, ...] = setting(
        (-1,),
        "how far a causal encoder looks back, at 50 Hz; -1 to the beginning; drawn as chunk_size is",
        unit="frames",
        low=0,
        also=(-1,),
    )
    warmup_batches: float = setting(
        4000.0,
        "time over which the layers come into play one after another, lowest first",
        unit="batches",
        above=0,
    )
    frontend_channels: tuple[int, int, int] = setting(
        (8, 32, 128),
        "channels of the front-end convolutions; small models shrink the reference's",
        unit="channels",
        low=1,
    )


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """Vision transformer on log-mel patches (AST, Gong et al. 2021); the defaults cost about what Zipformer-M costs."""

    feature_dim: int = setting(80, _BINS, unit="mel bins", low=1)
    patch_frames: int = setting(16, "length of a patch; patches do not overlap", unit="frames", low=1)
    patch_bins: int = setting(16, "height of a patch", unit="mel bins", low=1)
    frame_stride: int = setting(4, "feature frames per output frame: 4 gives 25 a second", unit="frames", low=1)
    width: int = setting(512, "width of the transformer", unit="channels", low=1)
    num_layers: int = setting(9, "transformer layers", unit="layers", low=1)
    num_heads: int = setting(8, "attention heads", unit="heads", low=1)
    mlp_dim: int = setting(2048, "width inside a feed-forward module", unit="channels", low=1)
    dropout: float = setting(0.1, "dropout rate after attention and feed-forward modules", low=0, below=1)
    attention_dropout: float = setting(0.0, "dropout rate of attention weights", low=0, below=1)
    mel_mean: float = setting(-4.27, f"mean {_MEAN}", low=-100, high=100)
    mel_std: float = setting(4.57, f"deviation {_MEAN}", above=0, high=100)


@dataclasses.dataclass(frozen=True)
class ConformerConfig:
    """Conformer (Gulati et al. 2020); the defaults have the width of its medium size and about Zipformer-M's cost."""

    feature_dim: int = setting(80, _BINS, unit="mel bins", low=1)
    subsampling_channels: int = setting(
        128, "channels of the two front-end convolutions; the paper does not say how many", unit="channels", low=1
    )
    width: int = setting(256, "width of the encoder", unit="channels", low=1)
    num_layers: int = setting(19, "conformer layers", unit="layers", low=1)
    num_heads: int = setting(4, "attention heads", unit="heads", low=1)
    ff_dim: int = setting(1024, "width inside a feed-forward module", unit="channels", low=1)
    kernel: int = setting(31, "length of the depthwise convolutions, odd", unit="frames", low=1)
    dropout: float = setting(0.1, "dropout rate after every module", low=0, below=1)
    mel_mean: float = setting(-4.27, f"mean {_MEAN}", low=-100, high=100)
    mel_std: float = setting(4.57, f"deviation {_MEAN}", above=0, high=100)
