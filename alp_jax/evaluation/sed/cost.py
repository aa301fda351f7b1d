"""What the frame probe will take, by the arithmetic of ``probes.costs``."""

from alp_jax.config.schema import EvalConfig
from alp_jax.evaluation.budget import MemoryBudget
from alp_jax.evaluation.probes.costs import ADAM_BYTES, Cost
from alp_jax.evaluation.probes.sizes import TaskSize
from alp_jax.evaluation.sed import frame_probe


def frame_probe_cost(size: TaskSize, frames: int, width: int, config: EvalConfig) -> Cost:
    """The frame probe on clips of ``frames`` frames of ``width``; the test clips are scored twice, block by block."""
    plan, settings = frame_probe.frame_schedule(size.own, config.probe_epochs), len(frame_probe.SETTINGS)
    shared, each = frame_probe.fit_bytes(frames, width, size.classes, plan.batch)
    side = MemoryBudget.of(config).side_by_side(settings, shared, each)
    groups, seen = -(-settings // side), plan.steps * plan.batch
    one = width * size.classes
    scored = 2 * -(-size.classes // frame_probe.CLASS_BLOCK)
    answered = len(plan.looks) * settings * frame_probe.SCORED_FRAMES + 2 * size.test * frames
    flops = 6 * settings * seen * frames * one + 2 * answered * one
    traffic = settings * plan.steps * (ADAM_BYTES * one + 24 * plan.batch * frames * size.classes)
    read = 2 * width * frames * (groups * seen + size.train + scored * size.test)
    how = f"{plan.steps} steps x {plan.batch} ({seen / size.own:.0f} epochs), {side} of {settings} settings at once"
    host = frame_probe.host_bytes(size.test, frames, width)
    return Cost(how, plan, (side,), host, shared + side * each, flops, traffic, read, groups * plan.steps)
