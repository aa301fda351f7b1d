"""What an evaluation will take, printed before it starts: memory, disk, and hours on an H100 and on this machine.

The hours of a probe are its arithmetic, its traffic and its reading (``probes.costs``) over the rates below, what
scores take of a core, a little for every step, and compiling where no earlier task has the same shapes, all added up:
nothing is taken to overlap. Those of encoding are the decoding of the audio and, here, what the encoder was seen to
take; elsewhere its operations over the rate that encoders reach. Rates of this machine are those of the moment: while
it is busy it seems slow. Take it as right within a factor of two.
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
from alp_jax.evaluation.probes.costs import FitCost, attention_probe_cost, linear_probe_cost
from alp_jax.evaluation.probes.sizes import SIZES, TaskSize
from alp_jax.evaluation.sed.cost import frame_probe_cost
from alp_jax.evaluation.text_costs import TextSize, text_side_costs

PROBE_SHARE, TRAFFIC_SHARE = 0.3, 0.6  # of an accelerator's peaks that the small products of probes reach
ENCODER_SHARE = 0.08  # of its bfloat16 peak: encoders are bound by memory traffic, see 13,000 s of audio per second
READ = 0.4e9  # bytes per second of features that one process reads and makes batches of
DECODE_S = 2.4e-4  # seconds that a second of audio takes to be read and decoded
COMPILE_S, TEXT_COMPILE_S = 6.0, 15.0  # of a probe's programs, and of a text side's
TRIED_CLIPS, TRIED_S = 4, 10.0  # of silence that the encoder is asked about


@dataclasses.dataclass(frozen=True)
class Machine:
    """Rates: operations of probes and of encoders per second, bytes per second, seconds of overhead per step.

    ``local`` is set for the machine on which encoders are tried.
    """

    name: str
    probe: float
    encoder: float
    traffic: float
    step_s: float
    local: bool = False

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
            return dataclasses.replace(cls.known(device.name), local=True)
        left, right = jnp.ones((512, 512)), jnp.ones((512, 2048))
        product, copy = jax.jit(jnp.matmul), np.ones(1 << 22)
        product(left, right).block_until_ready()
        flops = 2 * left.size * right.shape[1] / _fastest(lambda: product(left, right).block_until_ready())
        traffic = 2 * copy.nbytes / _fastest(copy.copy)
        return cls("this machine", 0.5 * flops, 0.5 * flops, 0.5 * traffic, 1e-3, local=True)

    def seconds(self, cost: FitCost) -> float:
        """Of one probe."""
        computing = cost.flops / self.probe + cost.traffic / self.traffic
        return computing + cost.read / READ + cost.steps * self.step_s + cost.host_s

    def encode(self, encoder: "Encoder", seconds: float, shapes: int) -> float:
        """Seconds to encode ``seconds`` of audio, with ``shapes`` lengths of batches to compile for."""
        own = encoder.own_s if self.local and encoder.own_s else (encoder.flops or 0) / self.encoder
        return seconds * (DECODE_S + own) + shapes * encoder.compile_s


def _fastest(call, times: int = 5) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return min(taken)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """What an encoder makes of audio, frames per second of a width, and what that takes.

    Attributes:
      flops: operations per second of audio; None where they are not known.
      own_s, compile_s: what a second of audio and what a new shape took here; 0 where it was not tried.
    """

    width: int
    rate: float
    flops: float | None
    own_s: float = 0.0
    compile_s: float = 0.0

    @classmethod
    def of(cls, model: EvalModel) -> "Encoder":
        """Tried on silence; operations are those of the traced encoder, if it can be traced (PyTorch's cannot)."""
        samples = round(TRIED_S * SAMPLE_RATE)
        batch = np.zeros((TRIED_CLIPS, samples), np.int16), np.full(TRIED_CLIPS, samples, np.int32)
        began = time.perf_counter()
        shape = np.asarray(model.frames(*batch)[0]).shape
        first = time.perf_counter() - began
        again = _fastest(lambda: np.asarray(model.frames(*batch)[0]), 2)
        try:
            flops = jax.jit(model.frames).lower(*batch).cost_analysis()["flops"] / (TRIED_CLIPS * TRIED_S)
        except Exception:  # whatever a foreign encoder raises when it is traced
            flops = None
        return cls(shape[2], shape[1] / TRIED_S, flops, again / (TRIED_CLIPS * TRIED_S), max(0.0, first - again))


@dataclasses.dataclass(frozen=True)
class Ahead:
    """One data set to evaluate on: clips to encode, seconds of audio in them, the probes' tasks, lengths of batches.

    ``texts`` are the captioned clips on whose frames text sides are trained; None where none are.
    """

    clips: int
    seconds: float
    tasks: dict[str, TaskSize]
    shapes: int = 1
    texts: TextSize | None = None


def costs_of(name: str, size: TaskSize, encoder: Encoder, config: EvalConfig) -> dict[str, FitCost]:
    """Result (``TASK-POOLING``) -> cost, of the probes of one task."""
    frames = round(size.seconds * encoder.rate)
    if size.events:
        return {f"{name}-{FRAMES}": frame_probe_cost(size, frames, encoder.width, config)}
    reduced = config.attention_frames or frames
    return {
        f"{name}-{MEAN}": linear_probe_cost(size, encoder.width, config),
        f"{name}-{ATTENTION}": attention_probe_cost(size, reduced, encoder.width, config),
    }


def floor_cost(size: TaskSize, floor: Encoder, config: EvalConfig) -> tuple[str, FitCost]:
    """The pooling, and the cost of the probe on log-mel frames or on their means and deviations."""
    if size.events:
        return FRAMES, frame_probe_cost(size, round(size.seconds * floor.rate), floor.width, config)
    return MEAN, linear_probe_cost(size, 2 * floor.width, config)


def lines(
    sets: dict[str, Ahead],
    encoder: Encoder,
    config: EvalConfig,
    machines: Iterable[Machine] = (),
    floor: Encoder | None = None,
) -> list[str]:
    """The forecast as a table, with what everything takes together in its last line.

    Args:
      machines: by default one H100 and this machine.
      floor: what floors are computed from; None where there are none.
    """
    machines = tuple(machines) or (Machine.known("h100"), Machine.here())
    names = "".join(f"{machine.name:>14}" for machine in machines)
    table = [f"{'result':28}{'clips':>9}{'classes':>8}{'host GB':>8}{'device GB':>10}{'disk GB':>8}{names}  how"]
    totals, disk, compiled = np.zeros(len(machines)), 0.0, set()

    def spent(pooling: str, cost: FitCost, multi: bool = False, compiling: float = COMPILE_S) -> np.ndarray:
        program = pooling, multi and pooling != MEAN, cost.device  # tasks of equal shapes share it
        compiling = 0.0 if program in compiled else compiling
        compiled.add(program)
        return np.array([machine.seconds(cost) + compiling for machine in machines])

    def encoding(encoder: Encoder, ahead: Ahead) -> np.ndarray:
        return np.array([machine.encode(encoder, ahead.seconds, ahead.shapes) for machine in machines])

    for name, ahead in sets.items():
        stored = ahead.seconds * encoder.rate * 2 * encoder.width / GIB
        how = f"{ahead.seconds / 3600:.1f} h of audio"
        how += "" if encoder.flops else "; what the encoder takes is known only here"
        rows = [(f"{name}: encode", ahead.clips, "", ("", "", f"{stored:.1f}"), encoding(encoder, ahead), how)]
        for task, size in ahead.tasks.items():
            for result, cost in costs_of(task, size, encoder, config).items():
                memory = (f"{cost.host / GIB:.2f}", f"{cost.device / GIB:.2f}", "")
                took = spent(result.rpartition("-")[2], cost, size.multi)
                rows.append((result, size.clips, size.classes, memory, took, cost.how))
        if ahead.texts:
            most = config.attention_frames or round(config.max_seconds * encoder.rate)
            clips = ahead.texts.train + ahead.texts.test
            for result, cost in text_side_costs(ahead.texts, most, encoder.width, config).items():
                memory = (f"{cost.host / GIB:.2f}", f"{cost.device / GIB:.2f}", "")
                rows.append((result, clips, "", memory, spent(result, cost, compiling=TEXT_COMPILE_S), cost.how))
        if floor:
            took = encoding(floor, ahead)
            for size in ahead.tasks.values():
                pooling, cost = floor_cost(size, floor, config)
                took = took + spent(f"{pooling} of the floor", cost, size.multi)
            how = "probes on log-mel statistics, once for all runs on these data"
            rows.append((f"{name}: floors", ahead.clips, "", ("", "", ""), took, how))
        table += [_line(*row) for row in rows]
        totals, disk = totals + sum(row[4] for row in rows), disk + stored
    last = "predicted; scores of retrieval and captioning are not in it"
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
