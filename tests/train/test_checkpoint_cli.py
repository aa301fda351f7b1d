"""``alp ckpt``: lists, inspects and verifies checkpoints, and names the damaged file."""

import json
import shutil
import subprocess
import sys

import jax.numpy as jnp
import pytest

from alp_jax.cli import main as cli
from alp_jax.train.checkpoint import Checkpoints


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run with checkpoints 3 and 6 of two small arrays."""
    run = tmp_path_factory.mktemp("saved") / "run"
    checkpoints = Checkpoints(run, keep=2)
    state = {"params": {"a": {"kernel": jnp.ones((4, 5), jnp.bfloat16)}}, "step": jnp.int32(3)}
    for step in (3, 6):
        checkpoints.save(step, state, {"samples_seen": 16 * step}, {"loss": 1.0 / step})
    checkpoints.close()
    return run


@pytest.fixture
def run(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


def call(capsys, *argv):
    status = cli.main(["ckpt", *map(str, argv)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def array_file(run, step):
    return max((run / "checkpoints" / str(step) / "state").rglob("d/*"), key=lambda p: p.stat().st_size)


def test_a_list_says_which_are_whole(run, capsys):
    (run / "checkpoints" / "6" / "manifest.json").unlink()
    status, out, _ = call(capsys, "list", run, "--json")
    first, second = json.loads(out)["checkpoints"]
    assert status == 0
    assert (first["step"], first["whole"], first["metrics"]) == (3, True, {"loss": 1 / 3})
    files = [p for p in (run / "checkpoints" / "3").rglob("*") if p.is_file()]
    assert first["bytes"] == sum(p.stat().st_size for p in files)
    assert (second["step"], second["whole"], second["saved"]) == (6, False, None)
    status, out, _ = call(capsys, "list", run)
    assert "loss 0.333333" in out
    assert "has no manifest.json" in out


def test_arrays_are_shown_with_shape_and_dtype(run, capsys):
    status, out, _ = call(capsys, "inspect", run, "--step", 3, "--json")
    result = json.loads(out)
    assert status == 0
    assert {a["name"]: (a["shape"], a["dtype"]) for a in result["arrays"]} == {
        "params/a/kernel": ([4, 5], "bfloat16"),
        "step": ([], "int32"),
    }
    assert (result["step"], result["clock"]) == (3, {"samples_seen": 48})
    assert "params/a/kernel  bfloat16[4, 5]" in call(capsys, "inspect", run)[1]


def test_a_flipped_bit_is_exit_45_and_the_file_is_named(run, capsys):
    status, out, _ = call(capsys, "verify", run)
    assert (status, out.count("all intact")) == (0, 2)
    file = array_file(run, 6)
    flip(file)
    status, _, err = call(capsys, "verify", run)
    assert status == 45
    assert str(file.relative_to(run / "checkpoints" / "6")) in err
    assert err.count("\n") == 1
    assert call(capsys, "verify", run, "--step", 3)[0] == 0


@pytest.mark.parametrize(
    ("part", "value", "why"),
    [
        ("files", {"state/a": 3}, "the entry of 'state/a' is not its size and SHA-256"),
        ("files", {"state/a": ["3", "00"]}, "the entry of 'state/a' is not its size and SHA-256"),
        ("files", ["state/a"], "'files' is not a JSON object"),
        ("files", {}, "it lists no files"),
        ("clock", 3, "'clock' is not a JSON object"),
        ("clock", {"train_seconds": None}, "'train_seconds' is not a number"),
        ("metrics", {"loss": "low"}, "metric 'loss' is not a number"),
        ("saved", "today", "'saved' is not a number"),
        (None, [], "it is not a JSON object"),
    ],
)
def test_a_manifest_of_another_form_is_a_damaged_checkpoint(run, capsys, part, value, why):
    path = run / "checkpoints" / "6" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {part: value} if part else value))
    line = f"checkpoint {path.parent} is damaged: manifest.json: {why}"
    for action in ("verify", "inspect"):
        status, _, err = call(capsys, action, run)
        assert (status, err.count("\n")) == (45, 1)
        assert line in err
    status, out, _ = call(capsys, "list", run)
    assert status == 0
    assert line in out


def test_mistakes_are_exit_2(run, capsys, tmp_path):
    for argv, words in (
        (("list", tmp_path / "nope"), "nope does not exist"),
        (("list", tmp_path), "has no checkpoints"),
        (("verify", run, "--step", 4), "has no checkpoint 4: it has 3, 6"),
        (("inspect", run, "--step", 4), "has no checkpoint 4: it has 3, 6"),
    ):
        status, _, err = call(capsys, *argv)
        assert (status, err.count("\n")) == (2, 1)
        assert words in err


def test_lists_and_hashes_need_no_jax(run):
    code = (
        "import sys\nfrom alp_jax.cli.main import main\n"
        f"assert main(['ckpt', 'list', {str(run)!r}]) == main(['ckpt', 'verify', {str(run)!r}]) == 0\n"
        "assert 'jax' not in sys.modules and 'orbax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
