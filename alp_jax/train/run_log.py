"""What a run reports: numbers to its writers, a line for people, and how near it comes to what its devices can do."""

import dataclasses
import pathlib
import time
from collections.abc import Sequence
from typing import TextIO

from alp_jax.config import RunConfig
from alp_jax.config.rules import clamp_note
from alp_jax.core.accelerators import Device, of_kind
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json
from alp_jax.core.progress import Progress, say
from alp_jax.core.run_files import LOG
from alp_jax.models.accounting import train_flops
from alp_jax.objectives.registry import sides_of
from alp_jax.train.host import CompiledSteps, Size, bytes_accessed
from alp_jax.train.validation import LOSS
from alp_jax.train.writers import Writers

# value -> how a line shows it, where the run has it; a terminal shows as many, from the first, as it is wide
CONSOLE = {
    "loss": "loss {:.4f}",
    LOSS: "validation loss {:.4f}",
    "learning_rate": "lr {:.2e}",
    "negatives": "{:.1f} negatives",
    "audio_seconds_per_second": "{:.0f} audio-s/s",
    "data_wait_share": "data wait {:.0%}",
    "truncated_caption_share": "{:.0%} captions cut",
    "mfu": "MFU {:.1%}",
}
ALONE = 0.5  # share of clips without negatives above which a warning is due


@dataclasses.dataclass(frozen=True)
class StepWork:
    """The work of one step, over all devices except for ``moved``, and how long it waited for its batch."""

    wait_s: float
    clips: int
    audio_s: float  # of clips
    padded_s: float  # of the batch as it is computed
    tokens: int  # of captions
    padded_tokens: int
    cut: int  # captions cut short
    flops: float = 0.0  # of the model, padding included
    moved: float | None = None  # bytes that one device reads and writes in its memory; None: not known


class StepCosts:
    """What a step costs, by the shape of its batch; looked up once for each.

    Bytes that a device moves are those of a plan, or of XLA's cost analysis of the compiled step.

    XLA counts what fusions read and write, and the body of a loop once. Where the accelerator's bandwidth is unknown,
    XLA is not asked and the bytes are None.

    Attributes:
      known: FLOPs of the model and bytes of a step by the size of its batch over all processes, as ``of`` gave them:
        padding costs what audio and text cost.

    Raises:
      UserError: ``config.train.plan`` is not a plan, or is for another number of devices.
    """

    def __init__(self, config: RunConfig, accelerator: Device | None, devices: int):
        self._config, self._accelerator = config, accelerator
        budget = config.data.text_budget
        self._planned = _planned(pathlib.Path(config.train.plan), devices, budget) if config.train.plan else {}
        self.known: dict[Size, tuple[float, float | None]] = {}

    def of(self, size: Size, steps: CompiledSteps) -> tuple[float, float | None]:
        """What ``known`` has of ``size`` from now on; may wait until the step is compiled."""
        clips, samples, tokens = size
        sides = sides_of(self._config.objective)
        flops = clips * train_flops(self._config.model, sides, samples / SAMPLE_RATE, tokens)
        moved = self._planned.get(size) if self._accelerator else None
        if self._accelerator and moved is None:
            moved = bytes_accessed(steps.program(size))
        self.known[size] = flops, moved
        return flops, moved


def _planned(path: pathlib.Path, devices: int, budget: int) -> dict[Size, float]:
    plan = read_json(path, "config.train.plan")
    try:
        known = {
            (one["clips"], round(one["seconds"] * SAMPLE_RATE), one.get("tokens", budget)): float(one["bytes"])
            for one in plan["buckets"]
        }
        planned = plan["devices"]
    except (TypeError, KeyError, ValueError):
        raise UserError(f"config.train.plan={path} is not a plan; make one with 'alp plan --out {path}'") from None
    if planned != devices:
        raise UserError(f"config.train.plan={path} is for {planned} devices, the run has {devices}: plan for {devices}")
    return known


def _padding_share(config: RunConfig, work: Sequence[StepWork]) -> float:
    """Share of the FLOPs of ``work`` that went into padding; the rest is counted at the mean lengths of each step."""
    useful = 0.0
    for one in work:
        clips = max(1, one.clips)
        each = train_flops(config.model, sides_of(config.objective), one.audio_s / clips, one.tokens / clips)
        useful += one.clips * each
    flops = sum(one.flops for one in work)
    return (flops - useful) / max(flops, 1e-9)


