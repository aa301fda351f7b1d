"""Settings of the evaluation."""

import dataclasses

from alp_jax.config.domain import setting


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """The frozen-encoder evaluation after training."""

    suite: str = setting(
        "mini", "tasks measured after the last step: mini (every task of the data set), paper, none, or TASK,..."
    )
    batch_seconds: float = setting(240.0, "padded audio in a batch of the evaluation", unit="s", above=0)
    max_seconds: float = setting(10.0, "length to which longer clips are cut for evaluation", unit="s", low=0.025)
    max_train_clips: int = setting(
        300, "training clips of a task, spread evenly over its classes; 0 takes all", unit="clips", low=0
    )
    max_test_clips: int = setting(
        200, "test clips of a task, spread evenly over its classes; 0 takes all", unit="clips", low=0
    )
    retrieval_clips: int = setting(400, "test clips that are searched; 0 takes all", unit="clips", low=0)
    alignment_clips: int = setting(
        600,
        "training clips that the linear alignment of audio and words is fitted to; 0 takes all",
        unit="clips",
        low=0,
    )
    host_gib: float = setting(2.0, "memory of the host that a probe may take", unit="GiB", low=0.25)
    device_gib: float = setting(
        4.0,
        "memory of a device that a probe may take: settings and seeds that do not fit side by side run one after "
        "another, and a linear probe that is too large to be fitted exactly is fitted in minibatches",
        unit="GiB",
        low=0.25,
    )
    probe_epochs: float = setting(
        10.0, "passes of a probe that is fitted in minibatches over its training clips", unit="epochs", above=0
    )
    lit_epochs: float = setting(
        10.0,
        "passes of a text tower and of a decoder on the frozen frames over their training clips",
        unit="epochs",
        above=0,
    )
    lit_steps: int = setting(
        400, "their fewest steps, for small sets; 0 leaves tower and decoder out", unit="steps", low=0
    )
    lit_text: str = setting("scratch", "where that text tower begins: scratch, or the folder of a run or an import")
    lit_decoder: str = setting("scratch", "where that decoder begins: scratch, or the folder of a run or an import")
    lit_decoder_trains: str = setting(
        "all",
        "which part of that decoder is trained; cross_attention leaves the rest of it as it started",
        choices=("all", "cross_attention"),
    )
    lit_tokens: int = setting(
        0, "longest caption that both are trained on; 0 takes config.data.text_budget", unit="tokens", low=0
    )
    caption_beams: int = setting(
        4, "beam width of the search for captions; 1 takes the likeliest token each time", unit="beams", low=1
    )
    caption_tokens: int = setting(30, "longest generated caption", unit="tokens", low=1)
    prompts: str = setting(
        "", "JSON file of zero-shot prompts, in addition to or in place of the built-in ones; empty none"
    )
    attention_steps: int = setting(204, "fewest steps of the attention probe, for small sets", unit="steps", low=1)
    attention_frames: int = setting(
        64,
        "length to which longer clips are reduced for the attention probe, by averaging neighbours; 0 reduces nothing",
        unit="frames",
        low=0,
    )
