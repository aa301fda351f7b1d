"""Finds this process's number among the processes of a run, from flags or a scheduler's environment variables."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from alp_jax.config.schema import CLUSTERS, ClusterConfig
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose

# setting -> what to say when it is missing
_NAMES = {
    "coordinator": "--coordinator HOST:PORT (or ALP_COORDINATOR)",
    "processes": "--num_processes (or ALP_NUM_PROCESSES)",
    "process": "--process_id (or ALP_PROCESS_ID)",
}
_GKE_PORT = "6002"  # of JAX's coordinator in the jobs that xpk writes for GPUs


@dataclasses.dataclass(frozen=True)
class Membership:
    """Process ``process`` of ``processes``; process 0 listens at ``coordinator``. ``local_devices`` None means all."""

    coordinator: str
    processes: int
    process: int
    local_devices: tuple[int, ...] | None = None


def find_membership(config: ClusterConfig, environ: Mapping[str, str] | None = None) -> Membership | None:
    """This process's place, or None in a run of one. Flags override ALP_*, which override a scheduler's variables.

    Raises:
      UserError: settings that are missing or impossible; flag and variable are named.
    """
    environ = os.environ if environ is None else environ
    choose(config.kind, CLUSTERS, "--cluster")
    if config.kind == "none":
        return None
    given = {
        "coordinator": config.coordinator or environ.get("ALP_COORDINATOR"),
        "processes": config.num_processes or _number(environ, "ALP_NUM_PROCESSES"),
        "process": config.process_id if config.process_id >= 0 else _number(environ, "ALP_PROCESS_ID"),
    }
    given = {name: value for name, value in given.items() if value is not None}
    detect = {"slurm": _slurm, "tpu": _tpu, "gke": _gke}.get(config.kind)
    settings = (detect(environ, config.timeout_s) if detect else {}) | given
    if not settings:
        return None
    missing = [_NAMES[name] for name in _NAMES if name not in settings]
    if missing:
        raise UserError(f"--cluster {config.kind}: a run of several processes also needs {' and '.join(missing)}")
    member = Membership(**settings)
    if not 0 <= member.process < member.processes:
        raise UserError(f"--process_id {member.process} is not below --num_processes {member.processes}")
    return member if member.processes > 1 else None


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if text is None or text.isdigit():
        return None if text is None else int(text)
    raise UserError(f"{name}={text!r} is not a number")


def _need(environ: Mapping[str, str], kind: str, *names: str) -> None:
    missing = [name for name in names if not environ.get(name)]
    if missing:
        raise UserError(f"--cluster {kind}: {', '.join(missing)} is not set here; start it under {kind}, or set ALP_*")


def _slurm(environ: Mapping[str, str], timeout_s: float) -> dict:
    """One process per task. With several tasks on a node each takes the device of its local number."""
    _need(environ, "slurm", "SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_PROCID")
    nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", "")
    port = 61440 + (_number(environ, "SLURM_JOB_ID") or 0) % 4096
    settings: dict[str, Any] = {
        "coordinator": f"{first_node(nodes)}:{port}",
        "processes": _number(environ, "SLURM_NTASKS"),
        "process": _number(environ, "SLURM_PROCID"),
    }
    node_count = _number(environ, "SLURM_STEP_NUM_NODES") or _number(environ, "SLURM_NNODES") or 1
    bound = len([device for device in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]) == 1
    if settings["processes"] > node_count and not bound:
        settings["local_devices"] = (_number(environ, "SLURM_LOCALID") or 0,)
    return settings


def first_node(nodes: str) -> str:
    """The first name of a SLURM node list: ``gpu[007-009,12],login`` gives ``gpu007``."""
    head, bracket, rest = nodes.partition("[")
    if "," in head or not bracket:
        return head.partition(",")[0]
    return head + rest.replace("]", ",").replace("-", ",").partition(",")[0]


def _gke(environ: Mapping[str, str], timeout_s: float) -> dict:
    """TPU pods by their worker list; GPU pods by the variables that xpk's jobs have, or an indexed Job's number."""
    if environ.get("TPU_WORKER_HOSTNAMES") or environ.get("TPU_PROCESS_ADDRESSES"):
        return _tpu(environ, timeout_s)
    settings: dict[str, Any] = {}
    if address := environ.get("JAX_COORDINATOR_ADDRESS"):
        port = environ.get("JAX_COORDINATOR_PORT", _GKE_PORT)
        settings["coordinator"] = address if address.rpartition(":")[2].isdigit() else f"{address}:{port}"
    for name, variables in {"processes": ("NNODES",), "process": ("NODE_RANK", "JOB_COMPLETION_INDEX")}.items():
        numbers = [_number(environ, variable) for variable in variables if environ.get(variable)]
        if numbers:
            settings[name] = numbers[0]
    return settings


def _tpu(environ: Mapping[str, str], timeout_s: float) -> dict:
    """What the TPU's own metadata says, read through JAX's detection of Cloud TPU VMs and of TPU pods on GKE."""
    from jax._src.clusters import GceTpuCluster, GkeTpuCluster

    cluster = next((kind for kind in (GkeTpuCluster, GceTpuCluster) if kind.is_env_present()), None)
    if cluster is None:
        raise UserError("--cluster tpu: this is not a TPU VM (there is no TPU, or its metadata does not answer)")
    try:
        return {
            "coordinator": cluster.get_coordinator_address(int(timeout_s), None),
            "processes": cluster.get_process_count(),
            "process": cluster.get_process_id(),
        }
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"--cluster tpu: the TPU's metadata does not say who takes part: {error}") from None
