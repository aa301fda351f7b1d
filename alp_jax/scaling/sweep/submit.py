"""Hands the runs of a sweep to a scheduler, one job per run; repeating the command submits what is missing."""

import pathlib
from collections.abc import Mapping
from typing import Any

from alp_jax.core.errors import UserError
from alp_jax.core.run_files import LAUNCHES
from alp_jax.launchers.call import need
from alp_jax.launchers.jobs import Jobs
from alp_jax.scaling.sweep.driver import Sweep, train_command
from alp_jax.scaling.sweep.plan import PlannedRun
from alp_jax.scaling.sweep.status_table import describe, missing_lines


def submit(
    sweep: Sweep, selected: list[PlannedRun], jobs: Jobs, settings: Mapping[str, Any], *, dry_run: bool
) -> tuple[dict[str, Any], str]:
    """Renders the jobs of unfinished runs, checks the budget, and submits them; the result, and lines to print.

    With ``dry_run`` it shows what would be submitted. ``settings``: what was asked for, for the record.

    Raises:
      UserError: nothing is left to do, a request is not possible, or no scheduler is installed here.
      AlpError: the scheduler refused.
    """
    todo = [run for run in selected if not sweep.finished(run)]
    if not todo:
        raise UserError(f"--out {sweep.out}: all {len(selected)} runs are finished; nothing to submit")
    sweep.check(selected, disk=jobs.local and not dry_run)
    commands = [train_command(run, sweep.home(run))[3:] for run in todo]  # without python -m alp_jax
    names, outlook = [run.id for run in todo], describe(sweep.outlook(selected))
    if dry_run:
        text = jobs.render(commands, str(pathlib.PurePath(sweep.out, LAUNCHES, "N")))
        lines = [text, *(f"# {line}" for line in (f"{len(todo)} runs; {outlook}", *missing_lines(sweep.missing)))]
        return {"kind": jobs.kind, "runs": names, "rendered": text, "missing": sweep.missing}, "\n".join(lines)
    # The order matters: nothing is marked as waiting unless the scheduler's program is there, and nothing is submitted
    # unless the driver's lock is free, since a run that a driver here works on would be done twice.
    program = need(jobs.program, jobs.hint)
    sweep.hand_over(todo)
    folder, output = jobs.submit(program, commands, sweep.out, {**settings, "runs": names})
    text = f"{output}\n{len(todo)} runs; {outlook}\nrecorded in {folder}\n"
    text += f"when they have ended: alp sweep table --out {sweep.out}"
    return {"kind": jobs.kind, "runs": names, "record": str(folder), "output": output}, text
