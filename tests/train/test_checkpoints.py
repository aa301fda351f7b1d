"""Checkpoints of small arrays: what stays, what is refused, what is passed over, on which devices they come back."""

import collections
import shutil
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alp_jax.config import ConfigError, RunConfig, check_run
from alp_jax.config.schema import TrainConfig
from alp_jax.core.errors import StorageError, UserError
from alp_jax.train import checkpoint as checkpoint_module
from alp_jax.train.checkpoint import Checkpoints, read_checkpoint
from alp_jax.train.checkpoint_folder import Keep, complete, kept, numbered
from alp_jax.train.host import CompileCount

VALUES = {
    "params": {"kernel": np.arange(128, dtype=np.float32).reshape(8, 16), "bias": np.arange(8, dtype=np.float32)},
    "step": np.int32(7),
}
SPECS = {"params": {"kernel": PartitionSpec("data", "fsdp"), "bias": PartitionSpec("data")}, "step": PartitionSpec()}


def shardings(data, fsdp):
    mesh = Mesh(np.array(jax.devices()[: data * fsdp]).reshape(data, fsdp), ("data", "fsdp"))
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), SPECS, is_leaf=lambda x: isinstance(x, PartitionSpec))


def state(data=4, fsdp=2):
    return jax.tree.map(jax.device_put, VALUES, shardings(data, fsdp))


def abstract(data=4, fsdp=2):
    return jax.tree.map(
        lambda value, sharding: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding),
        VALUES,
        shardings(data, fsdp),
    )


