"""Settings between the waveform and the encoder."""

import dataclasses

from alp_jax.config.domain import setting


@dataclasses.dataclass(frozen=True)
class SpecAugmentConfig:
    """SpecAugment as the reference applies it (lhotse's defaults): masks and a time warp, filled with the mean."""

    enabled: bool = setting(True, "whether training clips are augmented")
    probability: float = setting(0.9, "probability that a clip is warped, and again that it is masked", low=0, high=1)
    time_warp: int = setting(
        80, "the farthest that a point of the clip is moved; 0 turns the warp off", unit="frames", low=0
    )
    num_feature_masks: int = setting(2, "bands of mel bins that are hidden", unit="masks", low=0)
    feature_mask_width: int = setting(27, "limit that the width of a hidden band stays below", unit="mel bins", low=1)
    num_time_masks: int = setting(10, "the most stretches of frames that are hidden", unit="masks", low=0)
    time_mask_width: int = setting(100, "limit that the length of a hidden stretch stays below", unit="frames", low=1)
    max_time_fraction: float = setting(0.15, "the largest share of a clip's frames that is hidden", low=0, high=1)


@dataclasses.dataclass(frozen=True)
class FeatureConfig:
    """Kaldi-compatible log-mel filterbank: 25 ms Povey windows every 10 ms at 16 kHz."""

    num_mel_bins: int = setting(80, "mel-spaced bands of a frame", unit="mel bins", low=1, high=256)
    low_hz: float = setting(20.0, "lower edge of the lowest band", unit="Hz", low=0, below=8000)
    high_hz: float = setting(7600.0, "upper edge of the highest band", unit="Hz", above=0, high=8000)
    spec_augment: SpecAugmentConfig = dataclasses.field(default=SpecAugmentConfig())
