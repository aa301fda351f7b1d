"""Settings of the devices and of the loop."""

import dataclasses

from alp_jax.config.domain import setting

MAX_STEPS = 2**31 - 1  # steps are counted in int32
_SLICES = "axis: slices (of a TPU, or GPU nodes) that it spans, with slower links between them"


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis; -1 takes what the other axes leave. ``dcn_*``: how many of them in different slices."""

    data: int = setting(
        -1,
        "devices with copies of the parameters and rows of the batch; -1: the rest",
        unit="devices",
        low=1,
        also=(-1,),
    )
    fsdp: int = setting(
        1,
        "devices with rows of the batch that parameters and optimiser statistics are split over; -1: the rest",
        unit="devices",
        low=1,
        also=(-1,),
    )
    tensor: int = setting(
        1,
        "devices that heads, feed-forward modules and the vocabulary are split over; -1: the rest",
        unit="devices",
        low=1,
        also=(-1,),
    )
    dcn_data: int = setting(1, f"data {_SLICES}", unit="slices", low=1)
    dcn_fsdp: int = setting(1, f"fsdp {_SLICES}", unit="slices", low=1)
    dcn_tensor: int = setting(1, f"tensor {_SLICES}", unit="slices", low=1)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Length, logging and checkpoints of a run, in steps."""

    steps: int = setting(
        600_000, "length of the run; 0 stores the parameters it would begin with", unit="steps", low=0, high=MAX_STEPS
    )
    accumulate: int = setting(
        1,
        "parts of a batch that go through the model one after the other, for less memory; loss and gradient are those "
        "of the whole batch, except that dropout and the encoder's regularisers draw and measure part by part",
        unit="parts",
        low=1,
    )
    log_every: int = setting(
        50, "time between two lines of metrics; the last step has one too", unit="steps", low=1, free=True
    )
    logs: str = setting("jsonl", "where metrics and rates go: NAME,... of jsonl, tensorboard, wandb", free=True)
    plan: str = setting(
        "", "file of 'alp plan' with the bytes of a step; empty: those of the compiled step, by XLA", free=True
    )
    profile_steps: str = setting(
        "", "steps traced into profile/ of the run folder: FIRST:END for FIRST to END - 1; empty none", free=True
    )
    gc_every: int = setting(
        100, "time between collections of Python's garbage; 0 leaves them to Python", unit="steps", low=0, free=True
    )
    validate_every: int = setting(
        0,
        "time between two measurements of the loss on clips that are not trained on (the validation split, and what "
        "data.held_out holds out); the last step has one too; 0: none",
        unit="steps",
        low=0,
        free=True,
    )
    validate_clips: int = setting(
        1024, "clips of all sources together that such a loss is measured on", unit="clips", low=1, free=True
    )
    save_every: int = setting(
        4000, "time between two checkpoints; the last step has one too", unit="steps", low=1, free=True
    )
    keep: int = setting(3, "how many of the latest checkpoints stay", unit="checkpoints", low=1, free=True)
    keep_every: int = setting(
        0, "steps at whose multiples checkpoints stay too; 0: no such rule", unit="steps", low=0, free=True
    )
    keep_minutes: float = setting(
        0.0, "training time in which one checkpoint stays too; 0: no such rule", unit="minutes", low=0, free=True
    )
    keep_best: int = setting(
        0,
        "how many checkpoints with the best best_metric stay too; 0: no such rule",
        unit="checkpoints",
        low=0,
        free=True,
    )
    best_metric: str = setting(
        "loss",
        "what keep_best goes by, as the mean since the save before: lowest, or highest with + in front (+accuracy)",
        free=True,
    )
    accept_data_change: bool = setting(
        False, "whether a run continues even though its data or config.data changed its batches", free=True
    )
    max_bad_steps: int = setting(10, "non-finite steps in a row before the run stops", unit="steps", low=1, free=True)
    batch_count_rate: float = setting(
        1.0, "how far the encoder's schedules advance in a step; 0 keeps them at their start", unit="batches", low=0
    )
    average: str = setting(
        "none",
        "average of the parameters that is evaluated and exported: running is the reference's mean over the run",
        choices=("none", "running", "ema"),
    )
    average_period: int = setting(200, "running: time between two parameters that enter the mean", unit="steps", low=1)
    ema_decay: float = setting(0.999, "ema: share of the average that a step keeps", low=0, below=1)