class Rates:
    """Adds up the work of steps and reports it per second and as a share of the devices' peaks.

    ``mfu`` (model FLOPs utilisation: FLOPs over the peak of all devices in ``config.model.compute_dtype``) and
    ``memory_roofline_share`` (the least time that memory needs over the time taken) are left out where the device's
    peaks are unknown.

    Args:
      devices: of the whole run.
      kind: JAX's ``device_kind``.
      before_s: seconds trained before this start.
    """

    def __init__(self, config: RunConfig, devices: int, kind: str, before_s: float = 0.0):
        self._config, self._devices, self._kind = config, devices, kind
        self._before_s, self._accelerator = before_s, of_kind(kind)
        self._begin = self._last = time.monotonic()

    def sources(self) -> str:
        """One line on what MFU and the share of the memory roofline rest on."""
        if self._accelerator is None:
            return f"no published peaks of {self._kind!r} are known: no MFU and no share of the memory roofline"
        plan = self._config.train.plan
        bytes_of = (
            f"{plan}, for other shapes XLA's cost analysis" if plan else "XLA's cost analysis of the compiled step"
        )
        return f"peaks of {self._accelerator.name}: {self._accelerator.source}; bytes of a step: {bytes_of}"

    def since_last(self, work: Sequence[StepWork]) -> dict[str, float]:
        """Rates of the steps that did ``work``, all of those since the last call."""
        now = time.monotonic()
        seconds = max(now - self._last, 1e-9)
        clips, audio_s = sum(one.clips for one in work), sum(one.audio_s for one in work)
        rates = {
            "seconds_per_step": seconds / max(len(work), 1),
            "audio_seconds_per_second": audio_s / seconds,
            "clips_per_second": clips / seconds,
            "data_wait_share": min(1.0, sum(one.wait_s for one in work) / seconds),
            "padding_share": _padding_share(self._config, work),
            "audio_padding_share": 1 - audio_s / max(sum(one.padded_s for one in work), 1e-9),
            "text_padding_share": 1 - sum(one.tokens for one in work) / max(sum(one.padded_tokens for one in work), 1),
            "truncated_caption_share": sum(one.cut for one in work) / max(clips, 1),
            "device_hours": (self._before_s + now - self._begin) / 3600 * self._devices,
        }
        if self._accelerator is not None:
            peak = self._accelerator.flops(self._config.model.compute_dtype) * self._devices
            rates["mfu"] = sum(one.flops for one in work) / seconds / peak
            moved = [one.moved for one in work if one.moved is not None]
            if len(moved) == len(work):
                rates["memory_roofline_share"] = sum(moved) / self._accelerator.bandwidth / seconds
        self._last = now
        return rates


class RunLog:
    """Writes to the logs of ``config.train.logs``; shows progress, time left (ETA) and the values of ``CONSOLE``.

    ``first`` is the first step that will be counted. ``log.txt`` has a line for each ``write``.

    Attributes:
      progress: ``progress.done`` is to be set after each step.
      work: of the steps since the last ``write``, to be added to after each.
    """

    def __init__(
        self, run_dir: pathlib.Path, config: RunConfig, first: int, rates: Rates, stream: TextIO | None = None
    ):
        self._rates, self._stream, self._told_alone = rates, stream, False
        self._text = (run_dir / LOG).open("a", encoding="utf-8")
        self._text.write(rates.sources() + "\n")
        if note := clamp_note(config):
            self._warn(note)
        self._writers = Writers(run_dir, config, first, self._warn)
        self._steps = config.train.steps
        self.progress = Progress("train", self._steps, "steps", initial=first, stream=stream).open()
        self.work: list[StepWork] = []

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Writes the metrics of ``step`` (0-based), the last one in ``work``, with the rates since the last call.

        ``eta_seconds`` is among them as soon as it is known.
        """
        values = {**metrics, **self._rates.since_last(self.work)}
        self.work = []
        if (eta_s := self.progress.eta_s()) is not None:
            values["eta_seconds"] = eta_s
        self._writers.write(step, values)
        negatives, alone = _of(metrics, "negatives"), _of(metrics, "no_negatives_share") or 0.0
        if alone > ALONE and not self._told_alone:
            self._told_alone = True
            self._warn(
                f"at step {step} {alone:.0%} of the clips have no negative in their batch: all others come from the "
                "same recording or have the same caption. A contrastive loss teaches nothing about such clips: make "
                "batches larger, or captions more varied"
            )
        shown = values if negatives is None else values | {"negatives": negatives}
        self.progress.values = [text.format(shown[name]) for name, text in CONSOLE.items() if name in shown]
        self._text.write(self.progress.line() + "\n")
        self._text.flush()

    def write_validation(self, step: int, values: dict[str, float]) -> None:
        """Writes the validation loss after the last step, ``step``, which has no other metrics."""
        self._writers.write(step, values)
        self._text.write(f"after step {step}: {CONSOLE[LOSS].format(values[LOSS])}\n")

    def close(self) -> None:
        """Closes all writers and shows the last line."""
        self.progress.close(failed=self.progress.done < self._steps)
        self._writers.close()
        self._text.close()

    def _warn(self, line: str) -> None:
        """A line of its own, above the progress and in ``log.txt``."""
        say(f"alp: {line}", self._stream)
        self._text.write(line + "\n")


def _of(metrics: dict[str, float], name: str) -> float | None:
    """A metric of the contrastive loss; the hybrid objective has the objective's name before it."""
    return metrics.get(name, metrics.get(f"contrastive/{name}"))
