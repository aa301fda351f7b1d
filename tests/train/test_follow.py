"""A follower meets every checkpoint once, in order, and leaves when the run is done."""

import json
import types

import pytest

from alp_jax.cli.main import main
from alp_jax.core.errors import UserError
from alp_jax.train import follow as module
from alp_jax.train.follow import follow


class Run:
    """A run whose checkpoints appear and disappear while it is followed; ``sleep`` goes on to the next scene."""

    def __init__(self, folder, monkeypatch, scenes):
        self.folder, self.scenes, self.evaluated, self.kept = folder, list(scenes), [], []
        self.steps = self.scenes.pop(0)
        monkeypatch.setattr(module, "complete", lambda run_dir: self.steps)
        monkeypatch.setattr(module, "eval_model", self.model)
        monkeypatch.setattr(module, "run_suite", self.measure)

    def model(self, run_dir, step):
        if step not in self.steps or step == 13:
            self.steps = [s for s in self.steps if s != step]
            raise UserError(f"no checkpoint {step}")
        return step, None

    def measure(self, model, suite, out, floors_path, keep_features):
        self.evaluated.append(model)
        self.kept.append(keep_features)
        assert out.name == f"{model:07}"
        return [
            {"task": "kind", "pooling": "mean", "metric": "accuracy", "value": model / 100, "interval": [0.0, 1.0]},
            {"task": "tags", "pooling": "mean", "failed": "planted"},
        ]

    def sleep(self, seconds):
        self.steps = self.scenes.pop(0)
        if not self.scenes:
            (self.folder / "DONE").touch()


def test_every_checkpoint_is_met_once_and_the_end_is_seen(tmp_path, monkeypatch):
    run = Run(tmp_path, monkeypatch, [[5], [5], [10, 13, 15], [15, 20]])
    out = tmp_path / "steps"
    steps = [step for step, _ in follow(tmp_path, None, out, tmp_path / "floors.json", sleep=run.sleep)]
    assert steps == run.evaluated == [5, 10, 15, 20]  # 13 was removed before it was read
    curve = json.loads((out / "curve.json").read_text())
    assert curve.keys() == {"kind-mean"}
    points = curve["kind-mean"]["points"]
    assert [point["step"] for point in points] == [5, 10, 15, 20]
    assert points[2] == {"step": 15, "value": 0.15, "interval": [0.0, 1.0]}
    assert len(list((out / "tensorboard").iterdir())) == 1


def test_a_follower_that_comes_late_adds_to_the_curve(tmp_path, monkeypatch):
    out = tmp_path / "steps"
    out.mkdir()
    (out / "curve.json").write_text('{"kind-mean": {"metric": "accuracy", "points": [{"step": 20}, {"step": 100}]}}')
    (tmp_path / "DONE").touch()
    Run(tmp_path, monkeypatch, [[20]])
    list(follow(tmp_path, None, out, tmp_path / "floors.json", sleep=pytest.fail))
    points = json.loads((out / "curve.json").read_text())["kind-mean"]["points"]
    assert points == [{"step": 20, "value": 0.2, "interval": [0.0, 1.0]}, {"step": 100}]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[]", "is not a JSON object"),
        ('{"kind-mean": []}', "kind-mean is not what --follow writes"),
        ('{"kind-mean": {"points": [20]}}', "kind-mean is not what --follow writes"),
        ('{"kind-mean": {"points": [{"step": "20"}]}}', "kind-mean is not what --follow writes"),
    ],
)
def test_a_curve_of_another_form_is_named(tmp_path, monkeypatch, content, why):
    (tmp_path / "curve.json").write_text(content)
    (tmp_path / "DONE").touch()
    Run(tmp_path, monkeypatch, [[20]])
    with pytest.raises(UserError, match=rf"curve .*curve\.json:? {why}"):
        list(follow(tmp_path, None, tmp_path, tmp_path / "floors.json", sleep=pytest.fail))


def test_a_checkpoint_that_is_there_and_cannot_be_read_is_no_silence(tmp_path, monkeypatch):
    run = Run(tmp_path, monkeypatch, [[5]])

    def broken(run_dir, step):
        raise UserError("it is damaged")

    monkeypatch.setattr(module, "eval_model", broken)
    with pytest.raises(UserError, match="damaged"):
        list(follow(tmp_path, None, tmp_path / "steps", tmp_path / "floors.json", sleep=run.sleep))


@pytest.mark.parametrize("flag", [["--step", "3"], ["--no_baselines"]])
def test_following_takes_a_run_and_all_its_checkpoints_and_has_no_baselines(tmp_path, capsys, flag):
    assert main(["eval", "--run", str(tmp_path), "--follow", *flag]) == 2
    assert f"leave out {flag[0]}" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--keep_features"]])
def test_the_features_of_every_checkpoint_are_kept_if_asked(tmp_path, monkeypatch, flags):
    (tmp_path / "DONE").touch()
    run = Run(tmp_path, monkeypatch, [[5, 10], []])
    dataset = types.SimpleNamespace(path="data")
    suite = types.SimpleNamespace(names=["kind"], shortages={}, setup=types.SimpleNamespace(dataset=dataset))
    monkeypatch.setattr(module, "read_config", lambda run_dir: None)
    monkeypatch.setattr(module, "open_suite", lambda *of_run: suite)
    monkeypatch.setattr(module, "table", lambda results, others: "")
    assert main(["eval", "--run", str(tmp_path), "--follow", *flags]) == 0
    assert run.kept == [bool(flags)] * 2
