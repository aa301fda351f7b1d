"""Plans, benchmarks and indexes of any size: what they say agrees with what batches hold."""

import collections
import dataclasses
import json
import pathlib

import numpy as np
import pytest
import soundfile

from alp_jax.bench import index, synthetic
from alp_jax.cli.main import main
from alp_jax.config import ConfigError
from alp_jax.config.data_settings import data_settings
from alp_jax.config.schema import DataConfig
from alp_jax.core.clip import Clip
from alp_jax.data.building.build import build
from alp_jax.data.order import forecast
from alp_jax.data.order import subset as rungs
from alp_jax.data.pipeline import GlobalBatches
from alp_jax.data.store.dataset import open_dataset
from alp_jax.data.text import training

RATE = 16_000
MIXTURE = "clotho=2,wavcaps=1"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("scale")
    rng, clips = np.random.default_rng(0), []
    for i in range(60):
        path = root / f"{i}.wav"
        soundfile.write(path, rng.uniform(-0.5, 0.5, round((0.15, 0.3, 0.2)[i % 3] * RATE)), RATE)
        source = "clotho" if i % 3 == 2 else "wavcaps"
        clips.append(Clip(f"{source}:{i}", source, f"r:{i}", str(path), captions=(f"sound {i}", f"noise {i}")))
    build(clips, root / "set", source_name="noise", shards=4, workers=1)
    dataset = open_dataset(root / "set")
    training.train(training.training_captions(dataset), root / "set" / "tokenizer.model", 285)
    return dataset


@pytest.fixture(scope="module")
def big(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("big")
    synthetic.make(small, folder, 30_000)
    return open_dataset(folder)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ALP_CACHE", str(tmp_path))


def test_an_index_of_any_size_is_measured(big, tmp_path, monkeypatch):
    monkeypatch.setattr(rungs, "BIG", 1000)
    monkeypatch.setattr(rungs, "CHUNK", 4096)
    monkeypatch.setattr(index, "RUNGS", {"6k": 6000, "12k": 12_000})
    config = DataConfig(bucket_seconds=(), batch_seconds=200.0, mixture=",".join(f"{n}=1" for n in synthetic.SOURCES))
    found = index.measure_index(
        str(big.path), str(tmp_path), config, lookups=30, steps=20, hosts=(1, 2, 4, 1), batches=20
    )
    assert found["clips"] == 30_000
    assert list(found["rungs"]) == ["6k", "12k", "all"]
    for name, rung in found["rungs"].items():
        assert rung["holds_the_one_before"]
        assert rung["padding"] < 0.13  # chosen without regard to weights: small sources come often
        assert rung["buckets"] <= 8
        assert rung["largest_share_off"] < {"6k": 0.03, "12k": 0.02, "all": 1e-9}[name]
    assert found["hosts_agree"]
    assert found["lookup_ms"]["max"] < 1000
    assert found["memory"]["clips"] > 20 * 8
    assert len(list(pathlib.Path(tmp_path / "rungs").iterdir())) == 3


def test_a_plan_says_what_batches_hold(small):
    config = DataConfig(bucket_seconds=(0.2, 0.3), batch_seconds=1.6, clips_multiple=4, mixture=MIXTURE, text_budget=4)
    steps = 512
    plan = forecast.forecast(small, config, seed=3, steps=steps)
    batches = GlobalBatches(small, config, index._NoTokens(), 3, 0, 1)
    drawn, uses, widths, heard, room = collections.Counter(), collections.Counter(), collections.Counter(), 0, 0
    ran_out = {}
    for step in range(steps):
        (width, _), rows, _, _ = batches.clips(step)
        widths[width] += 1
        heard, room = heard + int(np.minimum(small.num_samples[rows], width).sum()), room + width * len(rows)
        uses.update(rows.tolist())
        drawn.update(small.sources[code] for code in small.values("source", rows))
        for name, row in plan["sources"].items():
            if name not in ran_out and drawn[name] >= row["clips"]:
                ran_out[name] = step + 1
    assert plan["sources"].keys() == {"clotho", "wavcaps"}
    for name, row in plan["sources"].items():
        assert row["drawn"] == pytest.approx(drawn[name] / drawn.total())
        assert row["epochs"] == pytest.approx(drawn[name] / row["clips"])
        of_source = [uses[i] for i in range(len(small)) if small.sources[small.source[i]] == name]
        assert row["repeats"] == max(of_source)
        assert row["runs_out"] == pytest.approx(ran_out[name], rel=0.5, abs=3)
    assert drawn["clotho"] == pytest.approx(2 * drawn["wavcaps"], abs=2)
    assert plan["padding"] == pytest.approx(1 - heard / room, abs=1e-9)
    for bucket in plan["buckets"]:
        assert bucket["steps_share"] == pytest.approx(widths[round(bucket["seconds"] * RATE)] / steps)
    alone = forecast.forecast(small, dataclasses.replace(config, mixture="clotho=1,wavcaps=0"), seed=3, steps=steps)
    assert (alone["sources"]["wavcaps"]["drawn"], alone["sources"]["wavcaps"]["runs_out"]) == (0.0, None)
    assert [bucket["steps_share"] for bucket in alone["buckets"]] == [1.0, 0.0]
    assert alone["buckets"][1]["padding"] == 0.0
    short = forecast.forecast(small, config, seed=3, steps=1)
    assert {row["runs_out"] for row in short["sources"].values()} == {None}
    in_passes = forecast.forecast(small, dataclasses.replace(config, mixture="", read="sequential"), seed=3, steps=100)
    assert in_passes["sources"]["clotho"]["epochs"] == pytest.approx(in_passes["sources"]["wavcaps"]["epochs"])


def test_the_plan_of_every_rung_is_printed(big, small, capsys, monkeypatch):
    monkeypatch.setattr(forecast, "RUNGS", {"4k": 4000, "400k": 400_000})
    assert main(["data", "plan", str(big.path), "bucket_seconds=auto", "sources=-clotho", "--steps", "100"]) == 0
    text = capsys.readouterr().out
    assert "\n4k: 4,000 pairs" in text
    assert "\nall: " in text
    assert "400k" not in text
    assert "clotho" not in text
    assert "audiosetcaps" in text
    assert "not in run" in text
    arguments = ["data", "plan", str(small.path), f"mixture={MIXTURE}", "pairs=50", "--json"]
    pretrain = pathlib.Path(__file__).parents[2] / "configs" / "pretrain.py"
    assert main([*arguments, f"--config={pretrain}:pairs=all", "--config.train.steps=300"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] == 300
    assert list(found["rungs"]) == ["50"]
    assert found["rungs"]["50"]["sources"]["clotho"]["drawn"] == pytest.approx(2 / 3, abs=1e-3)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (["clips_per_batch=1"], "config.data.clips_per_batch is 1: it must be 2 or more"),
        (["batch_seconds=0.4"], "config.data.batch_seconds is 0.4: a batch of clips of up to 0.3 s has 1 clip"),
    ],
)
def test_a_plan_refuses_what_the_run_would(small, capsys, settings, line):
    pretrain = pathlib.Path(__file__).parents[2] / "configs" / "pretrain.py"
    plan = ["data", "plan", str(small.path), "clips_multiple=1", "bucket_seconds=0.3", "pairs=50", *settings]
    assert main([*plan, f"--config={pretrain}:objective=contrastive"]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert main([*plan, f"--config={pretrain}:objective=captioning"]) == 0
    assert main(plan) == 0


def test_a_plan_of_fewer_than_no_steps_is_refused(small, capsys):
    assert main(["data", "plan", str(small.path), "--steps=-1"]) == 2
    assert "steps = -1: must not be negative" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ("bucket_second=3", "nearest: config.data.bucket_seconds"),
        ("batch_seconds=x", "batch_seconds = 'x' is not a number"),
        ("batch_seconds=nan", "batch_seconds = 'nan' is not a number"),
        ("bucket_seconds=1,inf", "bucket_seconds = '1,inf' is not a number"),
        ("pairs=-3", "'-3' is not a count"),
        ("workers=1.5", "workers = '1.5' is not a number"),
        ("workers", "'workers' is not KEY=VALUE"),
    ],
)
def test_wrong_settings_are_named(item, problem):
    with pytest.raises(ConfigError) as error:
        data_settings([item], DataConfig())
    assert problem in str(error.value)


