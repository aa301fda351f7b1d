"""A plan as tables that Markdown shows."""

from typing import Any


def text(plan: dict[str, Any]) -> str:
    """What ``alp plan`` prints for the dictionary of ``alp_jax.planning.plan.plan``."""
    mesh = " x ".join(f"{axis} {size}" for axis, size in plan["mesh"].items())
    state = plan["state_bytes"] / 1e9
    kept, size = plan["checkpoints"]["kept"], plan["checkpoints"]["bytes"] / 1e9
    versions = ", ".join(f"{name} {version}" for name, version in plan["versions"].items())
    lines = [
        f"{plan['model']}, {plan['objective']}, {plan['compute_dtype']}: {plan['parameters']:,} parameters, "
        f"state {state:.2f} GB per device",
        f"compiled for {plan['topology']} ({mesh}); nothing was executed ({versions})",
        f"disk: {kept:,} checkpoints of {size:.2f} GB stay, {kept * size:.2f} GB, and {size:.2f} GB more during a save",
        "",
        *_programs(plan),
        "",
        *_collectives(plan),
    ]
    if any(bucket["least"]["bytes"] < bucket["bytes"] for bucket in plan["buckets"]):
        lines += [
            "",
            "Least: where every condition, such as a Balancer that acts in some steps, takes its cheapest branch.",
        ]
    if plan["facts"]:
        lines += ["", *_speed(plan), "", *_run(plan)]
    if plan["method"] == "layers":
        lines += [
            "",
            "Added up from pieces compiled one by one; the peak is an estimate, see alp_jax/planning/layers.py.",
        ]
    return "\n".join(lines)


def largest(plan: dict[str, Any], number: int) -> str:
    """The kernels that move the most bytes, by batch shape."""
    lines = []
    for bucket in plan["buckets"]:
        lines += [
            f"largest kernels of {bucket['seconds']:g} s, {bucket['tokens']} tokens",
            "",
            "| GB | times | kind | from |",
            "|--:|--:|---|---|",
        ]
        lines += [
            f"| {one['bytes'] / 1e9:.3f} | {one['times']:g} | {one['kind']} | {one['source']} |"
            for one in bucket["largest"][:number]
        ]
    return "\n".join(lines)


def _programs(plan: dict[str, Any]) -> list[str]:
    lines = [
        "| bucket s | tokens | clips | of steps | per device: TFLOP | peak GB | temporary GB | moved GB (least) "
        "| kernels (least) | compile s |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for bucket in plan["buckets"]:
        memory = bucket["memory"]
        least = bucket["least"]
        fits = "" if bucket.get("fits", True) else " (too much)"
        lines.append(
            f"| {bucket['seconds']:g} | {bucket['tokens']} | {bucket['clips']} | {bucket['share']:.1%} "
            f"| {bucket['flops'] / 1e12:.3f} "
            f"| {memory['peak'] / 1e9:.2f}{fits} | {memory['temporary'] / 1e9:.2f} "
            f"| {bucket['bytes'] / 1e9:.2f} ({least['bytes'] / 1e9:.2f}) "
            f"| {bucket['kernels']:,.0f} ({least['kernels']:,.0f}) "
            f"| {bucket['compile_s']:.0f} |"
        )
    programs, seconds = len(plan["buckets"]), sum(bucket["compile_s"] for bucket in plan["buckets"])
    return [*lines, "", f"programs to compile: {programs}, in {seconds:.0f} s here, one after the other"]


def _collectives(plan: dict[str, Any]) -> list[str]:
    lines = [
        "| bucket s | tokens | collective | number (least) | result MB (least) | sent MB per device |",
        "|--:|--:|---|--:|--:|--:|",
    ]
    for bucket in plan["buckets"]:
        for kind, one in bucket["collectives"].items():
            least = bucket["least"]["collectives"].get(kind, {"count": 0, "bytes": 0})
            lines.append(
                f"| {bucket['seconds']:g} | {bucket['tokens']} | {kind} | {one['count']:,.0f} ({least['count']:,.0f}) "
                f"| {one['bytes'] / 1e6:.2f} ({least['bytes'] / 1e6:.2f}) | {one['wire_bytes'] / 1e6:.2f} |"
            )
    return lines if len(lines) > 2 else ["no collectives"]


def _speed(plan: dict[str, Any]) -> list[str]:
    lines = [
        "| bucket s | tokens | arithmetic ms | memory ms | links ms | bound by | audio-s/s (least traffic) "
        "| MFU ceiling |",
        "|--:|--:|--:|--:|--:|---|--:|--:|",
    ]
    for bucket in plan["buckets"]:
        roof, least = bucket["roofline"], bucket["least"]["roofline"]
        times = " | ".join(f"{1e3 * roof[f'{name}_s']:.2f}" for name in ("arithmetic", "memory", "links"))
        lines.append(
            f"| {bucket['seconds']:g} | {bucket['tokens']} | {times} | {roof['bound']} "
            f"| {roof['audio_s_per_s']:,.0f} ({least['audio_s_per_s']:,.0f}) | {100 * roof['mfu_ceiling']:.0f} % |"
        )
    return lines


def _run(plan: dict[str, Any]) -> list[str]:
    run, least, shapes = plan["run"], plan["run"]["least"], len(plan["buckets"])
    equal = len({bucket["share"] for bucket in plan["buckets"]}) == 1
    how = "in equal numbers of steps" if equal else "as often as the data asks for them"
    turns = "" if shapes == 1 else f", {shapes} shapes {how}"
    return [
        f"the run: {run['steps']:,} steps{turns} at {100 * run['share_of_roofline']:g} % of the roofline: "
        f"{run['days']:.2f} days ({least['days']:.2f} with the least traffic), {run['device_hours']:,.0f} device-hours",
        f"peaks from: {plan['facts']['source']}",
    ]
