"""Compiles the training step of a configuration for devices that are not there and says what it needs on them."""

import hashlib
import importlib.metadata
import json
import pathlib
import time
from typing import Any

from alp_jax.config import RunConfig, to_dict
from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json, write_json
from alp_jax.core.progress import say, stage
from alp_jax.core.target import planned_for
from alp_jax.data.order.forecast import ShapeUse
from alp_jax.models.accounting import train_flops
from alp_jax.objectives.registry import sides_of
from alp_jax.parallel.mesh import make_mesh
from alp_jax.planning.compiled import Compiled, compile_for
from alp_jax.planning.flops import flops
from alp_jax.planning.layers import by_layers
from alp_jax.planning.program import Program, buckets, make_program, state_bytes
from alp_jax.planning.roofline import projection, roofline
from alp_jax.planning.run_costs import checkpoint_bytes, checkpoints_kept
from alp_jax.planning.topology import Target, devices

LARGEST = 20  # number of kernels that are listed
COMPILERS = {"cpu": (), "gpu": ("jax-cuda12-plugin",), "tpu": ("libtpu",)}  # needed besides jaxlib


def plan(
    config: RunConfig,
    target: Target,
    *,
    bucket_s: float | None = None,
    layers: bool = False,
    share: float = 1.0,
    out: str | pathlib.Path | None = None,
) -> dict[str, Any]:
    """The plan as a dictionary that goes into JSON; ``alp_jax.planning.report`` prints it.

    Args:
      config: of the run; where its data set is not here, ``shape_uses`` says what is planned.
      target: what to compile for.
      bucket_s: one batch shape by its seconds; None takes all.
      layers: compile layer by layer and add up, where the whole step takes the compiler too long.
      share: of the roofline's speed that the projected days assume.
      out: file that is written after every batch shape; shapes that are in it already are not compiled again.

    Raises:
      UserError: settings or a topology that are not possible, or a plug-in that is not installed.
    """
    mesh = make_mesh(config.mesh, devices(target))
    shapes = buckets(config, mesh, bucket_s)
    with planned_for(target.backend):
        program = make_program(config, mesh)
        known = _finished(out)
        result = {**_header(config, target, program, layers), "buckets": []}
        for i, bucket in enumerate(shapes):
            label = f"{bucket.clips} clips of {bucket.seconds:g} s, {bucket.tokens} tokens ({i + 1} of {len(shapes)})"
            with stage(f"compile for {target.name}:", label):
                entry = _bucket(config, target, program, bucket, layers, known)
            result["buckets"].append(entry)
            if target.facts:
                result["run"] = _run(config, target, result["buckets"], share)
            if out:
                write_json(pathlib.Path(out), result)
    return result


def _say(text: str, target: Target) -> None:
    say(f"compile for {target.name}: {text}")


def _finished(out: str | pathlib.Path | None) -> dict[str, dict]:
    """Batch shapes of an earlier plan in the same file, by the fingerprint of what was compiled."""
    if not out:
        return {}
    path = pathlib.Path(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return {}
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error}") from None
    earlier = read_json(pathlib.Path(out), "plan")
    if not isinstance(earlier, dict) or "topology" not in earlier:
        raise UserError(f"--out {out} exists and is not a plan; name another file")
    return {entry["fingerprint"]: entry for entry in earlier.get("buckets", [])}


def _header(config: RunConfig, target: Target, program: Program, layers: bool) -> dict[str, Any]:
    return {
        "topology": target.name,
        "devices": target.count,
        "executed": False,
        "method": "layers" if layers else "whole step",
        "mesh": dict(program.mesh.shape),
        "model": config.model.name,
        "objective": config.objective.name,
        "compute_dtype": config.model.compute_dtype,
        "versions": versions(target),
        "compiler_options": target.options,
        "facts": {"source": target.facts.source, "memory": target.facts.memory} if target.facts else None,
        "parameters": program.parameters,
        "state_bytes": state_bytes(program.state),
        "checkpoints": {"bytes": checkpoint_bytes(program.state), "kept": checkpoints_kept(config.train)},
        "config": to_dict(config),
    }


def versions(target: Target) -> dict[str, str]:
    """Versions of the packages that decide what is compiled."""
    packages = ("jax", "jaxlib", *COMPILERS[target.backend])
    return {package: importlib.metadata.version(package) for package in packages}


def _bucket(
    config: RunConfig, target: Target, program: Program, bucket: ShapeUse, layers: bool, known: dict[str, dict]
) -> dict[str, Any]:
    began = time.monotonic()
    traced = program.step.trace(program.state, program.batch(bucket))
    operations = flops(traced.jaxpr)
    lowered = traced.lower()
    seconds = time.monotonic() - began
    identity = [target.name, layers, versions(target), target.options, lowered.as_text()]
    fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    if fingerprint in known:
        _say("already in the file", target)
        return known[fingerprint] | {"share": bucket.share}
    if layers:
        compiled = by_layers(config, target, program, bucket, lambda name: _say(name, target))
    else:
        compiled = compile_for(target, lowered)
    model = train_flops(config.model, sides_of(config.objective), bucket.seconds, bucket.tokens) * bucket.clips
    entry = {
        "fingerprint": fingerprint,
        "seconds": bucket.seconds,
        "tokens": bucket.tokens,
        "clips": bucket.clips,
        "share": bucket.share,
        "audio_s": bucket.audio_s,
        "flops": operations / target.count,
        "model_flops": model / target.count,
        "trace_and_lower_s": round(seconds, 1),
        **describe(compiled),
    }
    if target.facts:
        for traffic, where in ((compiled.traffic, entry), (compiled.least, entry["least"])):
            where["roofline"] = roofline(
                entry["flops"],
                traffic.bytes,
                traffic.collectives,
                bucket.audio_s,
                target.facts,
                config.model.compute_dtype,
            )
        entry["fits"] = compiled.peak <= target.facts.memory
    return entry


def _run(config: RunConfig, target: Target, buckets: list[dict], share: float) -> dict[str, Any]:
    uses = [bucket["share"] for bucket in buckets]

    def projected(entries) -> dict[str, float]:
        steps = [entry["roofline"]["step_s"] for entry in entries]
        return projection(steps, config.train.steps, target.count, share, uses)

    return {**projected(buckets), "least": projected(entry["least"] for entry in buckets)}


def describe(compiled: Compiled) -> dict[str, Any]:
    """Memory, bytes, kernels and collectives of one device."""
    return {
        "compile_s": round(compiled.compile_s, 1),
        "memory": {
            "arguments": compiled.arguments,
            "outputs": compiled.outputs,
            "aliased": compiled.aliased,
            "temporary": compiled.temporary,
            "peak": compiled.peak,
        },
        "bytes": compiled.traffic.bytes,
        "kernels": compiled.traffic.launches,
        "least": {
            "bytes": compiled.least.bytes,
            "kernels": compiled.least.launches,
            "collectives": compiled.least.collectives_by_kind(),
        },
        "by_kind": compiled.traffic.by_kind(),
        "collectives": compiled.traffic.collectives_by_kind(),
        "largest": [
            {"kind": kernel.kind, "bytes": kernel.size, "times": kernel.count, "source": kernel.source[-160:]}
            for kernel in compiled.traffic.largest(LARGEST)
        ],
    }
