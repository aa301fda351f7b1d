"""How fast a run is, and how near to what its devices can do."""

import dataclasses
import pathlib
import time

from alp_jax.config import RunConfig
from alp_jax.core.accelerators import Device, of_kind
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json
from alp_jax.train.compile import CompiledSteps, bytes_accessed


@dataclasses.dataclass(frozen=True)
class Work:
    """What one step took and did, over all devices but for ``moved``."""

    wait_s: float  # for data
    clips: int
    audio_s: float  # of clips
    padded_s: float  # of the batch as it is computed
    cut: int  # captions cut short
    flops: float = 0.0  # of the model, padding included
    moved: float | None = None  # bytes that one device reads and writes in its memory; None: not known


class Traffic:
    """Bytes that a device moves in a step, by batch shape: of a plan, or of XLA's cost analysis of the compiled step.

    XLA counts what fusions read and write, and the body of a loop once. Where the accelerator's bandwidth is not known,
    nothing is asked and the bytes are None.

    Raises:
      UserError: ``config.train.plan`` is no plan, or one for another number of devices.
    """

    def __init__(self, config: RunConfig, accelerator: Device | None, devices: int):
        self._accelerator, self._known = accelerator, {}
        if config.train.plan:
            self._known = _planned(pathlib.Path(config.train.plan), devices)

    def of(self, steps: CompiledSteps, batch: dict) -> float | None:
        """Bytes of a step on ``batch``; waits until it is compiled."""
        if self._accelerator is None:
            return None
        rows, samples = batch["audio"].shape
        if (rows, samples) not in self._known:
            self._known[rows, samples] = bytes_accessed(steps.program((rows, samples)))
        return self._known[rows, samples]


def _planned(path: pathlib.Path, devices: int) -> dict[tuple[int, int], float]:
    plan = read_json(path, "config.train.plan")
    try:
        known = {(one["clips"], round(one["seconds"] * SAMPLE_RATE)): float(one["bytes"]) for one in plan["buckets"]}
        planned = plan["devices"]
    except (TypeError, KeyError, ValueError):
        raise UserError(f"config.train.plan={path} is no plan; make one with 'alp plan --out {path}'") from None
    if planned != devices:
        raise UserError(f"config.train.plan={path} is for {planned} devices, the run has {devices}: plan for {devices}")
    return known


class Rates:
    """Adds up the work of steps and says what it comes to per second and per peak.

    ``mfu`` (model FLOPs over the peak of all devices in ``config.model.compute_dtype``) and ``memory_roofline_share``
    (least time that memory needs over the time taken) are left out where the device's peaks are not known.

    Args:
      devices: of the whole run.
      kind: JAX's ``device_kind``.
      before_s: seconds trained before this start.
    """

    def __init__(self, config: RunConfig, devices: int, kind: str, before_s: float = 0.0):
        self._config, self._devices, self._kind = config, devices, kind
        self._before_s, self._facts = before_s, of_kind(kind)
        self._begin = self._last = time.monotonic()
        self._work: list[Work] = []

    def sources(self) -> str:
        """One line on what MFU and the share of the memory roofline rest on."""
        if self._facts is None:
            return f"no published peaks of {self._kind!r} are known: no MFU and no share of the memory roofline"
        plan = self._config.train.plan
        bytes_of = f"{plan}, other shapes XLA's cost analysis" if plan else "XLA's cost analysis of the compiled step"
        return f"peaks of {self._facts.name}: {self._facts.source}; bytes of a step: {bytes_of}"

    def count(self, work: Work) -> None:
        """Adds one step."""
        self._work.append(work)

    def take(self) -> dict[str, float]:
        """Rates since the last call."""
        now, work = time.monotonic(), self._work
        seconds = max(now - self._last, 1e-9)
        clips, audio_s = sum(one.clips for one in work), sum(one.audio_s for one in work)
        rates = {
            "seconds_per_step": seconds / max(len(work), 1),
            "audio_seconds_per_second": audio_s / seconds,
            "clips_per_second": clips / seconds,
            "data_wait_share": min(1.0, sum(one.wait_s for one in work) / seconds),
            "padding_share": 1 - audio_s / max(sum(one.padded_s for one in work), 1e-9),
            "truncated_caption_share": sum(one.cut for one in work) / max(clips, 1),
            "device_hours": (self._before_s + now - self._begin) / 3600 * self._devices,
        }
        if self._facts is not None:
            peak = self._facts.flops(self._config.model.compute_dtype) * self._devices
            rates["mfu"] = sum(one.flops for one in work) / seconds / peak
            if all(one.moved is not None for one in work):
                rates["memory_roofline_share"] = sum(one.moved for one in work) / self._facts.bandwidth / seconds
        self._last, self._work = now, []
        return rates
