"""Asynchronous, atomic checkpoints through Orbax: the state and everything that decides what comes next, in one commit.

``state/`` of a step holds the arrays, ``clock/`` a JSON object with the data fingerprint and the counters of the
run. A step exists only when its commit is complete, so a kill at any time loses nothing that was listed.
"""

import logging
import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from alp_jax.core.errors import StorageError, UserError
from alp_jax.core.files import read_json
from alp_jax.optim.averaging import range_average

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax reports every save at INFO and WARNING


class Checkpoints:
    """The checkpoints of one run.

    Args:
      run_dir: the run folder; checkpoints lie in its ``checkpoints/``.
      keep: how many of the latest steps stay.
    """

    def __init__(self, run_dir: pathlib.Path, keep: int):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=True, cleanup_tmp_directories=True, create=True
        )
        self._path = (run_dir / "checkpoints").absolute()
        self._manager = ocp.CheckpointManager(self._path, options=options)

    def latest(self) -> int | None:
        """The last complete step, or None; folders without a commit do not count."""
        complete = [step for step in self._manager.all_steps() if (self._path / str(step) / "state").is_dir()]
        return max(complete, default=None)

    def save(self, step: int, state: Any, clock: dict) -> None:
        """Starts writing ``state`` and ``clock`` as ``step``; an error of the previous save is raised here.

        Raises:
          StorageError: this or the previous save could not be written.
        """
        try:
            self._manager.save(
                step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), clock=ocp.args.JsonSave(clock))
            )
        except (OSError, ValueError) as error:
            raise StorageError(f"checkpoint {step} in {self._path} was not written: {error}") from error

    def restore(self, step: int, abstract: Any) -> tuple[Any, dict]:
        """Reads ``step`` into the shapes, dtypes and shardings of ``abstract``; returns (state, clock).

        Raises:
          StorageError: the checkpoint is damaged or of other shapes; the message names its folder.
        """
        arguments = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), clock=ocp.args.JsonRestore())
        try:
            restored = self._manager.restore(step, args=arguments)
        except (OSError, ValueError, KeyError) as error:
            raise StorageError(f"checkpoint {self._path / str(step)} cannot be restored: {error}") from error
        return restored["state"], restored["clock"]

    def close(self) -> None:
        """Waits for the save in flight and releases the folder."""
        self._manager.wait_until_finished()
        self._manager.close()


def load_params(run_dir: str | pathlib.Path, step: int | None = None, since: int | None = None) -> tuple[dict, int]:
    """The parameters of a run as nested dictionaries of numpy arrays, with the step they are from.

    A run that averages its parameters gives the average.

    Args:
      run_dir: a run folder.
      step: which checkpoint; None takes the latest.
      since: an earlier checkpoint of a run with a running average: the mean over the steps after it.

    Raises:
      UserError: the run has no such checkpoint, or no average.
    """
    path = pathlib.Path(run_dir).absolute() / "checkpoints"
    steps = sorted(int(p.name) for p in path.glob("*") if p.name.isdigit() and (p / "state").is_dir())
    for wanted in (step, since):
        if not steps or wanted not in (None, *steps):
            have = f"it has {', '.join(map(str, steps))}" if steps else "it has none"
            which = "" if wanted is None else f" {wanted}"
            raise UserError(f"{run_dir} has no checkpoint{which}: {have}")
    step = steps[-1] if step is None else step
    state = read_checkpoint(path / str(step))
    if since is None:
        return state.get("average", state["params"]), step
    kind = read_json(path.parent / "config.json", "run config")["train"]["average"]
    if kind != "running" or since >= step:
        raise UserError(f"{run_dir}: a mean since step {since} needs config.train.average=running and a later step")
    return range_average(read_checkpoint(path / str(since))["average"], since, state["average"], step), step


def read_checkpoint(folder: pathlib.Path) -> dict:
    """``params`` and, if there is one, ``average`` of the checkpoint in ``folder``, as numpy arrays."""
    with ocp.StandardCheckpointer() as checkpointer:
        shapes = checkpointer.metadata(folder / "state").item_metadata
        host = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        abstract = jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=host), dict(shapes))
        try:
            state = checkpointer.restore(folder / "state", abstract)
        except (OSError, ValueError, KeyError) as error:
            raise StorageError(f"checkpoint {folder} cannot be restored: {error}") from error
    return {name: jax.tree.map(np.asarray, state[name]) for name in ("params", "average") if name in state}
