"""``h100:64``, ``v5e:8x8`` or ``cpu:8``: devices to compile for, whether or not they are there."""

import dataclasses
import importlib.resources
import importlib.util
import math
import os
import re

import jax
from jax.experimental import topologies

from alp_jax.core.accelerators import DEVICES, Device
from alp_jax.core.errors import UserError

FORMAT = "cpu:8, h100:64 (number of GPUs), v5e:8x8 or v6e:8x8, v4:2x2x4 or v5p:4x4x4 (chips along each axis)"
MAX_DEVICES = 16_384
# described for XLA in h100_target.txt; an H200 is the same chip with different memory
COMPILED_GPUS = ("h100", "h200")
# Kernels are tuned by timing them on the device, and Triton's tilings come from that, so both are left out.
GPU_OPTIONS = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}


@dataclasses.dataclass(frozen=True)
class Target:
    """What is planned for: ``facts`` is None for a CPU, for which no peaks are published."""

    name: str
    kind: str
    sizes: tuple[int, ...]
    facts: Device | None

    @property
    def count(self) -> int:
        """The number of devices."""
        return math.prod(self.sizes)

    @property
    def backend(self) -> str:
        """``cpu``, ``gpu`` or ``tpu``."""
        return self.facts.platform if self.facts else "cpu"

    @property
    def options(self) -> dict:
        """Options for the compiler."""
        return dict(GPU_OPTIONS) if self.backend == "gpu" else {}


def parse(text: str) -> Target:
    """The target of ``KIND:SIZE``.

    Raises:
      UserError: not of this form, an unknown kind, or a size that the kind does not come in.
    """
    match = re.fullmatch(r"([a-z0-9]+):(\d+(?:x\d+)*)", text)
    if not match:
        raise UserError(f"--topology {text!r} is not of the form {FORMAT}")
    kind, sizes = match.group(1), tuple(int(size) for size in match.group(2).split("x"))
    facts = DEVICES.get(kind)
    if kind != "cpu" and facts is None:
        raise UserError(f"--topology {text}: device {kind!r} is unknown; known: cpu, {', '.join(DEVICES)}")
    if len(sizes) != (facts.axes if facts else 1) or not 1 <= math.prod(sizes) <= MAX_DEVICES:
        raise UserError(f"--topology {text}: write {FORMAT}; 1 to {MAX_DEVICES} devices")
    if facts and facts.platform == "tpu" and math.prod(sizes) > facts.per_node:
        raise UserError(f"--topology {text}: the largest slice of {kind} has {facts.per_node} chips")
    if facts and facts.platform == "gpu":
        if kind not in COMPILED_GPUS:
            raise UserError(
                f"--topology {text}: XLA compiles for a GPU from a description, which exists for h100 and h200 only"
            )
        if sizes[0] > facts.per_node and sizes[0] % facts.per_node:
            raise UserError(f"--topology {text}: more GPUs than one node has come in whole nodes of {facts.per_node}")
    return Target(text, kind, sizes, facts)


def devices(target: Target) -> list:
    """Devices of the target to make a mesh of; programs can be compiled for them but not run.

    Raises:
      UserError: the plug-in of the target is not installed, or does not know such a topology.
    """
    if target.backend == "cpu":
        return _cpu(target)
    package, extra = {"gpu": ("jax_cuda12_plugin", "cuda"), "tpu": ("libtpu", "tpu")}[target.backend]
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"--topology {target.name} needs the compiler in {package}, which needs no {target.backend.upper()}: "
            f"pip install -e '.[{extra}]', or plan with --topology cpu:{target.count}"
        )
    try:
        return list((_gpus if target.backend == "gpu" else _tpus)(target).devices)
    except (ValueError, RuntimeError) as error:  # JaxRuntimeError is a RuntimeError
        raise UserError(f"--topology {target.name}: the compiler refuses it: {error}") from None


def _cpu(target: Target) -> list:
    try:
        if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
            jax.config.update("jax_num_cpu_devices", target.count)
    except RuntimeError:
        pass  # this process has used its devices, so their number is fixed
    devices = jax.devices("cpu")
    if len(devices) < target.count:
        raise UserError(f"--topology {target.name}: this process has {len(devices)} CPU devices already")
    return devices[: target.count]


def _gpus(target: Target):
    text = (importlib.resources.files("alp_jax.planning") / "h100_target.txt").read_text(encoding="utf-8")
    facts = DEVICES[target.kind]
    if target.kind != "h100":
        text = re.sub(r"(device_memory_size:) \d+", rf"\1 {int(facts.memory)}", text)
        text = re.sub(r"(memory_bandwidth:) \d+", rf"\1 {int(facts.bandwidth)}", text)
        text = text.replace("H100 SXM, 80 GB", target.kind.upper())
    within = min(target.count, facts.per_node)
    shape = f"1x{target.count // within}x{within}"
    return topologies.get_topology_desc(target.kind, platform="cuda", target_config=text, topology=shape)


def _tpus(target: Target):
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # do not ask the metadata server which TPU this machine has
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    return topologies.get_topology_desc(target.name, platform="tpu")
