"""Random models through export and verification: PyTorch in a process without JAX computes what JAX computes."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from alp_jax.cli.main import main
from alp_jax.core.errors import UserError
from alp_jax.interop.isolated import process
from alp_jax.interop.writing import parity, torch_folder
from alp_jax.interop.writing.compare import jax_results
from alp_jax.scaling.sweep.ledger import COLUMNS, Ledger

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def contrastive(tiny):
    """(run, clips, what JAX computes for them)."""
    run = tiny.run(tiny.run_config("contrastive"))
    return run, tiny.sounds(), jax_results(run.config, run.params, tiny.sounds())


def write(out, contrastive, params=None):
    run, clips, expected = contrastive
    run = run._replace(params=params or run.params)
    return torch_folder.write_torch(out, run, lambda made: parity.verify(made, clips, expected))


def test_a_contrastive_encoder_computes_the_same_without_jax(tmp_path, contrastive):
    result = write(tmp_path / "out", contrastive)
    assert max(result["frames"], result["pooled"], result["embed"]) <= 1e-4
    assert result["frames"] > 0.0  # two implementations, not one compared with itself
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    files = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert files == ["README.md", "alp_encoder.py", "config.json", "model.safetensors"]
    settings = torch_folder.check_export(tmp_path / "out")
    assert settings["model_type"] == "clap"
    assert settings["audio_encoder_config"]["encoder_dim"] == [16, 24, 20]
    assert settings["alp"]["run"] == "demo"
    assert settings["alp"]["step"] == 7
    params = contrastive[0].params
    counted = jax.tree.leaves([params["encoder"], params["audio_proj"]])
    assert settings["alp"]["parameters"] == result["parameters"] == sum(x.size for x in counted)


def test_a_perturbed_weight_is_noticed_and_nothing_is_left(tmp_path, contrastive):
    params = jax.tree.map(np.copy, contrastive[0].params)
    params["encoder"]["encoders"]["1"]["layers"]["0"]["self_attn2"]["out_proj"]["kernel"][3, 5] += 0.02
    with pytest.raises(parity.ParityError, match="differs from JAX by frames"):
        write(tmp_path / "out", contrastive, params)
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_needs_jax_does_not_pass(tmp_path, contrastive, monkeypatch):
    text = torch_folder.single_file().replace("import json\n", "import json\nimport jax\n", 1)
    monkeypatch.setattr(torch_folder, "single_file", lambda: text)
    with pytest.raises(parity.ParityError, match=r"does not run: .*jax"):
        write(tmp_path / "out", contrastive)
    assert list(tmp_path.iterdir()) == []


def approve(made):
    return {"clips": 1, "frames": 0.0, "pooled": 0.0, "tolerance": parity.TOLERANCE}


@pytest.mark.parametrize("kind", ["vit", "conformer"])
def test_other_encoders_are_refused_and_leave_nothing(tmp_path, tiny, kind):
    config = tiny.run_config("contrastive")
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, encoder_kind=kind))
    with pytest.raises(UserError, match=f"config.model.encoder_kind = '{kind}' .* only zipformer"):
        torch_folder.write_torch(tmp_path / "out", tiny.run(config)._replace(params={"encoder": {}}), approve)
    assert list(tmp_path.iterdir()) == []


def test_only_an_export_is_replaced(tmp_path, contrastive):
    out = tmp_path / "out"

    def again():
        torch_folder.write_torch(out, contrastive[0], approve)

    again()
    (out / "__pycache__").mkdir()
    again()
    assert not (out / "__pycache__").exists()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        again()
    assert (out / "thesis.tex").exists()
    shutil.rmtree(out)
    out.mkdir()
    (out / "config.json").write_text("{}")
    with pytest.raises(UserError, match="not an export"):
        again()
    shutil.rmtree(out)
    out.write_text("a file")
    with pytest.raises(UserError, match="is a file"):
        again()


def test_without_torch_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(process.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"it needs torch, .*pip install 'alp_jax\[torch\]'"):
        process.require("torch", user="it", extras="torch")


def test_difference_is_infinite_for_other_shapes_and_numbers_that_are_none():
    assert parity.difference(np.zeros(3), np.ones(3)) == 1.0
    assert parity.difference(np.zeros(3), np.zeros(4)) == np.inf
    assert parity.difference(np.array([np.nan]), np.zeros(1)) == np.inf


def test_the_verb_exports_verifies_and_deletes_what_differs(folders, capfd):
    root, run, data = folders
    out = root / "export"
    assert main(["export", "torch", f"--run={run}", f"--out={out}", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["model_type"] == "zipformer"
    assert result["clips"] >= 3
    assert result["frames"] <= 1e-4
    assert (out / "alp_encoder.py").exists()

    assert main(["export", "verify", f"--run={root}", f"--model={out}", f"--data={data}"]) == 2
    assert "was exported from run demo" in capfd.readouterr().err
    assert (out / "model.safetensors").exists()

    damaged = bytearray((out / "model.safetensors").read_bytes())
    (out / "model.safetensors").write_bytes(damaged[:-4])
    assert main(["export", "verify", f"--run={run}", f"--model={out}", f"--data={data}"]) == 1
    assert "the export was deleted" in capfd.readouterr().err
    assert not out.exists()


def test_wrong_folders_are_one_line_and_change_nothing(folders, tmp_path, capfd):
    _, run, data = folders
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    for arguments in (
        ["torch", f"--run={tmp_path}", f"--out={tmp_path / 'out'}"],
        ["torch", f"--run={run}", f"--out={tmp_path / 'mine'}"],
        ["torch", f"--run={run}", f"--out={tmp_path / 'out'}", "--step=4"],
        ["torch", f"--run={run}", f"--out={tmp_path / 'out'}", "--clips=0"],
        ["torch", f"--run={run}", f"--out={tmp_path / 'out'}", f"--data={tmp_path}"],
        ["verify", f"--run={run}", f"--model={tmp_path / 'mine'}", f"--data={data}"],
        ["best", f"--sweep={tmp_path}", f"--out={tmp_path / 'out'}"],
    ):
        assert main(["export", *arguments]) == 2, arguments
        lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("alp: ")]
        assert len(lines) == 1, lines
    assert [p.name for p in tmp_path.rglob("*")] == ["mine", "notes.txt"]


def test_the_best_run_of_a_sweep_is_exported_and_says_why(folders, tmp_path, capfd):
    """The worst run has the largest number of all, a median rank."""
    _, run, data = folders
    rows = []
    for name, good in (("demo", 0.9), ("second", 0.5), ("third", 0.25), ("worst", 0.0)):
        for metric, value, chance in (("recall_at_10", good, 0.1), ("median_rank", 1 + 300 * (1 - good), None)):
            given = {"run": name, "task": "text_to_audio", "pooling": "joint", "steps": 2, "metric": metric}
            rows.append(dict.fromkeys(COLUMNS) | given | {"value": value, "chance": chance})
    Ledger(tmp_path / "sweep" / "ledger.jsonl").append(rows)
    (tmp_path / "sweep" / "runs").mkdir()
    (tmp_path / "sweep" / "runs" / "demo").symlink_to(run)
    arguments = [f"--sweep={tmp_path / 'sweep'}", f"--out={tmp_path / 'out'}", f"--data={data}", "--clips=2"]
    assert main(["export", "best", *arguments]) == 0
    first, rule, results, *_ = capfd.readouterr().out.splitlines()
    assert first == "best run: demo 0.8889, then second 0.4444, then third 0.1667"
    assert rule.startswith("score: mean of the one headline result that all 4 runs have (R@10), each 0 at chance")
    assert results == "results: text_to_audio-joint"
    chosen = torch_folder.check_export(tmp_path / "out")["alp"]["chosen"]
    assert (chosen["runs"], chosen["results"]) == (4, ["text_to_audio-joint"])
    assert [other["run"] for other in chosen["next"]] == ["second", "third"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "The best of 4 runs, score 0.8889: mean of the one headline result" in card
    assert "Next: second 0.4444; third 0.1667." in card
