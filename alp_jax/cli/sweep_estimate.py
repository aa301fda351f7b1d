"""What each run of a sweep computes and keeps, from its configuration and, where it is there, its data set.

In a process of its own (``alp sweep estimate``): it needs JAX, which the driver of a sweep does without.
"""

import functools
import json
import math
import pathlib
import subprocess
import sys

from alp_jax.config import RunConfig, resolve
from alp_jax.config.schema import TrainConfig
from alp_jax.core.errors import AlpError, UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.scaling.sweep.forecast import Estimate
from alp_jax.scaling.sweep.plan import PlannedRun

TYPICAL_SECONDS = 10.0  # of a clip, where buckets depend on data that is not here


def in_own_process(sweep: str, data: str | None) -> dict[str, Estimate]:
    """run id -> its estimate, computed by another process.

    Raises:
      UserError: what it says is wrong with a run.
    """
    command = [sys.executable, "-m", "alp_jax", "sweep", "estimate", "--json", f"--sweep={sweep}"]
    command += [f"--data={data}"] if data else []
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1].removeprefix("alp: ")
        raise UserError(last) if done.returncode == 2 else AlpError(f"the sweep cannot be estimated: {last}")
    return {name: Estimate(**values) for name, values in json.loads(done.stdout)["estimates"].items()}


def estimate_all(runs: list[PlannedRun]) -> dict[str, Estimate]:
    """run id -> its estimate.

    Raises:
      UserError: settings that do not fit together, or more pairs than the data set has; the run is named.
    """
    import jax

    jax.config.update("jax_platforms", "cpu")  # shapes only; a device that is here is left to the runs
    found, state, seen = {}, functools.lru_cache(None)(_state_bytes), {}
    for run in runs:
        config = resolve(run.settings)
        try:
            size = state(_state_key(config)) * _checkpoints(config)
            key = fingerprint({**run.settings, "seed": 0, "init": "", "optim": {}})
            if key not in seen:
                seen[key] = _flops(config)
        except UserError as error:
            raise UserError(f"{run.id}: {error}") from None
        found[run.id] = Estimate(flops=seen[key], bytes=float(size))
    return found


def _state_key(config: RunConfig) -> RunConfig:
    """The part of a configuration on which the size of a checkpoint depends; equal ones are computed once."""
    train = TrainConfig(average=config.train.average)
    return RunConfig(
        model=config.model, features=config.features, objective=config.objective, optim=config.optim, train=train
    )


def _state_bytes(config: RunConfig) -> int:
    import jax

    from alp_jax.optim.optimizer import averages, make_optimizer
    from alp_jax.train.build import make_model
    from alp_jax.train.state import state_maker, state_shapes

    optimizer = make_optimizer(config.optim, config.train.steps)
    state = state_shapes(state_maker(*make_model(config), optimizer, averages(config.train)))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def _checkpoints(config: RunConfig) -> int:
    """Checkpoints that a run keeps (those by minutes are not known)."""
    train = config.train
    written = max(1, -(-train.steps // max(1, train.save_every)))
    extra = train.steps // train.keep_every if train.keep_every else 0
    return min(written, train.keep + extra + train.keep_best)


def _flops(config: RunConfig) -> float:
    """Operations of all steps of a run, captions taken to be as long as they may be."""
    from alp_jax.models.accounting import train_flops

    if not config.train.steps:
        return 0.0
    tokens = config.data.text_budget
    per_step = sum(
        share * batch * train_flops(config.model, config.objective.name, seconds, tokens)
        for seconds, batch, share in _buckets(config)
    )
    return config.train.steps * per_step


def _buckets(config: RunConfig) -> list[tuple[float, int, float]]:
    """(seconds, clips in a batch, share of the steps): of the data, or each bucket as often where there is none."""
    from alp_jax.core.clip import SAMPLE_RATE
    from alp_jax.data.order.buckets import batch_size
    from alp_jax.data.order.forecast import forecast
    from alp_jax.data.store.dataset import open_dataset

    data = config.data
    if "://" in data.path or (pathlib.Path(data.path) / "dataset.json").is_file():
        described = forecast(open_dataset(data.path), data, seed=config.seed, steps=config.train.steps)
        return [(b["seconds"], b["batch"], b["steps_share"]) for b in described["buckets"] if b["steps_share"]]
    seconds = data.bucket_seconds or (TYPICAL_SECONDS,)
    return [(s, batch_size(round(s * SAMPLE_RATE), data), 1 / len(seconds)) for s in seconds]
