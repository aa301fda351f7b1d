"""What the settings of a run must be, each for itself and together, before anything is read or compiled."""

from alp_jax.config.domain import check_domains
from alp_jax.config.errors import ConfigError
from alp_jax.config.schema import DataConfig, OptimConfig, RunConfig

NEEDS_NEGATIVES = ("contrastive", "hybrid")


def check_run(config: RunConfig) -> None:
    """Raises ConfigError for the first setting out of its domain, or the first that does not go with another."""
    check_domains(config)
    features = config.features
    if features.low_hz >= features.high_hz:
        raise ConfigError(
            f"config.features.low_hz is {features.low_hz:g}: it must be below config.features.high_hz, "
            f"{features.high_hz:g} Hz"
        )
    _check_negatives(config)
    _check_parts(config)


def _check_negatives(config: RunConfig) -> None:
    """A clip is told from the others of its batch: of one clip there is nothing to learn."""
    if config.objective.name not in NEEDS_NEGATIVES:
        return
    why = f"objective {config.objective.name} compares a clip with the others of its batch"
    if config.data.clips_per_batch == 1:
        raise ConfigError(f"config.data.clips_per_batch is 1: it must be 2 or more, or 0 (go by seconds); {why}")
    if config.data.clips_per_batch == 0 and smallest_batch(config.data) == 1:
        raise ConfigError(
            f"config.data.batch_seconds is {config.data.batch_seconds:g}: a batch of the longest clips "
            f"({_longest(config.data):g} s) has 1 clip, and must have 2 or more; {why}"
        )


def _check_parts(config: RunConfig) -> None:
    parts, clips = config.train.accumulate, config.data.clips_per_batch
    if clips and clips % parts:
        raise ConfigError(
            f"config.train.accumulate is {parts}: it must divide the {clips} clips of config.data.clips_per_batch"
        )


def _longest(data: DataConfig) -> float:
    return max(data.bucket_seconds, default=data.crop_seconds)


def smallest_batch(data: DataConfig) -> int:
    """Clips in a global batch of the longest rows, where they go by seconds."""
    clips = int(data.batch_seconds / _longest(data)) // data.clips_multiple * data.clips_multiple
    return max(clips, data.clips_multiple)


def warmup_steps(config: OptimConfig, steps: int) -> int:
    """Steps of the warm-up of a run of ``steps`` steps: no more than the run has, and one less for a cosine.

    A cosine needs a step to fall on, so that the last one is not at the peak.
    """
    return min(config.warmup_steps, max(1, steps - (config.schedule == "cosine")))


def clamp_note(config: RunConfig) -> str:
    """One line where the warm-up was asked to be longer than the run; else empty. Runs of 0 steps have none."""
    steps = config.train.steps
    asked, taken = config.optim.warmup_steps, warmup_steps(config.optim, steps)
    if not steps or asked <= taken:
        return ""
    return f"config.optim.warmup_steps is {asked}, longer than the run of {steps} steps: the warm-up takes {taken}"
