"""Makes the driver of a sweep from a user's arguments; checks all that can be checked before a run starts."""

import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence

from alp_jax.core.accelerators import DEVICES
from alp_jax.core.errors import AlpError, UserError
from alp_jax.core.names import choose
from alp_jax.core.run_files import is_done
from alp_jax.scaling.sweep.child import Slot
from alp_jax.scaling.sweep.driver import Sweep
from alp_jax.scaling.sweep.folder import run_home
from alp_jax.scaling.sweep.forecast import Budget, RunEstimate
from alp_jax.scaling.sweep.plan import PlannedRun, sweep_name


def open_sweep(
    spec: str,
    runs: list[PlannedRun],
    out: str,
    *,
    data: str | None,
    only: str | None,
    slots: Sequence[Slot],
    devices: int,
    rate: float | None,
    budget: Budget,
    needs_inputs: bool,
) -> tuple[Sweep, list[PlannedRun]]:
    """The sweep in folder ``out``, with estimates of its runs, and the runs that were asked for.

    Args:
      spec: ``FILE:ARGUMENTS`` that ``runs`` come from. data: that they were planned with.
      only: text that the names of the runs asked for contain; None: all runs.
      needs_inputs: whether what runs read has to be here, as they start now. Otherwise the sweep says what is missing.

    Raises:
      UserError: no such run, settings of a run that do not fit together, or inputs that are missing: all are named.
    """
    selected = [run for run in runs if only is None or only in run.id]
    if not selected:
        raise UserError(f"--only {only}: no run of {len(runs)} has that in its name, such as {runs[0].id}")
    unfinished = [run for run in selected if not is_done(run_home(pathlib.Path(out), run.id))]
    estimates = estimate_in_own_process(spec, data) if unfinished else {}
    known = [estimates[run.id].missing for run in unfinished if run.id in estimates]
    missing = list(dict.fromkeys(line for lines in known for line in lines))
    if missing and needs_inputs:
        raise UserError(f"{len(missing)} inputs of the sweep are missing; nothing was started: {'; '.join(missing)}")
    settings = {
        "missing": missing,
        "slots": slots,
        "estimates": estimates,
        "devices": devices,
        "rate": rate,
        "budget": budget,
    }
    return Sweep(sweep_name(spec), runs, out, **settings), selected


def estimate_in_own_process(spec: str, data: str | None) -> dict[str, RunEstimate]:
    """run id -> its estimate, by ``alp sweep estimate``: that needs JAX, which the driver of a sweep does without.

    Raises:
      UserError: the problem with a run that the command reports.
    """
    command = [sys.executable, "-m", "alp_jax", "sweep", "estimate", "--json", f"--sweep={spec}"]
    command += [f"--data={data}"] if data else []
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1].removeprefix("alp: ")
        if done.returncode == UserError.exit_code:
            raise UserError(last)
        raise AlpError(f"the sweep cannot be estimated: {last}")
    return {name: RunEstimate(**costs) for name, costs in json.loads(done.stdout)["estimates"].items()}


def expected_rate(runs: Sequence[PlannedRun], device: str, share: float) -> float:
    """FLOP/s that runs are expected to reach: a ``share`` of what is published of a kind of ``device``.

    Raises:
      UserError: no such device.
    """
    facts = DEVICES[choose(device, DEVICES, "--device")]
    return share * min(facts.flops(run.settings["model"]["compute_dtype"]) for run in runs)
