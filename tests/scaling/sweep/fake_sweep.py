"""A sweep of runs that take a tenth of a second, with its driver as a program: OUT BEHAVIOUR,... PARALLEL."""

import pathlib
import sys

from alp_jax.core.errors import Preempted
from alp_jax.scaling.sweep.child import make_slots
from alp_jax.scaling.sweep.driver import Sweep
from alp_jax.scaling.sweep.plan import PlannedRun

CHILD = pathlib.Path(__file__).with_name("fake_child.py")


def make_runs(behaviours):
    """Runs named objective-pairs-number, expected to take a second."""
    return [PlannedRun(f"contrastive-{i + 1}-r{i}", "trained", b, (), {}, 1.0) for i, b in enumerate(behaviours)]


def command(run, folder):
    return [sys.executable, "-S", str(CHILD), str(folder), run.config]


def sweep(out, behaviours, only="", parallel=1, gpus=()):
    """The counts of a sweep of such runs, all or those with ``only`` in their names."""
    runs = make_runs(behaviours)
    driver = Sweep("grid", runs, out, command, grace_s=10, slots=make_slots(parallel, gpus))
    return driver.run([run for run in runs if only in run.id])


if __name__ == "__main__":
    try:
        print(sweep(pathlib.Path(sys.argv[1]), sys.argv[2].split(","), parallel=int(sys.argv[3])))
    except Preempted as error:
        print(error)
        sys.exit(42)
