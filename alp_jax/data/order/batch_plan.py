"""How a run's settings become batches, described before it starts."""

import dataclasses

import numpy as np

from alp_jax.config.schema import DataConfig
from alp_jax.core import files
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.core.hashing import fingerprint, hash64
from alp_jax.core.names import choose
from alp_jax.data.order import compose, mixture
from alp_jax.data.order.buckets import Bucket, batch_size
from alp_jax.data.order.shapes import TOKEN_SAMPLES
from alp_jax.data.order.subset import Rung, open_rung
from alp_jax.data.order.windows import Windows
from alp_jax.data.store.dataset import Dataset
from alp_jax.data.text.normalise import CLEAN_UPS
from alp_jax.data.text.open import tokenizer_path

READS = ("random", "sequential")


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """How a rung becomes batches.

    Attributes:
      fingerprint: changes with anything that the content of a batch depends on, which hosts and workers are not.
      buckets: the shapes in use, see ``Bucket``.
      pairs, clips, hours: of the rung.
      padding: share of padding among the samples of batches in the first stage.
      text_padding: the same among their tokens; None where captions were not measured, see ``Captions``.
      waste: the same among what rows cost, see ``shapes.TOKEN_SAMPLES``; None as ``text_padding``.
      cropped: share of the rung's audio that one pass leaves out because clips are longer than their bucket.
      batches_per_epoch: steps after which as many clips were taken as the rung has.
    """

    fingerprint: str
    buckets: tuple[Bucket, ...]
    pairs: int
    clips: int
    hours: float
    padding: float
    text_padding: float | None
    waste: float | None
    cropped: float
    batches_per_epoch: float


def plan(dataset: Dataset, config: DataConfig, *, seed: int, devices: int = 1) -> BatchPlan:
    """Describes the batches of a run before it starts.

    Raises:
      UserError: names the setting, also if ``devices`` could not share every batch evenly.
    """
    rung = open_rung(dataset, config)
    recipe = make_recipe(rung, dataset, config)
    check_share(recipe, config, devices, "devices")
    summary, steps_K = rung.summary, recipe.stages[0].steps_K
    buckets = tuple(
        Bucket(edge, tokens, batch, sum(clips), int(steps))
        for edge, tokens, batch, clips, steps in zip(
            summary.edges, summary.tokens, recipe.batch_K, summary.clips, steps_K, strict=True
        )
    )
    samples, kept = np.array(summary.source_samples).sum(), np.array(summary.source_kept).sum()
    per_step = sum(bucket.per_block * bucket.batch for bucket in buckets) / compose.BLOCK
    return BatchPlan(
        fingerprint=fingerprint(_identity(dataset, config, seed, rung, recipe, buckets)),
        buckets=buckets,
        pairs=int(np.array(summary.source_pairs).sum()),
        clips=len(rung),
        hours=float(samples / SAMPLE_RATE / 3600),
        **padding(rung, recipe.stages[0].entries_KC),
        cropped=float(1 - kept / samples),
        batches_per_epoch=float(len(rung) / per_step),
    )


def make_recipe(rung: Rung, dataset: Dataset, config: DataConfig) -> compose.Recipe:
    """Everything that the order of a run depends on besides its seed.

    Raises:
      UserError: names the setting if mixture, batch sizes or the way of reading are impossible.
    """
    choose(config.read, READS, "data.read")
    summary = rung.summary
    batch_K = tuple(batch_size(edge, config) for edge in summary.edges)
    names, sizes = summary.components, np.array(summary.clips, np.int64)
    mixed = len(names) > 1
    if config.mixture:
        chosen, present = mixture.select(config.sources, dataset.sources), _sources(rung, dataset)
        weights = mixture.parse(config.mixture, present, [name for name in chosen if name not in present])
    if config.mixture and mixed:
        numbers = tuple(
            hash64(0, name) for name in names
        )  # a source keeps its streams whatever other sources there are
        stages = tuple(
            mixture.stage(stage.start, [stage.weights[name] for name in names], sizes, batch_K) for stage in weights
        )
    else:
        numbers, stages = (0,), (mixture.stage(0, [1], sizes, batch_K),)
    windows = _windows(rung, dataset, config) if config.read == "sequential" else None
    return compose.Recipe(batch_K, sizes, numbers, stages, windows)


