"""Several real processes on one machine train as one does, agree, and end together with one line that says why."""

import re

import jax
import numpy as np
import pytest

from tests.cluster import run
from tests.parallel import splits

PROGRAM = ["-m", "tests.parallel.program"]


def test_two_processes_train_as_one_device(tmp_path):
    """Rows over both, parameters and layers split."""
    steps = 5  # twenty agree as well; each is a round of gloo on the machine's few cores
    alone, state = splits.train(splits.config_for("contrastive", (1, 1, 1), "vit"), steps, jax.devices()[:1])
    ended = run([*PROGRAM, "train", tmp_path / "out.npz", steps], 2, timeout_s=120)
    assert [e.code for e in ended] == [0, 0], ended
    found = np.load(tmp_path / "out.npz")
    np.testing.assert_allclose(found["losses"], alone, rtol=1e-5)
    for i, leaf in enumerate(jax.tree.leaves(state["params"])):
        np.testing.assert_allclose(leaf, found[f"params/{i}"], atol=1e-4)


def test_four_processes_share_rows_where_the_tensor_axis_spans_them():
    ended = run([*PROGRAM, "four"], 4, timeout_s=60)
    assert [e.code for e in ended] == [0] * 4, ended


@pytest.mark.parametrize(
    ("mode", "code", "line"),
    [
        ("differ", 2, "config.optim.lr is 0.001 in process 0 on .* but 0.002 in process 1 on .*: start all"),
        ("late", 43, "process 1 on .* did not reach 'save' within 1 s"),
        ("bug", 1, "RuntimeError: a bug"),
    ],
)
def test_a_failure_ends_every_process_with_the_same_line(mode, code, line):
    for ended in run([*PROGRAM, mode], 2, timeout_s=30):
        assert ended.code == code
        assert re.search(line, ended.err), ended.err
        assert "done" not in ended.out