def save(run, steps=(1,), keep=3, **losses):
    checkpoints = Checkpoints(run, keep)
    for step in steps:
        checkpoints.save(step, state(), {"train_seconds": 30.0 * step}, {"loss": losses.get(f"loss_{step}", 0.0)})
    checkpoints.close()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A run with whole checkpoints 1 and 2; to be copied."""
    run = tmp_path_factory.mktemp("two") / "run"
    save(run, (1, 2))
    return run


@pytest.fixture
def run(two, tmp_path):
    return shutil.copytree(two, tmp_path / "run")


def flip(folder):
    """Changes one bit of the largest file of arrays; returns its name in the checkpoint."""
    file = max((folder / "state").rglob("d/*"), key=lambda p: p.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    return str(file.relative_to(folder))


def latest(run):
    checkpoints = Checkpoints(run, 3)
    try:
        return checkpoints.latest()
    finally:
        checkpoints.close()


@pytest.mark.parametrize(
    ("keep", "stay"),
    [
        (Keep(last=2), {9, 10}),
        (Keep(every=4), {4, 8, 10}),
        (Keep(minutes=2.0), {1, 5, 9, 10}),  # saves are half a minute apart
        (Keep(best=2), {3, 6, 10}),
        (Keep(best=1, metric="+loss"), {1, 10}),
        (Keep(best=1, metric="unknown"), {10}),
        (Keep(last=1, every=5, best=1), {3, 5, 10}),
    ],
)
def test_each_rule_keeps_its_steps(keep, stay):
    losses = dict(zip(range(1, 11), (9.0, 4.0, 1.0, 5.0, 6.0, 2.0, 7.0, 8.0, 8.0, 8.0), strict=True))
    manifests = {s: {"clock": {"train_seconds": 30.0 * s}, "metrics": {"loss": losses[s]}} for s in losses}
    assert kept(keep, manifests) == stay


def test_what_no_rule_keeps_is_removed(tmp_path):
    save(tmp_path, range(1, 7), Keep(last=1, every=4, best=1), loss_2=-1.0)
    assert numbered(tmp_path) == complete(tmp_path) == [2, 4, 6]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["2", "4", "6"]
    with pytest.raises(ConfigError, match=r"config\.train\.keep is 0"):
        check_run(RunConfig(train=TrainConfig(keep=0)))
    with pytest.raises(
        UserError, match=r"best_metric is contrastive/accuracy, for which higher is better: write \+contr"
    ):
        Keep(best=1, metric="contrastive/accuracy")
    assert Keep(best=1, metric="+accuracy")
    assert Keep(metric="accuracy")


def test_a_flipped_bit_is_named_and_the_step_before_taken(run, capsys):
    folder = run / "checkpoints" / "2"
    name = flip(folder)
    with pytest.raises(StorageError, match=f"{name} does not have the SHA-256"):
        read_checkpoint(folder)
    assert latest(run) == 1
    line = capsys.readouterr().err
    assert name in line
    assert "falling back to step 1" in line
    assert (run / "checkpoints" / "2.damaged").is_dir()


def test_where_no_step_is_whole_the_run_does_not_start_anew(run):
    flip(run / "checkpoints" / "1")
    name = flip(run / "checkpoints" / "2")
    with pytest.raises(StorageError, match=rf"{name} does not have the SHA-256.*no other step of .* is intact"):
        latest(run)
    assert numbered(run) == [1, 2]  # nothing was moved


def test_a_step_without_manifest_is_passed_over_and_saved_again(run, capsys):
    (run / "checkpoints" / "2" / "manifest.json").unlink()
    checkpoints = Checkpoints(run, 3)
    assert checkpoints.latest() == 1
    assert "has no manifest.json: it was not completed; falling back to step 1" in capsys.readouterr().err
    checkpoints.save(2, state(), {})
    checkpoints.close()
    assert latest(run) == 2


def test_a_first_save_that_was_cut_off_is_a_fresh_start(tmp_path, capsys):
    save(tmp_path)
    (tmp_path / "checkpoints" / "1" / "manifest.json").unlink()
    (tmp_path / "checkpoints" / "5.orbax-checkpoint-tmp-3").mkdir()
    assert latest(tmp_path) is None
    assert "starting at step 0" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["1.damaged"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"kernel": ((8, 16), jnp.bfloat16)}, r"params/kernel is float32\[8, 16\] there and bfloat16\[8, 16\] in"),
        ({"kernel": ((8, 32), jnp.float32)}, r"params/kernel is float32\[8, 16\] there and float32\[8, 32\] in"),
        ({"scale": ((8,), jnp.float32)}, r"params/scale is absent there and float32\[8\] in"),
    ],
)
def test_other_shapes_and_types_are_refused(two, changed, words):
    wanted = abstract()
    bias = wanted["params"]["bias"].sharding
    for name, (shape, dtype) in changed.items():
        wanted["params"][name] = jax.ShapeDtypeStruct(shape, dtype, sharding=bias)
    checkpoints = Checkpoints(two, 3)
    with pytest.raises(StorageError, match=words):
        checkpoints.restore(2, wanted)
    checkpoints.close()


def test_8_devices_to_4_to_1_and_another_split(tmp_path):
    """Saved on 4 x 2, restored on 2 x 2, saved from there, then on 1 x 1 and 2 x 4: equal bits, asked shardings."""
    save(tmp_path)
    checkpoints = Checkpoints(tmp_path, 3)
    restored = None
    for step, (data, fsdp) in enumerate([(2, 2), (1, 1), (2, 4)], 1):
        restored, clock = checkpoints.restore(step, abstract(data, fsdp))
        jax.tree.map(np.testing.assert_array_equal, restored, VALUES)
        jax.tree.map(lambda array, sharding: assert_placed(array, sharding), restored, shardings(data, fsdp))
        checkpoints.save(step + 1, restored, clock)
        checkpoints.wait()
    assert len(restored["params"]["kernel"].sharding.device_set) == 8
    checkpoints.close()


def assert_placed(array, sharding):
    assert array.sharding.is_equivalent_to(sharding, array.ndim)


def test_a_save_of_copies_compiles_nothing(tmp_path):
    """The bias lies twice on the eight devices; a slice of each copy would be a program for each of them."""
    arrays, checkpoints = state(), Checkpoints(tmp_path, 3)
    jax.clear_caches()
    with CompileCount() as compiled:
        checkpoints.save(1, arrays, {})
        checkpoints.close()
    assert compiled.programs == 0


def test_too_little_disk_is_named_before_anything_is_written(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, 3)
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(checkpoint_module.shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 9000, 9000))
    with pytest.raises(StorageError, match=r"checkpoint 1 needs 1\.0 MB but 0\.0 MB are free in .*checkpoints"):
        checkpoints.save(1, state(), {})
    monkeypatch.undo()
    checkpoints.close()
    assert list((tmp_path / "checkpoints").iterdir()) == []


def poll_for(checkpoints, seconds):
    """What the loop does at every step."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if checkpoints.in_flight:
            checkpoints.poll()
        time.sleep(0.01)


def test_a_save_that_is_complete_has_nothing_to_raise(tmp_path):
    checkpoints = Checkpoints(tmp_path, 3)
    assert not checkpoints.in_flight
    checkpoints.save(1, state(), {})
    deadline = time.monotonic() + 20
    while checkpoints.in_flight and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not checkpoints.in_flight
    assert complete(tmp_path) == [1]
    checkpoints.close()


@pytest.mark.parametrize("where", ["orbax", "manifest"])
def test_a_failed_write_is_raised_at_a_later_step(tmp_path, monkeypatch, where):
    checkpoints = Checkpoints(tmp_path, 3)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    if where == "orbax":
        monkeypatch.setattr(checkpoint_module.os, "rename", full)
    else:
        monkeypatch.setattr(checkpoint_module, "write_manifest", full)
    checkpoints.save(1, state(), {})
    with pytest.raises(StorageError, match=r"checkpoints was not written: .*No space left"):
        poll_for(checkpoints, seconds=10)
    monkeypatch.undo()
    with pytest.raises(StorageError, match="No space left"):
        checkpoints.close()
    assert complete(tmp_path) == []
