"""What probes will take, by arithmetic: how they are fitted, memory, arithmetic, traffic, bytes read from disk.

Written down once, so that a plan, a forecast and the check against compiled programs say the same:

- A step of a linear classifier on B rows costs 6 B D C operations: logits, and the gradient of the weights (there is
  none of the features), of 2 B D C each, and as much again for what surrounds them (softmax, optimizer). An answer
  costs 2 B D C. The streamed fit takes its steps for every penalty and once more for the selected one; every look
  answers for the held-out rows with all penalties.
- The exact fit evaluates loss and gradient of all penalties, with and without the held-out rows, EVALUATIONS times.
- A step of an attention probe pools T frames with H queries, forwards and backwards: 12 T D H operations, and projects
  the pooled frames and answers: 6 H V (D + C). Settings share what is read; every seed reads for itself.
- Adam reads and writes its moments, weights and gradients: 40 bytes for every weight and step.
"""

import dataclasses

from alp_jax.config.schema import EvalConfig
from alp_jax.evaluation.budget import MemoryBudget
from alp_jax.evaluation.frozen_fit import FitSchedule
from alp_jax.evaluation.probes import attention_probe as attention
from alp_jax.evaluation.probes import linear_probe as linear
from alp_jax.evaluation.probes import streamed_linear as streamed
from alp_jax.evaluation.probes.data import ROWS_MULTIPLE, padded, padded_classes
from alp_jax.evaluation.probes.sizes import TaskSize

EVALUATIONS = 4 * linear.MAX_ITERATIONS  # of L-BFGS with its line search, at most about
ADAM_BYTES = 40  # read and written per weight and step


@dataclasses.dataclass(frozen=True)
class FitCost:
    """One probe of one task.

    Attributes:
      how: in words. schedule: None where the fit is exact. sides: how many settings, and seeds, run at once.
      host, device: bytes of memory. flops: operations. traffic, read: bytes moved on the device, and read from disk.
      steps: of all fits, one after another.
      host_s: seconds of one core of the host, for scores and targets.
    """

    how: str
    schedule: FitSchedule | None
    sides: tuple[int, ...]
    host: int
    device: int
    flops: float
    traffic: float
    read: float
    steps: int
    host_s: float = 0.0


def linear_probe_cost(size: TaskSize, width: int, config: EvalConfig, devices: int = 0) -> FitCost:
    """The linear probe on vectors of ``width``, over this many devices (0: as many as the probe takes here)."""
    budget, classes, penalties = MemoryBudget.of(config), padded_classes(size.classes), len(linear.PENALTIES)
    answered, row = 2 * size.test * width * classes, 4 * width
    if linear.is_exact(size.train, width, size.classes, budget):
        rows = padded(size.train, ROWS_MULTIPLE)
        host, device = linear.exact_bytes(size.train, width, size.classes)
        flops = 2 * penalties * EVALUATIONS * 6 * rows * width * classes + answered
        traffic = 2 * penalties * EVALUATIONS * 4 * (rows * width + 10 * rows * classes)
        return FitCost("exact", None, (2 * penalties,), host, device, flops, traffic, 2 * size.clips * row, EVALUATIONS)
    plan = streamed.schedule(size.own, config.probe_epochs)
    devices = devices or streamed.class_devices(size.classes)
    shared, each = streamed.fit_bytes(width, size.classes, plan.batch, devices)
    side = budget.side_by_side(penalties, shared, each)
    groups, seen, looks = -(-penalties // side), plan.steps * plan.batch, len(plan.looks) + 1
    flops = (penalties + 1) * 6 * seen * width * classes + penalties * looks * 2 * size.held * width * classes
    traffic = (penalties + 1) * plan.steps * (ADAM_BYTES * width * classes + 40 * plan.batch * classes)
    read = row * ((groups + 1) * seen + groups * looks * size.held + 2 * size.train + size.test)
    epochs = f"{seen / size.own:.0f} epochs"
    how = f"streamed: {plan.steps} steps x {plan.batch} ({epochs}), {side} of {penalties} penalties at once"
    host = streamed.host_bytes(size.train, width, plan.batch)
    steps = (groups + 1) * plan.steps
    return FitCost(how, plan, (side,), host, shared + side * each, flops + answered, traffic, read, steps)


def attention_probe_cost(size: TaskSize, frames: int, width: int, config: EvalConfig) -> FitCost:
    """The attention probe on at most ``frames`` frames of ``width`` per clip."""
    budget, classes = MemoryBudget.of(config), padded_classes(size.classes)
    plan = attention.schedule(size.own, config.probe_epochs, config.attention_steps)
    settings, seeds = len(attention.SETTINGS), len(attention.SEEDS)
    sides, device = [], 0
    for count, own_batches in ((settings, False), (seeds, True)):
        shared, each = attention.fit_bytes(frames, width, size.classes, plan.batch, own_batches)
        sides.append(budget.side_by_side(count, shared, each))
        device = max(device, shared + sides[-1] * each)
    groups = -(-settings // sides[0])
    heads, values = attention.HEADS, attention.VALUE_WIDTH
    seen, looked = plan.looks[-1] * plan.batch, (len(plan.looks) + 1) * size.held
    clip = 4 * frames * width * heads + 2 * heads * values * (width + classes)
    flops = 3 * clip * seen * (settings + seeds) + clip * (looked * settings + size.test * seeds)
    weights = width * heads * (attention.KEY_WIDTH + values) + heads * values * classes
    batches = 16 * plan.batch * frames * width * (groups + seeds)
    traffic = plan.looks[-1] * (ADAM_BYTES * weights * (settings + seeds) + batches)
    read = 2 * width * frames * (seen * (groups + seeds) + groups * looked + size.train + size.test)
    epochs = f"{seen / size.own:.0f} epochs"
    how = f"{plan.steps} steps x {plan.batch} ({epochs}), {sides[0]} settings, {sides[1]} seeds at once"
    host = attention.host_bytes(frames, width, plan.batch, sides[1])
    steps = (groups + -(-seeds // sides[1])) * plan.looks[-1]
    return FitCost(how, plan, tuple(sides), host, device, flops, traffic, read, steps)
