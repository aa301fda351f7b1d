"""A data build under SLURM: an array with a part on each node, then a job that makes the data set of the parts."""

import dataclasses
import signal
from collections.abc import Sequence

from alp_jax.core.errors import Preempted, UserError
from alp_jax.launchers import slurm
from alp_jax.launchers.call import must, need
from alp_jax.launchers.names import option
from alp_jax.launchers.record import new_folder, submitted, write_record

# A build keeps what it has finished at any moment, so one that was killed is queued again like one that stopped.
_STOPPED = (Preempted.exit_code, 128 + signal.SIGTERM)


def launch_build(job: slurm.Job, command: Sequence[str], *, dry_run: bool) -> tuple[dict, str]:
    """Submits ``data build ...`` on ``job.nodes`` nodes; the result, and lines to print.

    The launch is recorded in ``OUT-launch``, beside the data set. With ``dry_run`` both scripts are returned instead.

    Raises:
      UserError: the command is not a build, lacks --out, or names a part; sbatch is not installed.
      AlpError: SLURM refused.
    """
    command = list(command)
    out = option(command, "--out")
    if command[:2] != ["data", "build"] or out is None:
        raise UserError(
            f"command {' '.join(command)!r} cannot be launched: of data only 'data build ... --out DIR' can"
        )
    for flag in ("--part", "--engine"):
        if option(command, flag) is not None:
            raise UserError(f"{flag} does not go with launch, which gives each of --nodes its part")
    one = dataclasses.replace(job, nodes=1, tasks_per_node=1, gpus_per_node=0)
    parts = [[*command, "--part", f"{number}/{job.nodes}"] for number in range(1, job.nodes + 1)]
    if dry_run:
        scripts = [
            slurm.render(one, parts, "slurm-%A_%a.txt", _STOPPED),
            slurm.render(one, [command], "slurm-%j.txt", _STOPPED),
        ]
        return {"kind": "slurm", "scripts": scripts}, "\n# and when all of its tasks have succeeded:\n".join(scripts)
    sbatch = need("sbatch", "run this where jobs are submitted")
    folder = new_folder(["data", "--workdir", f"{out.rstrip('/')}-launch"])
    task = "%A_%a" if job.nodes > 1 else "%j"
    scripts = {
        "parts.sbatch": slurm.render(one, parts, f"{folder}/slurm-{task}.txt", _STOPPED),
        "finish.sbatch": slurm.render(one, [command], f"{folder}/slurm-%j.txt", _STOPPED),
    }
    write_record(folder, "slurm", [*parts, command], dataclasses.asdict(job), scripts)
    first = must([sbatch, "--parsable", str(folder / "parts.sbatch")], folder).partition(";")[0]
    last = [sbatch, f"--dependency=afterok:{first}", str(folder / "finish.sbatch")]
    return submitted(folder, "slurm", f"parts are job {first}; {must(last, folder)}, after them")
