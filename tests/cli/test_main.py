"""The command line: help everywhere, one line and exit 2 for mistakes, never a traceback."""

import argparse
import io
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from alp_jax.cli import main as cli
from alp_jax.core.files import write_text

ROOT = pathlib.Path(__file__).parents[2]


def run(capsys, *argv):
    status = cli.main(list(argv))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([verb, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert f"example:\n  alp {verb}" in text


def arguments(parser):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from arguments(below)
        else:
            yield action


@pytest.mark.parametrize("verb", cli.VERBS)
def test_the_default_that_a_choice_states_is_the_one_it_has(verb):
    for action in arguments(cli.verb_parser(verb)[0]):
        stated = re.search(r"\(default: ([^),]+)", action.help or "")
        if stated and action.choices and isinstance(action.default, str):
            assert stated[1] == action.default, action.option_strings


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["trian"], "did you mean 'alp train'"),
        (["train"], "--workdir"),
        (["doctor", "--nope"], "--nope"),
        (["train", "--workdir", "x", "--config=nope.py"], "--config nope.py does not exist"),
        (["train", "--workdir", "x", f"--config={ROOT}/configs/pretrain.py:pears=4"], "nearest: 'pairs'"),
        (
            ["train", "--workdir", "x", f"--config={ROOT}/configs/pretrain.py", "--config.optim.lrr=1"],
            "config.optim.lr)",
        ),
        (["train", "--workdir", "x", f"--config={ROOT}/configs/pretrain.py", "--config.optim.lr=fast"], "'fast'"),
        (["train", "--workdir", "x", f"--config={ROOT}/configs/pretrain.py", "--config.data.path=nope"], "nope"),
        (["train", "--workdir", "x", f"--config={ROOT}/configs/pretrain.py", "stray"], "'stray'"),
        (["eval", "--run", "nope"], "nope"),
        (["embed", "--model", "nope", "--audio", ".", "--out", "e.npz"], "nope"),
        (["embed", "--model", "x", "--audio", "nope", "--out", "e.npz"], "--audio nope is not a folder"),
        (["data", "build", "foldr"], "did you mean 'folder'"),
        (["data", "verify", "nope"], "nope"),
        (["sweep", "--sweep", "nope.py", "--out", "x"], "nope.py"),
        (["scaling", "fit", "--ledger", "nope.jsonl", "--out", "x"], "nope.jsonl"),
        (["export", "torch", "--run", "nope", "--out", "x"], "nope"),
        (["golden", "--dir", "nope"], "nope"),
        (["models", "--seconds", "0"], "--seconds 0.0"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(argv, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *argv)
    assert status == 2
    *before, line = err.splitlines()
    assert line.startswith("alp: ")
    assert words in line
    found_late = "--config.data.path=nope" in argv
    assert [text.startswith(("alp train: ", "loading JAX")) for text in before] == [True] * len(before) * found_late
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def forbidden(path):
    raise PermissionError(13, "Permission denied", str(path))


@pytest.mark.parametrize(
    ("use", "name", "words"),
    [
        (lambda path: path.mkdir(exist_ok=True), "file", "is a file, where a folder is needed"),
        (lambda path: write_text(path, ""), "folder", "is a folder, where a file is needed"),
        (lambda path: path.read_text(), "file/below", "lies below a file, where a folder is needed"),
        (forbidden, "secret", "may not be read or written by this user"),
    ],
)
def test_a_path_of_the_wrong_kind_is_one_line_and_exit_2(use, name, words, capsys, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("alp_jax.cli.models.run", lambda args: use(tmp_path / name))
    status, out, err = run(capsys, "models")
    assert (status, out) == (2, "")
    assert err == f"alp: {tmp_path / name} {words}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


FIRST_WORDS = """
import sys

class Stderr:
    def write(self, text):
        if text.strip():
            print(text.strip())
            print(*sorted({name.partition(".")[0] for name in sys.modules}))
            sys.stdout.flush()
            __import__("os")._exit(0)

    def flush(self):
        pass

    def isatty(self):
        return False

sys.stderr = Stderr()
from alp_jax.cli.main import main
main(sys.argv[1:])
"""


def test_training_says_what_it_does_before_anything_heavy_is_loaded():
    command = [
        "train",
        "--workdir",
        "runs/x",
        f"--config={ROOT}/configs/pretrain.py:objective=captioning",
        "--config.train.steps=7",
    ]
    done = subprocess.run(
        [sys.executable, "-c", FIRST_WORDS, *command], capture_output=True, text=True, cwd=ROOT, check=False
    )
    said, loaded = done.stdout.splitlines()
    assert said == "alp train: captioning, zipformer_m, 7 steps; run folder runs/x"
    heavy = {"jax", "flax", "orbax", "optax", "grain", "scipy", "sklearn", "pyarrow", "tensorflow_datasets", "numpy"}
    assert not heavy & set(loaded.split())


HELPS = """
import contextlib, io, json, sys
from alp_jax.cli import main

def loaded():
    return sorted({name.partition(".")[0] for name in sys.modules})

with contextlib.redirect_stdout(io.StringIO()):
    main.main(["--help"])
    texts = {"alp": (loaded(), [name for name in sys.modules if name.startswith("alp_jax.")])}
    for verb in main.VERBS:
        parser, _ = main.verb_parser(verb)
        texts[verb] = (loaded(), parser.format_help()[:4])
print(json.dumps(texts))
"""


def test_help_loads_nothing_heavy():
    """What ``alp --help`` takes is Python's own start, what a verb's takes is argparse and the settings."""
    done = subprocess.run([sys.executable, "-c", HELPS], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = json.loads(done.stdout)
    heavy = {"jax", "flax", "optax", "orbax", "grain", "pyarrow", "scipy", "soundfile", "sklearn", "torch"}
    heavy |= {"matplotlib", "fsspec", "tensorflow_datasets", "ml_collections", "absl", "yaml"}
    heavy |= {"numpy"}
    others = {"difflib", "dataclasses", "tqdm"}
    assert not (heavy | others) & set(loaded["alp"][0])
    assert loaded["alp"][1] == ["alp_jax.cli", "alp_jax.cli.main"]
    assert {verb: sorted(heavy & set(names)) for verb, (names, _) in loaded.items()} == {verb: [] for verb in loaded}


def test_without_a_verb_the_overview_is_shown(capsys):
    status, out, _ = run(capsys)
    assert status == 2
    assert all(verb in out for verb in cli.VERBS)


def test_json_is_one_last_line(capsys):
    status, out, _ = run(capsys, "doctor", "--json")
    assert status == 0
    assert json.loads(out)["devices"]


def test_models_are_listed_with_their_cost(capsys):
    status, out, _ = run(capsys, "models", "--json")
    assert status == 0
    rows = {row["model"]: row for row in json.loads(out)["models"]}
    assert rows["zipformer_m"]["parameters"] == 65_913_719
    assert rows["vit_b"]["matches"] == "zipformer_m"
    status, out, _ = run(capsys, "models", "--seconds", "10")
    assert "| vit_b | 33,746,944 | 20.408 | 512 | 250 | zipformer_m +2.7 % |" in out


def test_a_closed_pipe_is_no_traceback():
    command = f"{sys.executable} -m alp_jax doctor | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("how", ["none", "unread"])
def test_a_mistake_is_exit_2_where_nobody_reads_why(how, monkeypatch, capsys):
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb", buffering=0) as raw:
        stream = None if how == "none" else io.TextIOWrapper(raw, write_through=True)
        monkeypatch.setattr(sys, "stderr", stream)
        assert cli.main(["nonsense"]) == 2
    assert capsys.readouterr().out == ""


def test_no_file_gets_the_number_of_a_closed_stream():
    """Libraries write to number 2 whatever it is: their complaints would end up among the data."""
    inside = "import os, subprocess; print(os.open('/', 0)); subprocess.run(['ls', '/proc/self/fd/2'], check=True)"
    code = f"from alp_jax.cli.main import main; main(['nonsense']); {inside}"
    command = ["bash", "-c", '"$0" -c "$1" 2>&-', sys.executable, code]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True)
    assert int(done.stdout.split()[0]) > 2
