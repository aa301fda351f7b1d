"""What the probes of the paper's protocol take at the true sizes of its data sets, from programs that are compiled.

    python -m alp_jax.bench.probes                   # the table: memory of every probe at every set's true size
    python -m alp_jax.bench.probes --width 768       # for another encoder
    python -m alp_jax.bench.probes --set vggsound    # one set

Nothing is fitted, and no data set is needed. Bytes of a device are what the compiled program takes: arguments, results
and temporaries. A probe whose settings run in groups is compiled for one group.
"""

import argparse
import dataclasses
import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from alp_jax.config.schema import EvalConfig
from alp_jax.core.accelerators import GIB
from alp_jax.evaluation.forecast import Encoder, published_lines
from alp_jax.evaluation.probes import attention_probe as attention
from alp_jax.evaluation.probes import streamed_linear as streamed
from alp_jax.evaluation.probes.costs import FitCost, attention_probe_cost, linear_probe_cost
from alp_jax.evaluation.probes.data import ROWS_MULTIPLE, padded, padded_classes
from alp_jax.evaluation.probes.linear_probe import fit_grid
from alp_jax.evaluation.probes.sizes import SIZES, TaskSize
from alp_jax.evaluation.sed.cost import frame_probe_cost
from alp_jax.evaluation.sed.frame_probe import trainer

FRAME_RATE = 25  # frames per second of the paper's encoder


class ProbeProgram(NamedTuple):
    """One probe on one set: its plan, and the bytes that its program takes on a device."""

    cost: FitCost
    program: int


def _shape(*sizes: int, dtype=jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


def _bytes(lowered: jax.stages.Lowered) -> int:
    memory = lowered.compile().memory_analysis()
    return memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes


def _target(size: TaskSize, rows: int) -> jax.ShapeDtypeStruct:
    return _shape(rows, padded_classes(size.classes)) if size.multi else _shape(rows, dtype=jnp.int32)


def compile_linear(size: TaskSize, width: int, config: EvalConfig) -> ProbeProgram:
    """The linear probe on means over frames, on one device."""
    cost, classes = linear_probe_cost(size, width, config, devices=1), padded_classes(size.classes)
    (fits,), plan = cost.sides, cost.schedule
    if plan is None:
        rows = padded(size.train, ROWS_MULTIPLE)
        given = (_shape(rows, width), _shape(rows, classes), _shape(fits, rows), _shape(fits), _shape(classes))
        return ProbeProgram(cost, _bytes(fit_grid.lower(*given, size.multi)))
    params = {"w": _shape(fits, width, classes), "b": _shape(fits, classes)}
    given = {"mean_D": _shape(width), "scale_D": _shape(width), "basis_DD": _shape(width, width)}
    given |= {"scale_GD1": _shape(fits, width, 1), "penalty_G": _shape(fits), "offset_C": _shape(classes)}
    state = jax.eval_shape(streamed.adam(plan).init, params)
    batch = _shape(plan.batch, width), _target(size, plan.batch)
    step = streamed.step.lower(params, state, *batch, given, multi=size.multi, plan=plan)
    return ProbeProgram(
        cost, max(_bytes(step), _bytes(streamed.answer.lower(params, batch[0], given, multi=size.multi)))
    )


def compile_attention(size: TaskSize, width: int, config: EvalConfig) -> ProbeProgram:
    """The attention probe: the larger of selecting a setting and of training the seeds."""
    frames, classes = config.attention_frames or round(size.seconds * FRAME_RATE), padded_classes(size.classes)
    cost, program = attention_probe_cost(size, frames, width, config), 0
    given = {"mean_D": _shape(width), "scale_D": _shape(width), "offset_C": _shape(classes)}
    for fits, own_batches in zip(cost.sides, (False, True), strict=True):
        batch = _shape(cost.schedule.batch, frames, width), _shape(cost.schedule.batch, dtype=jnp.int32)
        batch = (*batch, _target(size, cost.schedule.batch))
        if own_batches:
            batch = tuple(_shape(fits, *part.shape, dtype=part.dtype) for part in batch)
        params = jax.eval_shape(lambda fits=fits: _attention_params(fits, width, classes))
        state = jax.eval_shape(jax.vmap(optax.adamw(lambda _: 0.0).init), params)
        options = {"multi": size.multi, "steps": cost.schedule.steps}
        step = attention.step.lower((params, state), _shape(fits, 2), batch, given, **options)
        chunk = _shape(attention.CHUNK, frames, width), _shape(attention.CHUNK, dtype=jnp.int32)
        program = max(program, _bytes(step), _bytes(attention.clip_logits.lower(params, *chunk, given)))
    return ProbeProgram(cost, program)


def _attention_params(fits: int, width: int, classes: int) -> dict[str, jax.Array]:
    heads, key, value = attention.HEADS, attention.KEY_WIDTH, attention.VALUE_WIDTH
    return {
        "query_HK": jnp.zeros((fits, heads, key)),
        "key_DHK": jnp.zeros((fits, width, heads, key)),
        "value_DHV": jnp.zeros((fits, width, heads, value)),
        "out_FC": jnp.zeros((fits, heads * value, classes)),
        "bias_C": jnp.zeros((fits, classes)),
    }


def compile_frames(size: TaskSize, width: int, config: EvalConfig) -> ProbeProgram:
    """The frame probe of sound event detection."""
    frames = round(size.seconds * FRAME_RATE)
    cost = frame_probe_cost(size, frames, width, config)
    (fits,), batch = cost.sides, cost.schedule.batch
    start, update = trainer(cost.schedule.steps)
    params = {"w": _shape(fits, width, size.classes), "b": _shape(fits, size.classes)}
    state = jax.eval_shape(start, params, _shape(fits, 2))
    clips = _shape(batch, frames, width), _shape(batch, dtype=jnp.int32), _shape(batch, frames, size.classes)
    return ProbeProgram(cost, _bytes(update.lower(params, state, _shape(fits, 2), *clips)))


def probes_of(size: TaskSize) -> dict[str, Any]:
    """Name -> function that compiles it, of the probes that are measured on a set."""
    return {"frames": compile_frames} if size.events else {"mean": compile_linear, "attention": compile_attention}


def main() -> None:
    """Parses the command line and prints a table, the same as one line of JSON, and forecasts of time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=512, help="of the encoder's frames (default: 512)")
    parser.add_argument("--set", choices=list(SIZES), help="one set (default: all)")
    parser.add_argument(
        "--gflop",
        type=float,
        default=2.0,
        help="that the encoder takes per second of audio (default: 2.0, Zipformer-M)",
    )
    args = parser.parse_args()
    config, rows = EvalConfig(), []
    print(f"{'set':18}{'probe':11}{'train':>9}{'classes':>8}  {'device GB':>9}{'planned':>9}{'host GB':>9}  how")
    for name, size in SIZES.items():
        for probe, compiled in probes_of(size).items() if args.set in (None, name) else ():
            cost, program = compiled(size, args.width, config)
            rows.append({"set": name, "probe": probe, "program": program, **dataclasses.asdict(cost)})
            figures = "".join(f"{figure / GIB:9.2f}" for figure in (program, cost.device, cost.host))
            print(f"{name:18}{probe:11}{size.train:9}{size.classes:8}  {figures}  {cost.how}", flush=True)
    print(json.dumps({"width": args.width, "backend": jax.default_backend(), "rows": rows}, sort_keys=True))
    encoder = Encoder(args.width, FRAME_RATE, args.gflop * 1e9)
    print("\n".join(published_lines(encoder, config, (args.set,) if args.set else ())))


if __name__ == "__main__":
    main()
