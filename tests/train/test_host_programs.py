"""Steps compiled ahead: each announced shape once, nothing afterwards, and no value read from the device."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import DataConfig, MeshConfig, RunConfig
from alp_jax.parallel.mesh import batch_sharding, make_mesh, put_batch, replicated
from alp_jax.train.host import CompileCount, CompiledSteps, batch_shapes, bytes_accessed, size_of

SIZES = [(800, 8), (1600, 8), (2400, 16)]


def take(steps, state, batch):
    """One step, as the loop takes it."""
    return steps.program(size_of(batch))(state, batch)


@pytest.fixture
def made():
    """(jitted step, state, the announced shapes, batches of three shapes) on a mesh of 8 devices."""
    mesh = make_mesh(MeshConfig())
    config = RunConfig(data=DataConfig(text_budget=3))

    def step(state, batch):
        mean = jnp.mean(batch["audio"].astype(jnp.float32)) + batch["text"].sum()
        return {"sum": state["sum"] + mean}, {"mean": mean}

    whole = replicated(mesh)
    jitted = jax.jit(step, donate_argnums=0, in_shardings=(whole, batch_sharding(mesh)), out_shardings=(whole, whole))
    shapes = [batch_shapes(config, mesh, (clips, samples, 3)) for samples, clips in SIZES]
    batches = [
        put_batch({name: np.ones(shape.shape, shape.dtype) for name, shape in one.items()}, mesh) for one in shapes
    ]
    return jitted, {"sum": jax.device_put(jnp.zeros(()), whole)}, shapes, batches


def test_every_shape_is_compiled_once_and_nothing_after_that(made):
    jitted, state, shapes, batches = made
    with CompileCount() as compiles:
        steps = CompiledSteps(jitted, state, shapes)
        for one in shapes:
            steps.program(size_of(one))
        assert compiles.programs == len(SIZES)
        assert compiles.seconds > 0
        with jax.transfer_guard("disallow"):  # neither a batch that has to move nor a value that is waited for
            for number in range(60):
                state, metrics = take(steps, state, batches[number % 3])
                jax.block_until_ready(metrics)  # too many steps in flight starve the threads of fake devices
        assert compiles.programs == len(SIZES)
        steps.close()
    np.testing.assert_allclose(state["sum"], 20 * sum(1 + 3 * clips for _, clips in SIZES), rtol=1e-5)
    assert float(metrics["mean"]) == 1 + 3 * SIZES[2][1]
    jax.jit(lambda x: x + 12345.0)(1.0)
    assert compiles.programs == len(SIZES)  # it counts no more


def test_a_step_does_not_wait_for_the_programs_of_other_shapes(made, monkeypatch):
    """With one thread that is stuck in the first shape, the second is compiled where it is needed."""
    jitted, state, shapes, batches = made
    monkeypatch.setattr("alp_jax.train.host.usable_cores", lambda: {0})
    stuck, entered = threading.Event(), threading.Event()

    class Slow:
        def lower(self, state, shapes):
            if shapes["audio"].shape[1] == SIZES[0][0]:
                entered.set()
                stuck.wait(30)
            return jitted.lower(state, shapes)

    steps = CompiledSteps(Slow(), state, shapes)
    assert entered.wait(10)
    state, _ = take(steps, state, batches[1])
    stuck.set()
    state, _ = take(steps, state, batches[0])
    np.testing.assert_allclose(state["sum"], 2 * (1 + 3 * 8))
    steps.close()


def test_what_a_step_waits_for_is_said(made, capsys, monkeypatch):
    monkeypatch.setattr("alp_jax.core.progress._FIRST_S", 0.0)
    monkeypatch.setattr("alp_jax.core.progress._BEAT_S", 0.01)
    jitted, state, shapes, _ = made
    ready = threading.Event()

    class Slow:
        def lower(self, state, shapes):
            if shapes["audio"].shape[1] == SIZES[2][0]:
                ready.wait(30)
            return jitted.lower(state, shapes)

    steps = CompiledSteps(Slow(), state, shapes[1:])
    threading.Timer(0.3, ready.set).start()
    steps.program(size_of(shapes[2]))
    assert (
        capsys.readouterr().err == "compiling the step for 16 clips of 0.15 s, 3 tokens ...\n"
    )  # and no time below a second
    steps.program(size_of(shapes[2]))
    steps.close()
    steps.program(size_of(shapes[1]))
    assert capsys.readouterr().err == ""  # was compiled in the background


def test_processes_wait_for_each_other_before_the_first_step_of_a_program(made, monkeypatch):
    """Its first exchange would give up on one that still compiles."""
    jitted, state, shapes, batches = made
    met = []
    monkeypatch.setattr("alp_jax.parallel.hosts.process_count", lambda: 2)
    monkeypatch.setattr("alp_jax.parallel.hosts.barrier", lambda name, timeout_s: met.append(name))
    steps = CompiledSteps(jitted, state, shapes)
    for number in (0, 1, 0, 1, 0):
        state, metrics = take(steps, state, batches[number])
        jax.block_until_ready(metrics)
    assert met == ["the program for (8, 800, 3) is compiled", "the program for (8, 1600, 3) is compiled"]
    steps.close()


def test_a_shape_that_was_not_announced_is_an_error(made):
    jitted, state, shapes, batches = made
    steps = CompiledSteps(jitted, state, shapes[:2])
    with pytest.raises(ValueError, match=r"\(16, 2400, 3\) was not announced .* \(8, 800, 3\), \(8, 1600, 3\)"):
        take(steps, state, batches[2])
    steps.close()


def test_what_fails_to_compile_is_raised_where_the_step_is_taken(made):
    _, state, shapes, batches = made

    @jax.jit
    def broken(state, batch):
        raise RuntimeError("cannot be traced")

    steps = CompiledSteps(broken, state, shapes)
    with pytest.raises(RuntimeError, match="cannot be traced"):
        take(steps, state, batches[0])
    steps.close()


def test_bytes_are_those_that_xla_counts(made):
    jitted, state, shapes, _ = made
    found = [bytes_accessed(jitted.lower(state, one).compile()) for one in shapes]
    assert [clips * samples * 2 / 8 < bytes_ for (samples, clips), bytes_ in zip(SIZES, found, strict=True)] == [
        True
    ] * 3
    assert found[1] < 3 * found[0]
