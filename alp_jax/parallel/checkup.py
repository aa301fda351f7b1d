"""Checks the machines of a run against what it expects: versions, devices, disks and links."""

import importlib.util
import os
import platform
import shutil
import statistics
import time
from importlib import metadata

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import alp_jax
from alp_jax.config import RunConfig
from alp_jax.config.schema import MeshConfig
from alp_jax.core.errors import UserError
from alp_jax.parallel import hosts
from alp_jax.parallel.mesh import AXES, batch_part, batch_shards, make_mesh

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "sentencepiece")


def check_machines(config: RunConfig | None, path: str, expected: int | None, megabytes: float) -> dict:
    """What every process finds, gathered, and the speed of a sum over ``config``'s mesh (else over all devices).

    Args:
      path: a folder whose free disk space is reported.
      expected: devices on all hosts together; None skips that check.
      megabytes: size of the array that is summed.

    Raises:
      UserError: versions or devices that differ between hosts, devices other than expected, or a mesh that does not
        cover the devices or into which batches do not divide.
    """
    software = {
        "alp_jax": alp_jax.__version__,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "torch": metadata.version("torch") if importlib.util.find_spec("torch") else None,
    }
    hosts.require_same(software, "versions")
    kinds = [device.device_kind for device in jax.local_devices()]
    disk_free_gb = round(shutil.disk_usage(path).free / 1e9, 1)
    own = {
        "host": platform.node(),
        "process": jax.process_index(),
        "devices": len(kinds),
        "kind": ", ".join(sorted(set(kinds))),
        "cpus": os.cpu_count(),
        "disk_free_gb": disk_free_gb,
    }
    everywhere = hosts.gather(own, "what each host has")
    _check_devices(expected, everywhere)
    mesh = make_mesh(config.mesh if config else MeshConfig())
    if config:
        _check_batches(config, batch_shards(mesh))
    return software | {
        "backend": jax.default_backend(),
        "devices": [str(device) for device in jax.devices()],
        "cpus": os.cpu_count(),
        "disk_free_gb": disk_free_gb,
        "apt_get": shutil.which("apt-get"),
        "dpkg_deb": shutil.which("dpkg-deb"),
        "hosts": everywhere,
        "mesh": dict(mesh.shape),
        "batch_parts": batch_part(mesh)[1],
        "all_reduce": all_reduce(mesh, megabytes),
    }


def report_lines(report: dict) -> list[str]:
    """What ``check_machines`` reports, as lines for people."""
    lines = []
    for name, value in report.items():
        if name == "hosts":
            value = f"{len(value)} processes"
        elif isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        elif isinstance(value, list):
            value = f"{len(value)}: {', '.join(value[:16])}{', ...' if value[16:] else ''}"
        lines.append(f"{name:<13} {'none' if value is None else value}")
    for host in report["hosts"]:
        lines.append(
            f"  process {host['process']} on {host['host']}: {host['devices']} x {host['kind']}, {host['cpus']} CPUs, "
            f"{host['disk_free_gb']} GB free"
        )
    return lines


def _check_devices(expected: int | None, everywhere: list[dict]) -> None:
    total = sum(host["devices"] for host in everywhere)
    if expected is not None and total != expected:
        each = ", ".join(f"{host['devices']} on {host['host']}" for host in everywhere[:8])
        raise UserError(f"--devices {expected} expected, {total} found ({each})")
    first = everywhere[0]
    for host in everywhere[1:]:
        if (host["devices"], host["kind"]) != (first["devices"], first["kind"]):
            raise UserError(
                f"process {host['process']} on {host['host']} has {host['devices']} devices ({host['kind']}) but "
                f"process 0 on {first['host']} has {first['devices']} ({first['kind']})"
            )


def _check_batches(config: RunConfig, shards: int) -> None:
    fixed = config.data.clips_per_batch
    knob, clips = ("clips_per_batch", fixed) if fixed else ("clips_multiple", config.data.clips_multiple)
    if clips % shards:
        raise UserError(f"config.data.{knob} = {clips} is not a multiple of the {shards} devices sharing a batch")


def all_reduce(mesh: Mesh, megabytes: float, repeats: int = 5) -> dict | None:
    """Times the sum over all devices of an array of ``megabytes`` on each; None on one device.

    A training step waits for sums like it.

    Returns:
      ``megabytes``, ``seconds`` (the median after a first run) and ``gb_per_s``: bytes that a ring sends out of each
      device, 2 (n - 1) / n of the array, per second.
    """
    if mesh.size == 1:
        return None
    rows = round(megabytes * 2**20 / 4)
    split = NamedSharding(mesh, PartitionSpec(AXES))

    @jax.jit
    def add_up(x_N: jax.Array) -> jax.Array:
        return jax.shard_map(
            lambda part: jax.lax.psum(part, AXES), mesh=mesh, in_specs=PartitionSpec(AXES), out_specs=PartitionSpec()
        )(x_N)

    x_N = jax.jit(lambda: jnp.ones(rows * mesh.size, jnp.float32), out_shardings=split)()
    jax.block_until_ready(add_up(x_N))
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(add_up(x_N))
        times.append(time.perf_counter() - began)
    seconds = statistics.median(times)
    sent = 2 * (mesh.size - 1) / mesh.size * rows * 4
    return {"megabytes": megabytes, "seconds": round(seconds, 6), "gb_per_s": round(sent / seconds / 1e9, 3)}
