"""The nightly checks, with an ``alp`` that only says what it was asked."""

import os
import pathlib
import shutil
import subprocess

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "launch" / "nightly.sh"


@pytest.fixture
def nightly(tmp_path):
    """A tree with the script; ``run(folder of vectors, exit code of alp, further lines of checks)``."""
    alp, setup = tmp_path / "tree" / ".venv" / "bin" / "alp", tmp_path / "tree" / "launch" / "setup.sh"
    for path in (alp, setup):
        path.parent.mkdir(parents=True)
    setup.write_text("echo set up: $* >&2\n")
    python = alp.with_name("python")
    python.write_text('#!/bin/sh\necho "python $*"\n')
    python.chmod(0o755)

    def run(vectors, code=0, more=""):
        alp.write_text(f'#!/bin/sh\necho "alp $*"\nexit {code}\n')
        alp.chmod(0o755)
        before, golden, after = SCRIPT.read_text().partition("check golden ")
        command, _, rest = after.partition("\n")
        setup.with_name("nightly.sh").write_text(f"{before}{golden}{command}\n{more}\n{rest}")
        environment = {key: value for key, value in os.environ.items() if key != "ALP_GOLDEN"}
        environment |= {} if vectors is None else {"ALP_GOLDEN": str(vectors)}
        command = [shutil.which("bash"), "tree/launch/nightly.sh"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout.splitlines(), done.stderr

    return run


@pytest.mark.parametrize("vectors", [None, "", "absent", "file"])
def test_without_the_vectors_it_is_red_at_once_in_one_line(nightly, tmp_path, vectors):
    (tmp_path / "file").touch()
    code, out, err = nightly(vectors)
    assert (code, out, err.count("\n")) == (2, [], 1)
    assert "ALP_GOLDEN must name the folder of reference vectors; it is " in err
    assert err.endswith(f"{vectors}, which is not a folder.\n" if vectors else "not set.\n")


def test_every_check_runs_and_is_in_the_table(nightly, tmp_path):
    (tmp_path / "vectors").mkdir()
    code, out, err = nightly("vectors")
    assert (code, out[0]) == (0, f"alp golden --dir {tmp_path}/vectors")  # whole: no case is left out
    assert "set up: dev" in err
    assert out[1] == "python -m pytest -m nightly --timeout 3600"
    assert [line.split()[:2] for line in out[-3:]] == [
        ["check", "result"],
        ["golden", "passed"],
        ["long_tests", "passed"],
    ]
    code, out, _ = nightly(tmp_path / "vectors", code=1, more="check later echo went on")
    assert (code, out[1]) == (1, "went on")
    ends = [line.split()[:2] for line in out[-3:]]
    assert ends == [["golden", "FAILED"], ["later", "passed"], ["long_tests", "passed"]]
    assert all(line.split()[2].isdigit() for line in out[-3:])
