"""Several commands as separate jobs, a SLURM array or one JobSet each, so that a failure harms no other."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from alp_jax.core.errors import UserError
from alp_jax.launchers import gke, slurm
from alp_jax.launchers.call import must
from alp_jax.launchers.names import check
from alp_jax.launchers.record import new_folder, write_record

QUEUE = "kueue.x-k8s.io/queue-name"


@dataclasses.dataclass(frozen=True)
class Jobs:
    """How commands are handed to one kind of scheduler.

    Attributes:
      devices: held by each command.
      at_once: how many run at a time; 0: as many as there is room for.
      render: (commands, folder of the logs) -> the content of ``file``.
      program: what submits the file, given ``arguments`` before it. hint: what to do where it is not installed.
      local: whether their output lands on a disk of this machine.
    """

    kind: str
    devices: int
    at_once: int
    render: Callable[[Sequence[Sequence[str]], str], str]
    file: str
    program: str
    arguments: tuple[str, ...]
    hint: str
    local: bool

    def submit(
        self, program: str, commands: list[list[str]], workdir: pathlib.Path, settings: Mapping[str, Any]
    ) -> tuple[pathlib.Path, str]:
        """Records and submits the commands; returns the folder of the record and the output of ``program``.

        Raises:
          AlpError: the scheduler refused.
        """
        # recorded first, so that what was submitted is known even if the scheduler's answer never arrives
        folder = new_folder(["sweep", "--workdir", str(workdir)])
        write_record(folder, self.kind, commands, settings, {self.file: self.render(commands, str(folder))})
        return folder, must([program, *self.arguments, str(folder / self.file)], folder)


def slurm_jobs(job: slurm.Job) -> Jobs:
    """Commands as tasks of one SLURM array."""
    if job.at_once < 0:
        raise UserError(f"--at_once {job.at_once} cannot be negative")
    job = job.checked()

    def render(commands: Sequence[Sequence[str]], folder: str) -> str:
        # %a is the task's number only within an array
        return slurm.render(job, commands, f"{folder}/slurm-{'%A_%a' if len(commands) > 1 else '%j'}.txt")

    devices = job.nodes * max(job.gpus_per_node, 1)
    hint = "run this where jobs are submitted"
    return Jobs("slurm", devices, job.at_once, render, "job.sbatch", "sbatch", (), hint, local=True)


def gke_jobs(work: gke.Workload, at_once: int, queue: str) -> Jobs:
    """Commands as one numbered JobSet each, which wait in ``queue``, a local queue of Kueue, where it is named."""
    if at_once < 0:
        raise UserError(f"--at_once {at_once} cannot be negative")
    if queue:
        check("name", queue)
    work = work.checked()

    def render(commands: Sequence[Sequence[str]], folder: str) -> str:
        documents = []
        for number, command in enumerate(commands):
            gke.check_workdir(command, work.claim)
            one = gke.job_set(dataclasses.replace(work, name=f"{work.name}-{number}").checked(), command)
            if queue:
                one["metadata"]["labels"] = {QUEUE: queue}
                one["spec"]["suspend"] = True  # until the queue admits it
            documents.append(one)
        return yaml.safe_dump_all(documents, sort_keys=False, default_flow_style=False, width=1000)

    devices = math.prod(int(side) for side in work.size.split("x"))
    return Jobs("gke", devices, at_once, render, "jobsets.yaml", "kubectl", ("apply", "-f"), "install it", local=False)
