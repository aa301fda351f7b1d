"""What the frame probe will take, by the arithmetic of ``probes.costs``."""

from alp_jax.config.schema import EvalConfig
from alp_jax.evaluation.budget import MemoryBudget
from alp_jax.evaluation.probes.costs import ADAM_BYTES, FitCost
from alp_jax.evaluation.probes.sizes import TaskSize
from alp_jax.evaluation.sed import frame_probe, psds

# seconds of a core to rank a frame of a class, to find its changes, to count one in a resample, to mark a clip's events
RANK_S, CHANGE_S, RESAMPLE_S, TARGET_S = 3e-7, 1.6e-6, 2.2e-8, 2e-4


def frame_probe_cost(size: TaskSize, frames: int, width: int, config: EvalConfig) -> FitCost:
    """The frame probe on clips of ``frames`` frames of ``width``; test clips are read once per block of classes."""
    plan, settings = frame_probe.frame_schedule(size.own, config.probe_epochs), len(frame_probe.SETTINGS)
    shared, each = frame_probe.fit_bytes(frames, width, size.classes, plan.batch)
    budget = MemoryBudget.of(config)
    side = budget.side_by_side(settings, shared, each)
    groups, seen = -(-settings // side), plan.steps * plan.batch
    one = width * size.classes
    blocks = frame_probe.class_blocks(size.classes, size.test, frames, width, budget)
    answered = len(plan.looks) * settings * frame_probe.SCORED_FRAMES + size.test * frames
    flops = 6 * settings * seen * frames * one + 2 * answered * one
    traffic = settings * plan.steps * (ADAM_BYTES * one + 24 * plan.batch * frames * size.classes)
    read = 2 * width * frames * (groups * seen + size.train + len(blocks) * size.test)
    how = f"{plan.steps} steps x {plan.batch} ({seen / size.own:.0f} epochs), {side} of {settings} settings at once"
    how += f", {len(blocks)} passes over test clips" if len(blocks) > 1 else ""
    host, of_class = frame_probe.host_bytes(size.test, frames, width)
    host += of_class * max(block.stop - block.start for block in blocks)
    ranked = len(plan.looks) * settings * min(size.held * frames, frame_probe.SCORED_FRAMES) + size.test * frames
    each_frame = CHANGE_S + (psds.PSDS_RESAMPLES + 1) * RESAMPLE_S
    spent = size.classes * (RANK_S * ranked + each_frame * size.test * frames) + TARGET_S * groups * seen
    steps = groups * plan.steps
    return FitCost(how, plan, (side,), host, shared + side * each, flops, traffic, read, steps, spent)