def _sources(rung: Rung, dataset: Dataset) -> list[str]:
    present = np.array(rung.summary.source_clips).any(0)
    return [name for name, is_present in zip(dataset.sources, present, strict=True) if is_present]


def _windows(rung: Rung, dataset: Dataset, config: DataConfig) -> Windows:
    if config.window_shards < 1:
        raise UserError(f"data.window_shards = {config.window_shards}: must be at least 1")
    first_row = dataset.shard_starts()[1:]
    sizes = rung.summary.clips
    ends = [[np.searchsorted(rung.rows[k, c], first_row) for c in range(len(sizes[0]))] for k in range(len(sizes))]
    ends_KCF = np.array(ends, np.int64)
    used = np.flatnonzero(np.diff(ends_KCF.sum((0, 1)), prepend=0))
    return Windows(used, ends_KCF[:, :, used], config.window_shards)


def check_share(recipe: compose.Recipe, config: DataConfig, parts: int, label: str) -> None:
    """Raises UserError unless every batch divides evenly over ``parts`` devices or hosts, as ``label`` says."""
    for batch in recipe.batch_K:
        if batch % parts:
            raise UserError(
                f"batches of {batch} clips do not divide over {parts} {label}: "
                f"set data.clips_multiple = {config.clips_multiple} to a multiple of {parts}"
            )


def padding(rung: Rung, entries_KC: np.ndarray) -> dict[str, float | None]:
    """``padding``, ``text_padding`` and ``waste`` where batches take ``entries_KC`` clips of (bucket, component)."""
    summary = rung.summary
    rate_KC = entries_KC / np.maximum(1, np.array(summary.clips))
    rows_K = entries_KC.sum(1)

    def taken(by_source: list) -> float:
        table = np.array(by_source, float)
        mixed = len(summary.components) > 1
        table = table[:, np.array(summary.source_clips).any(0)] if mixed else table.sum(1, keepdims=True)
        return float((rate_KC * table).sum())

    room, text_room = float(rows_K @ np.array(summary.edges)), float(rows_K @ np.array(summary.tokens))
    if not room:
        return {"padding": 0.0, "text_padding": 0.0, "waste": 0.0}
    heard = taken(summary.source_kept)
    if summary.source_tokens is None:
        return {"padding": 1 - heard / room, "text_padding": None, "waste": None}
    said = taken(summary.source_tokens)
    waste = 1 - (heard + TOKEN_SAMPLES * said) / (room + TOKEN_SAMPLES * text_room)
    return {"padding": 1 - heard / room, "text_padding": 1 - said / text_room, "waste": waste}


def _without_tokens(bucket: Bucket) -> dict[str, int]:
    """A bucket as fingerprints have it; runs of one width have those from before there were several."""
    return {name: value for name, value in dataclasses.asdict(bucket).items() if name != "tokens"}


def _identity(dataset, config: DataConfig, seed: int, rung: Rung, recipe: compose.Recipe, buckets) -> dict:
    """Everything that the content of a batch depends on; settings at their defaults add nothing."""
    vocabulary = tokenizer_path(dataset.path, config)
    identity = {
        "order": compose.VERSION,
        "block": compose.BLOCK,
        "data": dataset.fingerprint,
        "seed": seed,
        "pairs": config.pairs,
        "buckets": [_without_tokens(bucket) for bucket in buckets],
        "text_clean": choose(config.text_clean, CLEAN_UPS, "config.data.text_clean"),
        "text_budget": config.text_budget,
        "tokenizer": files.sha256(vocabulary) if vocabulary.exists() else "",
    }
    if config.held_out:
        identity["held_out"] = config.held_out
    if len(sources := mixture.select(config.sources, dataset.sources)) < len(dataset.sources):
        identity["sources"] = sources
    if rung.summary.longest != rung.summary.edges:
        identity["longest"] = rung.summary.longest
    if set(rung.summary.tokens) != {config.text_budget}:
        identity["tokens"] = rung.summary.tokens
    if len(recipe.component_C) > 1:
        stages = [[stage.start, stage.steps_K.tolist(), stage.entries_KC.tolist()] for stage in recipe.stages]
        identity["mixture"] = [rung.summary.components, stages]
    if recipe.windows:
        identity["window_shards"] = recipe.windows.width
    return identity
