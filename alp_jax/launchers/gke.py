"""Runs as a JobSet on Google Kubernetes Engine, through xpk (Accelerated Processing Kit) where that is installed."""

import dataclasses
import math
import shlex
import shutil
from collections.abc import Sequence
from typing import Any

import yaml

from alp_jax.core import storage
from alp_jax.core.errors import UserError
from alp_jax.launchers.call import must, need
from alp_jax.launchers.names import check, check_count, for_cluster, option
from alp_jax.launchers.record import new_folder, submitted, write_record

_PORT = 6002
# kind -> (label of its nodes, devices of a node)
GPUS = {
    "a100": ("nvidia-tesla-a100", 8),
    "h100": ("nvidia-h100-80gb", 8),
    "h200": ("nvidia-h200-141gb", 8),
}
TPUS = {"v4": ("tpu-v4-podslice", 4), "v5e": ("tpu-v5-lite-podslice", 4), "v5p": ("tpu-v5p-slice", 4)}
TPUS |= {"v6e": ("tpu-v6e-slice", 4)}
_XPK = {"v4": "v4", "v5e": "v5litepod", "v5p": "v5p", "v6e": "v6e"}
_CORES = {"v4": 2, "v5p": 2}  # cores per chip, of kinds whose type names count cores


@dataclasses.dataclass(frozen=True)
class Workload:
    """What to request from the cluster: ``slices`` times ``kind``:``size``, as in ``alp plan --topology``.

    Attributes:
      image: container image in which ``alp`` is installed.
      claim: persistent volume claim that is mounted at /runs, where run folders lie; empty: none.
      restarts: after preemptions and failures.
    """

    name: str
    image: str
    kind: str
    size: str
    slices: int = 1
    namespace: str = "default"
    claim: str = ""
    restarts: int = 100

    def checked(self) -> "Workload":
        """The same workload; a UserError names the flag whose value is not possible."""
        check("name", self.name)
        check("image", self.image)
        check("namespace", self.namespace)
        if self.claim:
            check("claim", self.claim)
        check_count("slices", self.slices, 256)
        if not 0 <= self.restarts <= 10_000:
            raise UserError(f"--restarts {self.restarts} must be from 0 to 10000")
        if self.kind in TPUS:
            check("topology", self.size)
        elif self.kind not in GPUS:
            raise UserError(f"--topology {self.kind}:{self.size}: unknown kind; known: {', '.join([*GPUS, *TPUS])}")
        elif self.slices != 1:
            raise UserError(f"--slices {self.slices} is for TPUs: write --topology {self.kind}:GPUS")
        elif not self.size.isdecimal() or int(self.size) % 8 or not 8 <= int(self.size) <= 65_536:
            raise UserError(f"--topology {self.kind}:{self.size}: GPUs come in whole nodes of 8")
        return self

    @property
    def hosts(self) -> int:
        """Machines of one slice."""
        chips = math.prod(int(side) for side in self.size.split("x"))
        return -(-chips // (TPUS | GPUS)[self.kind][1])


def launch(
    work: Workload, command: list[str], *, cluster: str, project: str, zone: str, dry_run: bool
) -> tuple[dict, str]:
    """Submits a command, through xpk if a cluster is named and xpk is installed; the result, and lines to print.

    With ``dry_run`` it shows what would be submitted.

    Raises:
      UserError: a request that is not possible, or neither xpk nor kubectl is installed.
      AlpError: the cluster refused.
    """
    check_workdir(command, work.claim)
    xpk = shutil.which("xpk") if cluster else None
    if xpk or work.slices > 1:
        xpk = xpk or ("xpk" if dry_run else need("xpk", "pip install xpk, and name --cluster"))
        argv = xpk_argv(xpk, work, command, cluster=cluster, project=project, zone=zone)
        rendered = {}
    else:
        rendered = {"jobset.yaml": render(work, command)}
        argv = ["kubectl", "apply", "-f"]
    if dry_run:
        return {"kind": "gke", "argv": argv, **rendered}, rendered.get("jobset.yaml") or "\n".join(argv)
    kubectl = "" if xpk else need("kubectl", "install it, or xpk")
    folder = new_folder(command)
    write_record(folder, "gke", [command], dataclasses.asdict(work), rendered)
    argv = argv if xpk else [kubectl, "apply", "-f", str(folder / "jobset.yaml")]
    return submitted(folder, "gke", must(argv, folder, timeout_s=1800.0))


def render(work: Workload, command: Sequence[str]) -> str:
    """The JobSet as YAML. It restarts after a preemption or a failure, but not after bad input (exit code 2).

    Raises:
      UserError: a request that is not possible, such as several slices, which only xpk can introduce to each other.
    """
    if work.slices > 1:
        raise UserError(f"--slices {work.slices} needs xpk, which tells TPU slices about each other")
    return yaml.safe_dump(job_set(work.checked(), command), sort_keys=False, default_flow_style=False, width=1000)


def job_set(work: Workload, command: Sequence[str]) -> dict[str, Any]:
    """The JobSet as nested dictionaries."""
    label, per_host = (TPUS | GPUS)[work.kind]
    tpu, chips = work.kind in TPUS, math.prod(int(side) for side in work.size.split("x"))
    devices = min(per_host, chips)
    container: dict[str, Any] = {
        "name": "alp",
        "image": work.image,
        "command": ["alp", *for_cluster(command, "gke")],
        "resources": {"limits": {"google.com/tpu" if tpu else "nvidia.com/gpu": devices}},
        "ports": [{"containerPort": _PORT}],
    }
    select = {"cloud.google.com/gke-tpu-accelerator": label, "cloud.google.com/gke-tpu-topology": work.size}
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 300,  # enough to write a checkpoint
        "nodeSelector": select if tpu else {"cloud.google.com/gke-accelerator": label},
        "containers": [container],
    }
    if not tpu:
        environment = {
            "ALP_COORDINATOR": f"{work.name}-slice-0-0.{work.name}:{_PORT}",
            "ALP_NUM_PROCESSES": str(work.hosts),
        }
        container["env"] = [{"name": name, "value": value} for name, value in environment.items()]
    if work.claim:
        container["volumeMounts"] = [{"name": "runs", "mountPath": "/runs"}]
        pod["volumes"] = [{"name": "runs", "persistentVolumeClaim": {"claimName": work.claim}}]
    bad_input = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [UserError.exit_code]}}
    job = {
        "parallelism": work.hosts,
        "completions": work.hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": [bad_input]},
        "template": {"spec": pod},
    }
    stop = {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": work.name,
            "namespace": work.namespace,
            "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"},
        },
        "spec": {
            "failurePolicy": {"maxRestarts": work.restarts, "rules": [stop]},
            "replicatedJobs": [{"name": "slice", "replicas": 1, "template": {"spec": job}}],
        },
    }


