"""The host's work around a step: compiling programs ahead, tracing chosen steps, collecting garbage in between."""

import concurrent.futures
import gc
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from alp_jax.config.schema import RunConfig
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.cores import usable_cores
from alp_jax.core.errors import UserError
from alp_jax.data.text.tags import TagList
from alp_jax.parallel import hosts
from alp_jax.parallel.mesh import batch_sharding
from alp_jax.train.state import State

BatchShapes = dict[str, jax.ShapeDtypeStruct]
_COMPILED = "/jax/core/compile/backend_compile_duration"  # an event of jax, once per program
_COMPILED_WITHIN_S = 3600.0


Size = tuple[int, int, int]  # clips, samples and tokens of a batch


def size_of(batch: Mapping[str, Any]) -> Size:
    """The shape of a batch, by which its program is known."""
    clips, samples = batch["audio"].shape
    return clips, samples, batch["text"].shape[1]


def batch_shapes(config: RunConfig, mesh: Mesh, size: Size) -> BatchShapes:
    """The arrays that the loop hands to the step for a global batch of ``size``, placed on ``mesh``."""
    clips, samples, tokens = size
    sharding = batch_sharding(mesh)
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {}
    shapes |= {"audio": ((clips, samples), jnp.int16), "text": ((clips, tokens), jnp.int32)}
    for name in ("audio_len", "text_len", "recording", "caption_group", "source"):
        shapes[name] = ((clips,), jnp.int32)
    shapes["mask"] = ((clips,), jnp.bool_)
    if config.data.tags:
        shapes["tags"] = ((clips, len(TagList.load(config.data.tags))), jnp.bool_)
    return {name: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding) for name, (shape, dtype) in shapes.items()}


class CompiledSteps:
    """The programs of ``step(state, batch)``, which donates ``state``, one per batch shape; ``close`` at the end.

    Compilation starts in threads as soon as this is constructed. A step waits only for the program of its batch, and
    compiles it itself if no thread has begun. Several processes compile one program after the other, all in the same
    order, since they may share what they find out about kernels.

    Args:
      step: from ``make_train_step``.
      state: a train state, or its shapes with shardings; all later states have the same.
      shapes: those of all batches to come, from ``batch_shapes``.

    Attributes:
      ready: the programs that ``program`` has given out, by ``size_of`` their batches.
    """

    def __init__(self, step: jax.stages.Wrapped, state: State, shapes: Sequence[BatchShapes]):
        self._step = step
        self._state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
        self._in_order = hosts.process_count() > 1
        threads = 1 if self._in_order else max(1, min(len(shapes), len(usable_cores())))
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="compile")
        self._shapes = {size_of(one): one for one in shapes}
        self.ready: dict[Size, jax.stages.Compiled] = {}
        self._futures = {size: self._pool.submit(self._compile, size) for size in self._shapes}

    def program(self, size: Size) -> jax.stages.Compiled:
        """The program for batches of ``size``; waits until all processes have compiled it.

        Raises:
          ValueError: no such shape was announced.
        """
        if size in self.ready:
            return self.ready[size]
        if size not in self._shapes:
            known = ", ".join(map(str, self._shapes))
            raise ValueError(f"a batch of {size} was not announced for compilation; known: {known}")
        future = self._futures[size]
        not_begun = not self._in_order and future.cancel()  # this thread is free, so it compiles the program itself
        if future.done() and not not_begun:
            program = future.result()
        else:
            label = f"for {size[0]} clips of {size[1] / SAMPLE_RATE:g} s, {size[2]} tokens"
            with hosts.stage("compiling the step", label):
                program = self._compile(size) if not_begun else future.result()
        if self._in_order:
            # The first collective of a program waits only 30 s for other processes, which may compile for longer.
            with hosts.stage("waiting for the other processes", quiet=True):
                hosts.barrier(f"the program for {size} is compiled", _COMPILED_WITHIN_S)
        self.ready[size] = program
        return program

    def close(self) -> None:
        """Cancels compilations that have not begun and waits for those that have."""
        self._pool.shutdown(cancel_futures=True)

    def _compile(self, size: Size) -> jax.stages.Compiled:
        return self._step.lower(self._state, self._shapes[size]).compile()


class CompileCount:
    """Counts programs that this process compiles or takes from the cache, from ``__enter__`` to ``__exit__``."""

    def __init__(self) -> None:
        self.programs, self.seconds = 0, 0.0

    def _on_event(self, event: str, duration_secs: float, **about: str | int) -> None:
        if event == _COMPILED:
            self.programs += 1
            self.seconds += duration_secs

    def __enter__(self) -> "CompileCount":
        jax.monitoring.register_event_duration_secs_listener(self._on_event)
        return self

    def __exit__(self, *exc: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._on_event)


def bytes_accessed(program: jax.stages.Compiled) -> float | None:
    """Bytes that XLA says a program reads and writes on one device; None where the backend does not say."""
    costs = program.cost_analysis() or {}
    count = costs.get("bytes accessed")
    return float(count) if count and math.isfinite(count) and count > 0 else None


def parse_steps(text: str) -> range:
    """``100:105`` -> steps 100 to 104; empty text -> none.

    Raises:
      UserError: the text is not such a range, or the range is empty.
    """
    if not text:
        return range(0)
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match:
        raise UserError(f"config.train.profile_steps={text!r} is not FIRST:END, two step numbers such as 100:105")
    first, end = int(match[1]), int(match[2])
    if end <= first:
        raise UserError(
            f"config.train.profile_steps={text!r} ends before step {end} but begins at {first}: it covers no steps"
        )
    return range(first, end)


class Profile:
    """Writes a ``jax.profiler`` trace of ``steps`` to ``folder``, for TensorBoard, XProf or Perfetto.

    The loop waits for the device where the trace begins and where it ends, so it holds these steps and no others.

    Attributes:
      steps: as given. running: whether a trace has begun that has not ended.
    """

    def __init__(self, steps: range, folder: pathlib.Path):
        self.steps, self._folder, self.running = steps, folder, False

    def turn(self, last: Any) -> None:
        """Begins or ends the trace; to be called before each step at which ``step in steps`` differs from ``running``.

        ``last`` holds arrays of the previous step, or is None.
        """
        jax.block_until_ready(last)
        if self.running:
            self.close()
        else:
            jax.profiler.start_trace(self._folder)
            self.running = True

    def close(self) -> None:
        """Ends a trace that is still running."""
        if self.running:
            jax.profiler.stop_trace()
            self.running = False


class Collector:
    """Stops Python's automatic garbage collection, for a loop that collects every ``every`` steps; 0 leaves it on.

    A collection normally visits every object of the process. Here it runs between steps, on all hosts at the same one,
    and is short, because objects that existed when the loop began are not visited again.
    """

    def __init__(self, every: int):
        self.every, self._before = every, gc.isenabled()

    def __enter__(self) -> "Collector":
        if self.every:
            gc.collect()
            gc.freeze()
            gc.disable()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.every:
            gc.unfreeze()
            if self._before:
                gc.enable()
