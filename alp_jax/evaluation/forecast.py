"""What an evaluation will take, printed before it starts: memory, disk, and hours on an H100 and on this machine.

The hours of a probe are its arithmetic, its traffic and its reading (``probes.costs``) over the rates below, and a
little for every step, all added up: nothing is taken to overlap. Those of encoding are the operations of the encoder
for the seconds of audio, over the rate that encoders reach, and the decoding of the audio. None of it is measured but
this machine's matrix product and memory: take it as the order of magnitude.
"""

import dataclasses
import time
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.config.schema import EvalConfig
from alp_jax.core.accelerators import DEVICES, GIB, of_kind
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.pace import duration
from alp_jax.core.run_files import ATTENTION, DETECTION, FRAMES, MEAN
from alp_jax.evaluation.model import EvalModel
from alp_jax.evaluation.probes.costs import Cost, attention_probe_cost, linear_probe_cost
from alp_jax.evaluation.probes.sizes import SIZES, TaskSize
from alp_jax.evaluation.sed.cost import frame_probe_cost

PROBE_SHARE, TRAFFIC_SHARE = 0.3, 0.6  # of an accelerator's peaks that the small products of probes reach
ENCODER_SHARE = 0.08  # of its bfloat16 peak: encoders are bound by memory traffic, see 13,000 s of audio per second
READ = 0.4e9  # bytes per second of features that one process reads and makes batches of
DECODE_S = 2.4e-4  # seconds that a second of audio takes to be read and decoded
FIRST_S = 10.0  # of audio that the encoder is asked about


@dataclasses.dataclass(frozen=True)
class Machine:
    """Rates: operations of probes and of encoders per second, bytes per second, seconds of overhead per step."""

    name: str
    probe: float
    encoder: float
    traffic: float
    step_s: float

    @classmethod
    def known(cls, name: str) -> "Machine":
        """An accelerator of ``core.accelerators``."""
        device = DEVICES[name]
        rates = PROBE_SHARE * device.flops_f32, ENCODER_SHARE * device.flops_bf16, TRAFFIC_SHARE * device.bandwidth
        return cls(name, *rates, 1e-3)

    @classmethod
    def here(cls) -> "Machine":
        """This machine: a known accelerator, else what a product of matrices and a copy reach in a moment."""
        if (device := of_kind(jax.devices()[0].device_kind)) is not None:
            return cls.known(device.name)
        left, right = jnp.ones((512, 512)), jnp.ones((512, 2048))
        product, copy = jax.jit(jnp.matmul), np.ones(1 << 22)
        product(left, right).block_until_ready()
        flops = 2 * left.size * right.shape[1] / _fastest(lambda: product(left, right).block_until_ready())
        traffic = 2 * copy.nbytes / _fastest(copy.copy)
        return cls("this machine", 0.5 * flops, 0.5 * flops, 0.5 * traffic, 1e-3)

    def seconds(self, cost: Cost) -> float:
        """Of one probe."""
        computing = cost.flops / self.probe + cost.traffic / self.traffic
        return computing + cost.read / READ + cost.steps * self.step_s


def _fastest(call, times: int = 5) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return min(taken)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """What an encoder makes of audio: frames per second of a width, at so many operations; None where unknown."""

    width: int
    rate: float
    flops: float | None

    @classmethod
    def of(cls, model: EvalModel) -> "Encoder":
        """Read off the traced encoder; one that cannot be traced (it is PyTorch's) runs on a second of silence."""
        batch = (
            np.zeros((1, round(FIRST_S * SAMPLE_RATE)), np.int16),
            np.full(1, round(FIRST_S * SAMPLE_RATE), np.int32),
        )
        try:
            shape = jax.eval_shape(model.frames, *batch)[0].shape
            flops = jax.jit(model.frames).lower(*batch).cost_analysis()["flops"] / FIRST_S
        except Exception:  # whatever a foreign encoder raises when it is traced: then it is run
            shape, flops = np.asarray(model.frames(*batch)[0]).shape, None
        return cls(shape[2], shape[1] / FIRST_S, flops)


@dataclasses.dataclass(frozen=True)
class Ahead:
    """One data set to evaluate on: clips to encode, seconds of audio in them, and the probes' tasks."""

    clips: int
    seconds: float
    tasks: dict[str, TaskSize]


def costs_of(name: str, size: TaskSize, encoder: Encoder, config: EvalConfig) -> dict[str, Cost]:
    """Result (``TASK-POOLING``) -> cost, of the probes of one task."""
    frames = round(size.seconds * encoder.rate)
    if size.events:
        return {f"{name}-{FRAMES}": frame_probe_cost(size, frames, encoder.width, config)}
    reduced = min(frames, config.attention_frames or frames)
    return {
        f"{name}-{MEAN}": linear_probe_cost(size, encoder.width, config),
        f"{name}-{ATTENTION}": attention_probe_cost(size, reduced, encoder.width, config),
    }


def lines(sets: dict[str, Ahead], encoder: Encoder, config: EvalConfig, machines: Iterable[Machine] = ()) -> list[str]:
    """The forecast as a table, with what everything takes together in its last line.

    Args:
      machines: by default one H100 and this machine.
    """
    machines = tuple(machines) or (Machine.known("h100"), Machine.here())
    names = "".join(f"{machine.name:>14}" for machine in machines)
    table = [f"{'result':28}{'clips':>9}{'classes':>8}{'host GB':>8}{'device GB':>10}{'disk GB':>8}{names}  how"]
    totals, disk = np.zeros(len(machines)), 0.0
    for name, ahead in sets.items():
        stored = ahead.seconds * encoder.rate * 2 * encoder.width / GIB
        spent = [ahead.seconds * (DECODE_S + (encoder.flops or 0) / machine.encoder) for machine in machines]
        how = f"{ahead.seconds / 3600:.1f} h of audio"
        how += "" if encoder.flops else ", read and decoded: what the encoder takes is not known"
        table.append(_line(f"{name}: encode", ahead.clips, "", ("", "", f"{stored:.1f}"), spent, how))
        totals, disk = totals + spent, disk + stored
        for task, size in ahead.tasks.items():
            for result, cost in costs_of(task, size, encoder, config).items():
                spent = [machine.seconds(cost) for machine in machines]
                memory = (f"{cost.host / GIB:.2f}", f"{cost.device / GIB:.2f}", "")
                table.append(_line(result, size.clips, size.classes, memory, spent, cost.how))
                totals = totals + spent
    last = "predicted by arithmetic, not measured; text sides and scores are not in it"
    return [*table, _line("all", "", "", ("", "", f"{disk:.1f}"), totals, last)]


def _line(label: str, clips: int | str, classes: int | str, memory: tuple[str, ...], spent, how: str) -> str:
    host, device, disk = memory
    times = "".join(f"{duration(one):>14}" for one in spent)
    return f"{label:28}{clips:>9}{classes:>8}{host:>8}{device:>10}{disk:>8}{times}  {how}"


def published_lines(encoder: Encoder, config: EvalConfig, names: Iterable[str] = ()) -> list[str]:
    """The forecast of the paper's labelled sets at their true sizes, or of those that are named."""
    chosen = tuple(names) or tuple(SIZES)
    sets = {
        name: Ahead(size.clips, size.clips * size.mean_seconds, {DETECTION if size.events else name: size})
        for name, size in SIZES.items()
        if name in chosen
    }
    return lines(sets, encoder, config)