def test_settings_of_every_kind_are_read():
    items = ["pairs=4m", "bucket_seconds=2,4.5", "workers=3", "read=sequential", "max_padding=0"]
    got = data_settings(items, DataConfig())
    assert (got.pairs, got.bucket_seconds, got.workers) == (4_000_000, (2.0, 4.5), 3)
    assert (got.read, got.max_padding) == ("sequential", 0.0)
    assert data_settings(["bucket_seconds=auto"], DataConfig()).bucket_seconds == ()
    assert data_settings(["bucket_seconds=()"], DataConfig()).bucket_seconds == ()


def test_reading_is_measured_by_stage(small, capsys):
    command = ["bench", "data", "--data", str(small.path), "--clips", "40", "--step_seconds", "0.5", "--batch", "100"]
    assert main([*command, "bucket_seconds=0.2,0.3", "batch_seconds=3"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["clips"] >= 40
    assert set(found["stages"]) == {"look", "read", "crc", "parse", "decode", "text", "batch"}
    assert found["ms"] == pytest.approx(sum(stage["ms"] for stage in found["stages"].values()), abs=0.01)
    assert found["step"]["cores_needed"] == pytest.approx(100 * found["ms"] / 1e3 / 0.5, abs=0.01)
    assert found["loader"]["clips_per_s"] > 0
    assert 0 < found["loader"]["ahead_mb"] < DataConfig().prefetch_mb
    assert found["loader"]["processor_ms"] > 0
    assert main([*command, "--clips", "0"]) == 2
    assert "--clips 0" in capsys.readouterr().err
    assert main(["bench", "index", "--data", str(small.path), "--clips", "x"]) == 2
    assert "'x' is not a count" in capsys.readouterr().err


def test_against_torch_the_same_files_are_read(small, tmp_path):
    torch_loader = pytest.importorskip("alp_jax.bench.torch_loader")
    pytest.importorskip("torch")
    from alp_jax.bench.loader import write_flac

    files = write_flac(small, DataConfig(pairs=40), tmp_path)
    assert 18 < len(files) < 42
    for path, caption in files[:3]:
        row = int(pathlib.Path(path).stem)
        record = small.read(row)
        np.testing.assert_array_equal(soundfile.read(path, dtype="int16")[0], record.audio)
        assert caption == record.captions[0]
    found = torch_loader.time_torch_loader(files, index._NoTokens(), batch=4, workers=0, max_samples=4000, clips=30)
    assert found["clips"] >= 30
    assert found["clips_per_s"] > 0
    assert 0 < found["padding"] < 0.5
