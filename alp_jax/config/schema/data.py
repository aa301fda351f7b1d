"""Settings of the data a run learns from."""

import dataclasses

from alp_jax.config.domain import setting

CHOSEN_WIDTHS = (0,)  # text_widths that are chosen for the captions that the data set has


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which shards, how many pairs, and how they become batches."""

    path: str = setting("data/mini", "folder or URL of the data set", free=True)
    pairs: int = setting(
        0,
        "rung of the nested ladder that is trained on; 0 takes every training clip",
        unit="audio-caption pairs",
        low=0,
    )
    held_out: float = setting(
        0.0,
        "share of the recordings, by the hash of their names, that no rung trains on: train.validate_every measures "
        "the loss on them",
        low=0,
        below=1,
    )
    sources: str = setting("", "sources of the data set: NAME,... takes only these, -NAME,... all but these; empty all")
    mixture: str = setting(
        "", "shares of the sources: NAME=WEIGHT,..., or in stages STEP:NAME=WEIGHT,...;STEP:... ; empty as stored"
    )
    tokenizer: str = setting(
        "",
        "vocabulary: sentencepiece model or tokenizer.json; empty takes tokenizer.model beside the data set",
        free=True,
    )
    bucket_seconds: tuple[float, ...] = setting(
        (),
        "lengths of the rows of a batch, increasing; longer clips are cropped; () chooses them for the lengths that "
        "the data set has",
        unit="s",
        low=0.025,
    )
    crop_seconds: float = setting(
        30.0, "longest row where the buckets are chosen: longer clips are cropped to it", unit="s", low=0.025
    )
    max_padding: float = setting(
        0.08,
        "share of padding in the audio above which clips are cropped a little, where the buckets are chosen",
        low=0,
        high=1,
    )
    batch_seconds: float = setting(640.0, "padded audio in a global batch", unit="s", above=0)
    clips_per_batch: int = setting(
        0,
        "clips in every global batch whatever the bucket, which fixes the number of negatives; 0 goes by batch_seconds",
        unit="clips",
        low=0,
    )
    clips_multiple: int = setting(
        8,
        "number that the clips of a batch are a multiple of, so that meshes of that size share them evenly",
        unit="clips",
        low=1,
    )
    tags: str = setting("", "list of tags for the tagging objective, from 'alp tags'")
    text_clean: str = setting(
        "none",
        "what the reference's recipes do to captions before they become tokens",
        choices=("none", "clap", "audio_caption"),
    )
    text_widths: tuple[int, ...] = setting(
        (),
        "widths of the text of a batch, increasing up to text_budget; clips are grouped by their longest caption, so "
        "that a contrastive loss compares captions of like lengths and learns less; (0,) chooses widths for the "
        "captions that the data set has, () gives all batches text_budget",
        unit="tokens",
        low=0,
    )
    text_budget: int = setting(
        128, "longest caption, before special tokens; what is longer is cut off", unit="tokens", low=1
    )
    read: str = setting(
        "random",
        "order: random takes clips from anywhere, sequential shard after shard, shuffled inside window_shards",
        choices=("random", "sequential"),
    )
    window_shards: int = setting(
        8, "shards shuffled together in sequential reading; best no fewer than there are hosts", unit="shards", low=1
    )
    shard_cache_gb: float = setting(
        64.0, "disk for shards of a remote data set on a host, in sequential reading", unit="GB", above=0, free=True
    )
    prefetch_mb: int = setting(
        2048, "memory of a host for batches read ahead of the one in use", unit="MB", low=1, free=True
    )
    workers: int = setting(0, "loader processes per host; 0 reads in threads", unit="processes", low=0, free=True)
