"""How much of this code one batch passes through, from the records of a shard to the update of the parameters.

Counted is every file under alp_jax/ of which a function is called

* while jax traces the step of a regularised contrastive run, forward, backward and update: the files of the model, the
  objective and the optimiser run at no other time;
* during one turn of the training loop, between a checkpoint and a log line: the batch is taken, counted, put on the
  devices and stepped with, and the step before is looked at; and
* while the threads of the reader (``data.workers=0``) produce the next batches meanwhile: which clips, their records
  with both checksums, the decoded crop, the caption's token ids.

Opening the data set, building the model, planning and compiling come before, once a run, and are not counted; nor are
what stands between two steps now and then: checkpoints, log lines and evaluations, and the thread that shows progress
once a second.
"""

import collections
import pathlib
import sys
import threading

import jax
import pytest

import alp_jax
from alp_jax.config.schema import MeshConfig
from alp_jax.core import progress
from alp_jax.data.order.forecast import ShapeUse
from alp_jax.parallel.mesh import make_mesh
from alp_jax.planning.program import make_program
from alp_jax.train import loop as loop_module
from alp_jax.train import setup
from alp_jax.train.loop import train
from tests import tiny_runs

MOST_FILES, MOST_DATA_FILES = 25, 8
MAIN_LINE = ("data/pipeline.py", "models/dual.py", "objectives/", "train/step.py", "train/loop.py")
README = pathlib.Path(__file__).parents[1] / "README.md"
ROOT = pathlib.Path(alp_jax.__file__).parent
tiny, tones = tiny_runs.tiny, tiny_runs.tones  # fixtures
TURN = 3  # of the loop, that is watched: the first ones wait for what is prepared only once


class Watch:
    """Notes which functions of ours are called while it is ``on``, in this thread and all that start meanwhile."""

    def __init__(self):
        self.on, self.called = False, collections.defaultdict(set)

    def _note(self, frame, event, arg):
        if self.on and event == "call" and frame.f_code.co_filename.startswith(str(ROOT)):
            self.called[pathlib.Path(frame.f_code.co_filename).relative_to(ROOT).as_posix()].add(frame.f_code.co_name)

    def __enter__(self):
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *exc):
        sys.setprofile(None)
        threading.setprofile(None)


@pytest.fixture
def one_device(monkeypatch):
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    monkeypatch.setattr(setup, "make_mesh", lambda config: mesh)
    return mesh


def trace_the_step(watch, config, mesh):
    """jax calls the step's Python once, here."""
    program = make_program(config, mesh)
    batch = program.batch(ShapeUse(1.2, 12, 16))
    jax.clear_caches()  # parts that another test has traced would not be traced again
    watch.on = True
    program.step.trace(program.state, batch)
    watch.on = False


def train_and_watch_one_turn(watch, config, workdir, monkeypatch):
    train_batches = loop_module.train_batches

    class Batches:
        def __init__(self, *args, **settings):
            self._batches, self._turn = train_batches(*args, **settings), 0
            self.close = self._batches.close

        def __next__(self):
            self._turn += 1
            watch.on = self._turn == TURN
            return next(self._batches)

    monkeypatch.setattr(loop_module, "train_batches", Batches)
    train(config, workdir)


def test_one_batch_passes_through_few_files(tiny, one_device, tmp_path, monkeypatch):
    with Watch() as watch:
        trace_the_step(watch, tiny(model={"regularise": True}, mesh={"data": 1, "fsdp": 1, "tensor": 1}), one_device)
        monkeypatch.setattr(progress, "_BEAT_S", 3600.0)  # of the thread that shows progress
        settings = {"steps": TURN + 2, "save_every": 99, "log_every": 99}
        train_and_watch_one_turn(watch, tiny(train=settings), tmp_path / "run", monkeypatch)
    for name, functions in sorted(watch.called.items()):
        print(f"{name}: {', '.join(sorted(functions))}")
    of_data = [name for name in watch.called if name.startswith("data/")]
    print(f"{len(watch.called)} files, {len(of_data)} of them in data/")
    assert len(watch.called) <= MOST_FILES
    assert len(of_data) <= MOST_DATA_FILES
    section = README.read_text().partition("## Six files to read")[2].partition("\n## ")[0]
    for name in MAIN_LINE:
        assert f"`alp_jax/{name}`" in section
        assert any(called.startswith(name) for called in watch.called), name
    for name in watch.called:
        inside = name.removeprefix("data/") if name in of_data else name.partition("/")[0] + "/"
        assert inside in section, f"README does not name {name}, which every batch passes through"
