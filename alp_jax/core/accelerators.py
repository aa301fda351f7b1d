"""What makers publish about their accelerators, per device (one chip of a TPU), for dense arithmetic.

``link`` is what a device can send to its neighbours within a node or slice, in one direction; ``network`` is its share
of the connection to other nodes where the maker's reference system has one (one InfiniBand port per GPU), else 0. The
TPU pages give the sum of all links in both directions, of which half is used. TPUs multiply float32 by passes of
bfloat16, so their pages give no separate peak.
"""

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Device:
    """Facts about one accelerator, in FLOP/s, bytes and bytes/s; ``per_node`` devices share fast links."""

    name: str
    platform: str  # gpu | tpu
    flops_bf16: float  # V100: float16
    flops_f32: float  # of matrix products in XLA's default precision, without TensorFloat-32
    memory: float
    bandwidth: float
    link: float
    network: float
    per_node: int  # of a TPU: the chips of its largest slice
    axes: int  # of numbers in a topology: GPUs are counted, chips lie in a grid
    source: str

    def flops(self, compute_dtype: str) -> float:
        """Peak for ``bfloat16`` or ``float32`` matrix products."""
        return self.flops_bf16 if compute_dtype == "bfloat16" else self.flops_f32


def _gpu(name: str, bf16: float, f32: float, *gigabytes: float, source: str) -> Device:
    """``gigabytes``: memory, and per second bandwidth, link and network."""
    memory, bandwidth, link, network = (1e9 * number for number in gigabytes)
    return Device(name, "gpu", bf16 * 1e12, f32 * 1e12, memory, bandwidth, link, network, 8, 1, source)


def _tpu(
    name: str,
    bf16: float,
    memory_gib: float,
    bandwidth_gb: float,
    links_gbit: float,
    slice_chips: int,
    axes: int,
    source: str,
) -> Device:
    rates = (bf16 * 1e12, bf16 * 1e12, memory_gib * GIB, bandwidth_gb * 1e9, links_gbit / 16 * 1e9)
    return Device(name, "tpu", *rates, 0.0, slice_chips, axes, source)


DEVICES = {
    device.name: device
    for device in (
        _gpu("v100", 125, 15.7, 32, 900, 150, 12.5, source="NVIDIA V100 data sheet (SXM2 32 GB), DGX-1 V100"),
        _gpu("a100", 312, 19.5, 80, 2039, 300, 25, source="NVIDIA A100 data sheet (SXM 80 GB), DGX A100"),
        _gpu("h100", 989, 67, 80, 3350, 450, 50, source="NVIDIA H100 data sheet (SXM), DGX H100"),
        _gpu("h200", 989, 67, 141, 4800, 450, 50, source="NVIDIA H200 data sheet (SXM), DGX H200"),
        _tpu("v4", 275, 32, 1228, 2400, 4096, 3, "Google Cloud TPU documentation, TPU v4"),
        _tpu("v5e", 197, 16, 819, 1600, 256, 2, "Google Cloud TPU documentation, TPU v5e"),
        _tpu("v5p", 459, 95, 2765, 4800, 8960, 3, "Google Cloud TPU documentation, TPU v5p"),
        _tpu("v6e", 918, 32, 1640, 3584, 256, 2, "Google Cloud TPU documentation, TPU v6e"),
    )
}

# Names that drivers report. A100 40 GB, H100 PCIe and H100 NVL are left out, as the table does not apply to them.
_BY_DRIVER_NAME = {
    "Tesla V100-SXM2-16GB": "v100",
    "Tesla V100-SXM2-32GB": "v100",
    "NVIDIA A100-SXM4-80GB": "a100",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H200": "h200",
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
}


def of_kind(kind: str) -> Device | None:
    """Facts about the device that JAX's ``device_kind`` names, or None where the table has none."""
    return DEVICES.get(_BY_DRIVER_NAME.get(kind, ""))
