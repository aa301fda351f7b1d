"""Runs as jobs of SLURM, the workload manager: one job, or an array where there are several commands."""

import dataclasses
import shlex
from collections.abc import Sequence

from alp_jax.core.errors import Preempted, UserError
from alp_jax.launchers.call import must, need
from alp_jax.launchers.names import check, check_count, for_cluster
from alp_jax.launchers.record import new_folder, submitted, write_record

SIGNAL_S = 300  # before the time limit: enough to write a checkpoint


@dataclasses.dataclass(frozen=True)
class Job:
    """What to request from SLURM.

    Attributes:
      tasks_per_node: processes on a node; 1, or one per GPU.
      at_once: of several commands, how many run at a time; 0: as many as there is room for.
      alp: the program, as it is found on the nodes.
    """

    name: str
    nodes: int = 1
    gpus_per_node: int = 8
    tasks_per_node: int = 1
    cpus_per_task: int = 16
    time: str = "24:00:00"
    partition: str = ""
    account: str = ""
    at_once: int = 0
    alp: str = ".venv/bin/alp"

    def checked(self) -> "Job":
        """The same job; a UserError names the flag whose value is not possible."""
        check("name", self.name)
        check("time", self.time)
        for flag in ("partition", "account"):
            if getattr(self, flag):
                check(flag, getattr(self, flag))
        for flag, most in (("nodes", 4096), ("tasks_per_node", 64), ("cpus_per_task", 1024)):
            check_count(flag, getattr(self, flag), most)
        if not 0 <= self.gpus_per_node <= 64:
            raise UserError(f"--gpus_per_node {self.gpus_per_node} must be from 0 to 64")
        return self


def launch(job: Job, command: list[str], *, dry_run: bool) -> tuple[dict, str]:
    """Submits one command; the result, and lines to print: with ``dry_run`` the script that would be submitted.

    Raises:
      UserError: a request that is not possible, or sbatch is not installed.
      AlpError: SLURM refused.
    """
    if dry_run:
        script = render(job, [command], "slurm-%j.txt")
        return {"kind": "slurm", "script": script}, script
    sbatch = need("sbatch", "run this where jobs are submitted")
    folder = new_folder(command)
    script = render(job, [command], f"{folder}/slurm-%j.txt")
    write_record(folder, "slurm", [command], dataclasses.asdict(job), {"job.sbatch": script})
    return submitted(folder, "slurm", must([sbatch, str(folder / "job.sbatch")], folder))


def render(
    job: Job, commands: Sequence[Sequence[str]], log: str, stopped: Sequence[int] = (Preempted.exit_code,)
) -> str:
    """The batch script. A command that was stopped (exit codes ``stopped``) is queued again; others end the job.

    ``log`` is the file for what it prints, in SLURM's notation.
    """
    job = job.checked()
    lines = [
        "#!/usr/bin/env bash",
        f"#SBATCH --job-name={job.name}",
        f"#SBATCH --nodes={job.nodes}",
        f"#SBATCH --ntasks-per-node={job.tasks_per_node}",
        f"#SBATCH --cpus-per-task={job.cpus_per_task}",
        f"#SBATCH --time={job.time}",
        f"#SBATCH --signal=TERM@{SIGNAL_S}",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        f"#SBATCH --output={_sbatch_quote(log)}",
    ]
    lines += [f"#SBATCH --gpus-per-node={job.gpus_per_node}"] if job.gpus_per_node else []
    lines += [f"#SBATCH --partition={job.partition}"] if job.partition else []
    lines += [f"#SBATCH --account={job.account}"] if job.account else []
    if len(commands) > 1:
        most = f"%{job.at_once}" if job.at_once else ""
        lines.append(f"#SBATCH --array=0-{len(commands) - 1}{most}")
    lines += ["set -uo pipefail", "case ${SLURM_ARRAY_TASK_ID:-0} in"]
    for number, command in enumerate(commands):
        argv = [job.alp, *for_cluster(command, "slurm")]
        lines.append(f"{number}) command=({' '.join(shlex.quote(argument) for argument in argv)}) ;;")
    lines += [
        "esac",
        # All processes of a run leave at the same step; the first to end must not take the others with it.
        'srun --kill-on-bad-exit=0 --wait=120 "${command[@]}"',
        "status=$?",
        "job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}",
        f'case $status in {"|".join(map(str, stopped))}) scontrol requeue "${{job:-$SLURM_JOB_ID}}" ;; esac',
        'exit "$status"',
    ]
    return "\n".join(lines) + "\n"


def _sbatch_quote(text: str) -> str:
    """``text`` for an #SBATCH line, which has its own rules: double quotes, and a backslash before quotes inside."""
    plain = all(c.isalnum() or c in "/._-%=+,:@" for c in text)
    return text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
