"""What checkpoints and logs cost the real loop, measured: a command.

python -m tests.train.overhead [rounds] [steps] [vit|zipformer]

Every round runs the same steps three times, in turns: without either, with a save every ``SAVES``-th step, with numbers
logged at every step to JSON lines and TensorBoard. Saves and logs are that frequent so that their cost stands out of
the noise; per save or line it is what the round took longer than without, divided by their number. A save every
``SAVES``-th step also waits for the one before, which one every 1,000 steps does not, so its cost is an upper bound.
"""

import itertools
import json
import pathlib
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from dataclasses import replace

SAVES, SAVE_EVERY, LOG_EVERY = 25, 1000, 50


class Paced:
    """Batches without end; ``took``: seconds from the ``skip``-th to the last that was asked for."""

    def __init__(self, skip: int):
        from tests.parallel import splits

        self._made = [splits.batch(step) for step in range(4)]
        self._skip, self._times = skip, []

    def __iter__(self) -> Iterator[dict]:
        import numpy as np

        for batch in itertools.cycle(self._made):
            self._times.append(time.monotonic())
            rows = len(batch["mask"])
            yield {**batch, "row": np.arange(rows), "text_cut": np.zeros(rows, bool)}

    @property
    def took(self) -> float:
        return self._times[-1] - self._times[self._skip]


def prepared(encoder: str):
    """(config, mesh, maker of a state, compiled steps) of a tiny contrastive run on one device."""
    import jax

    from alp_jax.objectives.base import SpecialTokens
    from alp_jax.objectives.registry import make_objective
    from alp_jax.optim.optimizer import make_optimizer
    from alp_jax.parallel.mesh import make_mesh
    from alp_jax.parallel.rules import infer_shardings
    from alp_jax.train.build import make_model
    from alp_jax.train.host import CompiledSteps, batch_shapes
    from alp_jax.train.state import create_state, state_maker, state_shapes
    from alp_jax.train.step import make_train_step
    from tests.parallel import splits

    config = splits.config_for("contrastive", (1, 1, 1), encoder)
    config = replace(config, data=replace(config.data, text_budget=splits.TOKENS))
    mesh = make_mesh(config.mesh, jax.devices()[:1])
    init, apply = make_model(config)
    optimizer = make_optimizer(config.optim, config.train.steps)
    make = state_maker(init, apply, optimizer)
    objective = make_objective(config.objective, SpecialTokens(0, 1, 2, 3), mesh)
    step = make_train_step(apply, objective, optimizer, config, mesh, infer_shardings(state_shapes(make), mesh))
    state = create_state(make, config.seed, mesh)
    samples = splits.batch(0)["audio"].shape[1]
    return (
        config,
        mesh,
        CompiledSteps(step, state, [batch_shapes(config, mesh, (splits.ROWS, samples, splits.TOKENS))]),
        make,
    )


def seconds(parts, folder: pathlib.Path, steps: int, save_every: int, log_every: int, logs: str) -> float:
    """Seconds of ``steps`` steps of the loop after the first two."""
    from alp_jax.train.checkpoint import Checkpoints
    from alp_jax.train.host import Collector
    from alp_jax.train.loop import _Loop
    from alp_jax.train.state import create_state

    config, mesh, compiled, make = parts
    train = replace(config.train, steps=steps + 3, save_every=save_every, log_every=log_every, logs=logs)
    clock = {"samples_seen": 0, "audio_seconds": 0.0, "flops": 0.0, "train_seconds": 0.0}
    stop = types.SimpleNamespace(leave_at_once=lambda why: None, number=0, alone=True)
    batches, checkpoints = Paced(skip=2), Checkpoints(folder, 3)
    try:
        loop = _Loop(replace(config, train=train), folder, checkpoints, clock, 0, 1, stop)
        state = create_state(make, config.seed, mesh)
        loop.run(state, compiled, iter(batches), mesh, None, Collector(train.gc_every))
    finally:
        checkpoints.close()
    return batches.took


def main(rounds: str = "9", steps: str = "200", encoder: str = "vit") -> None:
    count, parts, never = int(steps), prepared(encoder), 10**9
    variants = {"without": (never, never, ""), "checkpoints": (SAVES, never, "")}
    variants["logs"] = (never, 1, "jsonl,tensorboard")
    found: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(int(rounds) + 1):  # the first warms up
        for name, knobs in variants.items():
            with tempfile.TemporaryDirectory() as folder:
                took = seconds(parts, pathlib.Path(folder), count, *knobs)
            if number:
                found[name].append(took)
    parts[2].close()
    step = statistics.median(found["without"]) / count
    result = {"rounds": int(rounds), "steps": count, "encoder": encoder, "step_s": step}
    for name, events, every in (("checkpoints", count // SAVES, SAVE_EVERY), ("logs", count, LOG_EVERY)):
        each = [(more - less) / events for more, less in zip(found[name], found["without"], strict=True)]
        once = statistics.median(each)
        result[name] = {"each_s": once, "each_s_spread": [min(each), max(each)], "share": once / (every * step)}
        result[name]["every"] = every
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
