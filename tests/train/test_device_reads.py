"""How often the loop looks at numbers on the device, and when: each look at a step that still runs is a wait."""

import types

import numpy as np
import pytest

from alp_jax.config import RunConfig
from alp_jax.config.schema import MeshConfig, TrainConfig
from alp_jax.parallel.mesh import make_mesh
from alp_jax.train.host import Collector
from alp_jax.train.loop import _Loop

STEPS, EVERY = 12, 4


class Number:
    """A number on the device: notes its step, and the step begun last, when it is read."""

    def __init__(self, step, begun, reads):
        self.step, self.begun, self.reads = step, begun, reads

    def __float__(self):
        self.reads.append((self.step, self.begun[-1]))
        return 0.0

    def __int__(self):
        return int(float(self))

    def block_until_ready(self):
        raise AssertionError("the loop waits for the device")


@pytest.mark.parametrize("logs", ["", "jsonl,tensorboard"])
def test_numbers_are_read_while_the_next_step_runs_and_only_those_that_are_logged(tmp_path, logs):
    begun, reads = [], []

    def step_fn(state, batch):
        step = len(begun)
        begun.append(step)
        return state, {name: Number(step, begun, reads) for name in ("loss", "grad_norm", "bad_steps")}

    batch = {"audio": np.zeros((8, 1600), np.float32), "audio_len": np.full(8, 1600), "mask": np.ones(8, bool)}
    batch |= {"row": np.arange(8), "text_cut": np.zeros(8, bool), "text": np.zeros((8, 4)), "text_len": np.full(8, 4)}
    config = RunConfig(train=TrainConfig(steps=STEPS, log_every=EVERY, save_every=100, logs=logs))
    clock = {"samples_seen": 0, "audio_seconds": 0.0, "flops": 0.0, "train_seconds": 0.0}
    checkpoints = types.SimpleNamespace(in_flight=False, save=lambda *args: None, uploads=None)
    stop = types.SimpleNamespace(leave_at_once=lambda why: None, number=0, alone=True)
    steps = types.SimpleNamespace(ready={(8, 1600, 4): step_fn})
    loop = _Loop(config, tmp_path, checkpoints, clock, 0, 1, stop)
    loop.run(None, steps, (dict(batch) for _ in range(STEPS)), make_mesh(MeshConfig()), None, Collector(EVERY))
    logged = [step for step in range(STEPS) if step % EVERY == 0 or step == STEPS - 1]
    assert len(reads) == STEPS + 3 * len(logged)  # bad_steps of each step, all three of those that are logged
    assert all(now == min(step + 1, STEPS - 1) for step, now in reads)
