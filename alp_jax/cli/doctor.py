"""``alp doctor``: what these machines offer a run, and whether it is what the run expects."""

import argparse
import importlib.util
import os
import platform
import shutil
from importlib import metadata

from alp_jax.cli.cluster import add_cluster_arguments, cluster_config
from alp_jax.cli.configuration import HELP, load_config
from alp_jax.config import RunConfig
from alp_jax.config.schema import MeshConfig
from alp_jax.core.errors import UserError

EXAMPLE = "alp doctor --config=configs/pretrain.py --config.mesh.fsdp=8 --devices 64"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "sentencepiece")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--path", default=".", metavar="DIR", help="folder whose free disk space is shown")
    parser.add_argument("--config", metavar="FILE[:ARGS]", help=f"fail where its mesh does not fit; {HELP}")
    parser.add_argument("--devices", type=int, metavar="N", help="fail unless there are so many on all hosts together")
    parser.add_argument("--megabytes", type=float, default=16.0, metavar="MB", help="of the array that is summed")
    add_cluster_arguments(parser)


def run(args: argparse.Namespace) -> dict:
    config = load_config(args.config, args.overrides) if args.config else None
    if args.overrides and not args.config:
        raise UserError(f"{args.overrides[0]} needs --config")
    if not os.path.isdir(args.path):
        raise UserError(f"--path {args.path} is no folder")
    import jax

    from alp_jax.parallel import hosts
    from alp_jax.parallel.runtime import setup_runtime

    setup_runtime()
    hosts.initialize(cluster_config(args))
    everything = _software()
    hosts.require_same(everything, "versions")
    report = everything | {
        "backend": jax.default_backend(),
        "devices": [str(device) for device in jax.devices()],
        "cpus": os.cpu_count(),
        "disk_free_gb": _free(args.path),
        "apt_get": shutil.which("apt-get"),
        "dpkg_deb": shutil.which("dpkg-deb"),
        "hosts": hosts.gather(_host(args.path), "what each host has"),
    }
    _check_devices(args, report["hosts"])
    report |= _mesh(config, args.megabytes)
    if hosts.is_primary() and not args.json:
        _print(report)
    return report


def _software() -> dict:
    import alp_jax

    return {
        "alp_jax": alp_jax.__version__,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "torch": metadata.version("torch") if importlib.util.find_spec("torch") else None,
    }


def _free(path: str) -> float:
    return round(shutil.disk_usage(path).free / 1e9, 1)


def _host(path: str) -> dict:
    import jax

    kinds = [device.device_kind for device in jax.local_devices()]
    return {
        "host": platform.node(),
        "process": jax.process_index(),
        "devices": len(kinds),
        "kind": ", ".join(sorted(set(kinds))),
        "cpus": os.cpu_count(),
        "disk_free_gb": _free(path),
    }


def _check_devices(args: argparse.Namespace, found: list[dict]) -> None:
    """Raises UserError when there are not as many devices as expected, or hosts have different ones."""
    total = sum(host["devices"] for host in found)
    if args.devices is not None and total != args.devices:
        each = ", ".join(f"{host['devices']} on {host['host']}" for host in found[:8])
        raise UserError(f"--devices {args.devices} expected, {total} found ({each})")
    first = found[0]
    for host in found[1:]:
        if (host["devices"], host["kind"]) != (first["devices"], first["kind"]):
            raise UserError(
                f"process {host['process']} on {host['host']} has {host['devices']} devices ({host['kind']}) but "
                f"process 0 on {first['host']} has {first['devices']} ({first['kind']})"
            )


def _mesh(config: RunConfig | None, megabytes: float) -> dict:
    """The mesh of the configuration (without one, all devices in a row), and how fast it adds up.

    Raises:
      UserError: it does not cover the devices, or batches do not fit it.
    """
    from alp_jax.parallel.bandwidth import all_reduce
    from alp_jax.parallel.mesh import batch_part, batch_shards, make_mesh

    mesh = make_mesh(config.mesh if config else MeshConfig())
    if config:
        shards, data = batch_shards(mesh), config.data
        knob, clips = "clips_multiple", data.clips_multiple
        if data.clips_per_batch:
            knob, clips = "clips_per_batch", data.clips_per_batch
        if clips % shards:
            raise UserError(f"config.data.{knob} = {clips} is not a multiple of the {shards} devices sharing a batch")
    return {
        "mesh": dict(mesh.shape),
        "batch_parts": batch_part(mesh)[1],
        "all_reduce": all_reduce(mesh, megabytes),
    }


def _print(report: dict) -> None:
    for name, value in report.items():
        if name == "hosts":
            value = f"{len(value)} processes"
        elif isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        elif isinstance(value, list):
            value = f"{len(value)}: {', '.join(value[:16])}{', ...' if value[16:] else ''}"
        print(f"{name:<13} {'none' if value is None else value}")
    for host in report["hosts"]:
        print(
            f"  process {host['process']} on {host['host']}: {host['devices']} x {host['kind']}, {host['cpus']} CPUs, "
            f"{host['disk_free_gb']} GB free"
        )
