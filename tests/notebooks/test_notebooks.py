"""The notebooks run from the first cell to the last on small settings, and are stored without outputs."""

import functools
import io
import json
import pathlib

import IPython.display
import matplotlib
import matplotlib.pyplot
import numpy as np
import pytest
import soundfile
from IPython.display import SVG, Audio
from matplotlib.figure import Figure

from alp_jax.scaling.questions import held_out
from alp_jax.scaling.report import study

FOLDER = pathlib.Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def cells(name, kind="code"):
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text())
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


class Shown(list):
    """What a notebook displayed."""

    def of(self, kind):
        return [one for one in self if isinstance(one, kind)]


@pytest.fixture
def execute(monkeypatch):
    """Returns ``execute(name, **parameters)``: the cells in one namespace, parameters replaced after their cell."""
    matplotlib.use("agg")
    monkeypatch.chdir(FOLDER)  # where Jupyter starts
    shown = Shown()
    monkeypatch.setattr(IPython.display, "display", lambda *objects: shown.extend(objects))

    def run(name, **parameters):
        shown.clear()
        space = {"__name__": "__main__"}
        for cell in cells(name):
            exec(compile("".join(cell["source"]), f"{name}:{cell['id']}", "exec"), space)
            if "parameters" in cell["metadata"].get("tags", ()):
                assert parameters.keys() <= space.keys(), "no such parameter"
                space |= parameters
        matplotlib.pyplot.close("all")
        return shown, space

    return run


def test_all_five_are_stored_without_outputs_and_say_what_they_are():
    assert NOTEBOOKS == [
        "fit_and_extrapolate",
        "inspect_checkpoint",
        "quick_tour",
        "reproduce_report",
        "retrieval_demo",
    ]
    for name in NOTEBOOKS:
        assert "".join(cells(name, "markdown")[0]["source"]).startswith("# ")
        assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells(name))
        assert sum("parameters" in cell["metadata"].get("tags", ()) for cell in cells(name)) == 1
        ids = [cell["id"] for kind in ("code", "markdown") for cell in cells(name, kind)]
        assert len(set(ids)) == len(ids)


def test_a_run_is_made_inspected_and_searched(execute, tiny, tones, config_file, tmp_path, capsys):
    small = {"encoder": tiny("captioning").model.encoder}  # of one stack: compiling it is most of this test
    config = tiny("contrastive", model=small, mesh={"data": -1, "fsdp": 1, "tensor": 1})
    run = tmp_path / "run"
    shown, space = execute("quick_tour", DATA=tones, CONFIG=config_file(config), RUN=run, STEPS=4, TASK="pitch")
    said = capsys.readouterr().out
    assert "64 clips" in said
    assert "train: 48 clips" in said
    assert space["result"]["n_test"] == 16
    assert "pitch: " in said
    assert len(shown.of(Figure)) == 2
    assert len(shown.of(Audio)) == 1

    shown, space = execute("inspect_checkpoint", RUN=run)
    said = capsys.readouterr().out
    assert "not finite: none" in said
    assert len(shown.of(Figure)) == 1
    assert all(change > 0 for change in space["change"].values()), "every module learned something"

    shown, space = execute("retrieval_demo", RUN=run, QUERIES=("a low tone", "a high note"), CLIPS=12, TOP=2)
    assert "text to audio: R@10" in capsys.readouterr().out
    sounds = shown.of(Audio)
    assert len(sounds) == 2 * 2
    np.testing.assert_allclose(np.linalg.norm(space["audio_AE"], axis=1), 1, atol=1e-5)
    best = space["similarity_QA"].argmax(1)
    played = [len(soundfile.read(io.BytesIO(sound.data))[0]) for sound in sounds[::2]]
    assert played == [len(space["clips"][i].audio) for i in best]


def test_laws_and_figures_come_from_a_ledger(execute, capsys, monkeypatch):
    monkeypatch.setattr(study, "fit_groups", functools.partial(study.fit_groups, replicas=10))
    monkeypatch.setattr(held_out, "_REPLICAS", 10)
    shown, space = execute("fit_and_extrapolate", REPLICAS=20)
    said = capsys.readouterr().out
    assert len(shown.of(Figure)) == 1
    assert said.count("error at 64,000 pairs") == len(space["fitted"]) == 6
    for curve, fit in space["fitted"]:
        assert fit.params["E"] < fit.predict([64_000])[0] <= curve.y.max()
    shown, space = execute("reproduce_report", TASKS=("tags", "text_to_audio"))
    drawings = shown.of(SVG)
    assert len(drawings) == len(space["panels"]) + 3
    assert all("</svg>" in drawing.data for drawing in drawings)
    assert capsys.readouterr().out.count("\n   ") == 4, "four findings with their numbers"
