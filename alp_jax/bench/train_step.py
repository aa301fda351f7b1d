"""Times the real training step on this machine's devices, with synthetic clips."""

import dataclasses
import statistics
import tempfile
import time
from typing import Any

import jax
import numpy as np

from alp_jax.config import RunConfig
from alp_jax.core.accelerators import of_kind
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.names import choose
from alp_jax.data.order.forecast import ShapeUse
from alp_jax.models.accounting import train_flops
from alp_jax.models.forms import CHOICES, PLAIN
from alp_jax.objectives.registry import sides_of
from alp_jax.parallel.mesh import make_mesh
from alp_jax.planning.program import Program, make_program
from alp_jax.planning.traffic import traffic
from alp_jax.train.host import bytes_accessed
from alp_jax.train.state import create_state

WARM_UP = 2  # steps of every variant before the first round

# name -> how to change a run's configuration
VARIANTS = {
    "plain": lambda config: _model(config, **{f"{part}_form": getattr(PLAIN, part) for part in CHOICES}),
    "unregularised": lambda config: _model(config, regularise=False),
    "remat": lambda config: _model(config, remat="layers"),
    "adamw": lambda config: dataclasses.replace(config, optim=dataclasses.replace(config.optim, name="adamw")),
}


def _model(config: RunConfig, **changes) -> RunConfig:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **changes))


@dataclasses.dataclass
class _Variant:
    """A compiled step with its own state and the times of its rounds."""

    program: Program
    compiled: jax.stages.Compiled
    state: Any
    batch: dict
    costs: dict[str, Any]
    seconds: list[float] = dataclasses.field(default_factory=list)

    def run_steps(self, steps: int) -> None:
        for _ in range(steps):
            self.state, metrics = self.compiled(self.state, self.batch)
        loss = float(metrics["loss"])  # waits for all of them
        if not np.isfinite(loss):
            raise FloatingPointError(f"the loss of made-up clips is {loss}")


def measure_run(
    config: RunConfig,
    clips: int,
    seconds: float,
    *,
    rounds: int,
    steps: int,
    against: tuple[str, ...] = (),
    fresh_cache: bool = False,
) -> dict[str, Any]:
    """``time_variants`` with a description of the run; with ``fresh_cache`` also compile times, cache cold and warm.

    Raises:
      UserError: a name that is not in ``VARIANTS``, or settings that do not fit together.
    """
    for name in against:
        choose(name, VARIANTS, "--against")
    if fresh_cache:
        with tempfile.TemporaryDirectory() as folder:
            jax.config.update("jax_compilation_cache_dir", folder)
            result = time_variants(config, clips, seconds, rounds=rounds, steps=steps, against=against)
            jax.clear_caches()
            again = time_variants(config, clips, seconds, rounds=1, steps=1)
        result["from_cache"] = {name: again[name] for name in ("trace_s", "compile_s", "compile_processor_s")}
    else:
        result = time_variants(config, clips, seconds, rounds=rounds, steps=steps, against=against)
    return {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "versions": {"jax": jax.__version__, "jaxlib": jax.lib.__version__},
        "model": config.model.name,
        "objective": config.objective.name,
        "compute_dtype": config.model.compute_dtype,
        "optimizer": config.optim.name,
        "clips": clips,
        "seconds": seconds,
        "rounds": rounds,
        "steps": steps,
        **result,
    }


def time_variants(
    config: RunConfig, clips: int, seconds: float, *, rounds: int, steps: int, against: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Medians over ``rounds`` of ``steps`` steps each; variants take turns, so that a busy machine disturbs all alike.

    Args:
      config: of the run; data and tokenizer are not read.
      clips: of the global batch, each ``seconds`` long.
      against: names in ``VARIANTS``; their ``times`` is the median of their time over ours, round by round.

    Returns:
      The figures of our own step, and under ``against`` those of every variant.
    """
    bucket = ShapeUse(seconds, config.data.text_budget, clips)
    changes = {"": lambda config: config} | {name: VARIANTS[name] for name in against}
    variants = {name: _prepare(change(config), bucket) for name, change in changes.items()}
    for variant in variants.values():
        variant.run_steps(WARM_UP)
    for _ in range(rounds):
        for variant in variants.values():
            began = time.perf_counter()
            variant.run_steps(steps)
            variant.seconds.append((time.perf_counter() - began) / steps)
    ours = variants.pop("")
    result = _described(ours, bucket)
    for name, variant in variants.items():
        ratios = [theirs / own for theirs, own in zip(variant.seconds, ours.seconds, strict=True)]
        told = {"times": round(statistics.median(ratios), 3), **_described(variant, bucket)}
        result.setdefault("against", {})[name] = told
    return result


def _prepare(config: RunConfig, bucket: ShapeUse) -> _Variant:
    mesh = make_mesh(config.mesh)
    program = make_program(config, mesh)
    began, processor = time.perf_counter(), time.process_time()
    lowered = program.step.lower(program.state, program.batch(bucket))
    traced = time.perf_counter() - began
    compiled = lowered.compile()
    costs = {
        "trace_s": round(traced, 2),
        "compile_s": round(time.perf_counter() - began - traced, 2),
        "compile_processor_s": round(time.process_time() - processor, 2),
    }
    state = create_state(program.make, config.seed, mesh)
    rng = np.random.default_rng(0)
    return _Variant(program, compiled, state, _clips(program, bucket, rng), costs)


def _clips(program: Program, bucket: ShapeUse, rng: np.random.Generator) -> dict[str, jax.Array]:
    """Noise with random words, of full length, no two of the same recording."""
    made, model = {}, program.config.model
    for name, shape in program.batch(bucket).items():
        if name == "audio":
            value = rng.integers(-8000, 8000, shape.shape)
        elif name == "text":
            value = rng.integers(5, min(model.text.vocab_size, model.decoder.vocab_size), shape.shape)
        elif name == "audio_len":
            value = np.full(shape.shape, round(bucket.seconds * SAMPLE_RATE))
        elif name == "text_len":
            value = np.full(shape.shape, bucket.tokens)
        elif name in ("mask", "tags"):
            value = np.ones(shape.shape)
        else:
            value = np.arange(shape.shape[0])
        made[name] = jax.device_put(value.astype(shape.dtype), shape.sharding)
    return made


def _described(variant: _Variant, bucket: ShapeUse) -> dict[str, Any]:
    config, devices = variant.program.config, variant.program.mesh.size
    median = statistics.median(variant.seconds)
    memory, accelerator = variant.compiled.memory_analysis(), of_kind(jax.devices()[0].device_kind)
    flops = train_flops(config.model, sides_of(config.objective), bucket.seconds, bucket.tokens) * bucket.clips
    report = {
        "median_s": round(median, 5),
        "spread_s": [round(min(variant.seconds), 5), round(max(variant.seconds), 5)],
        "audio_s_per_s": round(bucket.audio_s / median, 1),
        "model_tflops_per_s": round(flops / median / 1e12, 3),
        "temp_bytes": memory.temp_size_in_bytes,
        "bytes_accessed": bytes_accessed(variant.compiled),
        **variant.costs,
    }
    if jax.default_backend() == "gpu":
        most, _ = traffic(variant.compiled.as_text(), devices)
        report |= {"moved_bytes": most.bytes, "kernels": most.launches}
    if accelerator is not None:
        moved = report.get("moved_bytes") or report["bytes_accessed"]
        report["mfu"] = round(flops / median / devices / accelerator.flops(config.model.compute_dtype), 4)
        report["memory_roofline_share"] = round(moved / accelerator.bandwidth / median, 4) if moved else None
    return report
