"""The least time that one device needs for a step, from published peaks: the longest of arithmetic, memory and links.

Real steps are slower: peaks are not reached, kernels wait for each other, and launching them takes time as well.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from alp_jax.core.accelerators import Device
from alp_jax.planning.traffic import Collective

DAY = 86_400.0


def link_seconds(collectives: Iterable[Collective], facts: Device) -> float:
    """Seconds that a device's links are busy.

    A ring over several nodes enters and leaves each node once, so its devices in one node share the node's network.
    """
    total = 0.0
    for one in collectives:
        nodes = {number // facts.per_node for number in one.group}
        if len(nodes) > 1 and facts.network:
            total += one.wire_bytes * len(nodes) / len(one.group) / facts.network
        else:
            total += one.wire_bytes / facts.link
    return total


def roofline(
    flops: float, moved: float, collectives: Iterable[Collective], audio_s: float, facts: Device, dtype: str
) -> dict[str, Any]:
    """Times of one step, the audio-seconds per second that they allow, and the ceiling of model FLOP utilisation (MFU).

    Args:
      flops, moved: operations and bytes of one device.
      collectives: of one device.
      audio_s: of the global batch.
      dtype: of the matrix products.
    """
    times = {
        "arithmetic": flops / facts.flops(dtype),
        "memory": moved / facts.bandwidth,
        "links": link_seconds(collectives, facts),
    }
    bound = max(times, key=times.__getitem__)
    return {
        **{f"{name}_s": seconds for name, seconds in times.items()},
        "bound": bound,
        "step_s": times[bound],
        "audio_s_per_s": audio_s / times[bound],
        "mfu_ceiling": times["arithmetic"] / times[bound],
    }


def projection(step_s: list[float], steps: int, devices: int, share: float, uses: Sequence[float]) -> dict[str, float]:
    """Days and device-hours of a run at ``share`` of the roofline; the steps that take ``step_s`` are as ``uses``."""
    seconds = steps * sum(time * use for time, use in zip(step_s, uses, strict=True)) / sum(uses) / share
    return {
        "steps": steps,
        "share_of_roofline": share,
        "days": seconds / DAY,
        "device_hours": seconds / 3600 * devices,
    }