def xpk_argv(xpk: str, work: Workload, command: Sequence[str], *, cluster: str, project: str, zone: str) -> list[str]:
    """The arguments with which xpk submits the same workload."""
    work = work.checked()
    chips = math.prod(int(side) for side in work.size.split("x")) * _CORES.get(work.kind, 1)
    memory = {"h200": 141}.get(work.kind, 80)
    device = f"--tpu-type={_XPK[work.kind]}-{chips}" if work.kind in TPUS else f"--device-type={work.kind}-{memory}gb-8"
    number = work.slices if work.kind in TPUS else work.hosts
    return [
        xpk,
        "workload",
        "create",
        f"--workload={work.name}",
        f"--cluster={check('cluster', cluster)}",
        f"--project={check('project', project)}",
        f"--zone={check('zone', zone)}",
        f"--docker-image={work.image}",
        device,
        f"--num-{'slices' if work.kind in TPUS else 'nodes'}={number}",
        f"--max-restarts={work.restarts}",
        # xpk hands this to the container's shell, so every argument is quoted
        f"--command={shlex.join(['alp', *for_cluster(command, 'gke')])}",
    ]


def check_workdir(command: Sequence[str], claim: str) -> None:
    """Raises UserError where the run folder would be lost with the pod."""
    workdir = option(command, "--workdir") or ""
    if claim and not (workdir.startswith("/runs/") or storage.is_remote(workdir)):
        raise UserError(f"--workdir {workdir} would be lost with the pod: the volume of --claim {claim} is at /runs")
