"""The validation loss: which clips, planted values, the same on other devices, hosts and after a resume."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import DataConfig, MeshConfig
from alp_jax.core.errors import UserError
from alp_jax.core.run_files import Result
from alp_jax.data.order.held_out import is_held_out, validation_rows
from alp_jax.data.order.subset import open_rung
from alp_jax.data.store.dataset import open_dataset
from alp_jax.data.text.open import open_tokenizer
from alp_jax.objectives.base import Objective, Reduced
from alp_jax.parallel.mesh import make_mesh
from alp_jax.train import validation
from alp_jax.train.build import Parts
from alp_jax.train.loop import train
from alp_jax.train.validation import Validation
from tests import tiny_runs

tiny, tones = tiny_runs.tiny, tiny_runs.tones  # fixtures
SHARE = 0.3


@pytest.fixture(scope="module")
def dataset(tones):
    return open_dataset(tones)


def rows_of(rung):
    return np.sort(np.concatenate(list(rung.rows.values())))


def test_clips_are_held_out_of_every_rung_by_their_recording(dataset, tones):
    settings = DataConfig(path=str(tones), held_out=SHARE)
    held = np.flatnonzero(is_held_out(dataset, SHARE))
    assert 8 < len(held) < 22  # of 48
    chosen = validation_rows(dataset, settings, 100)
    np.testing.assert_array_equal(np.sort(chosen["tones"]), held)
    everything, part = (open_rung(dataset, dataclasses.replace(settings, pairs=pairs)) for pairs in (0, 40))
    np.testing.assert_array_equal(np.union1d(rows_of(everything), held), np.flatnonzero(dataset.ladder >= 0))
    assert not np.isin(rows_of(everything), held).any()
    assert np.isin(rows_of(part), rows_of(everything)).all()
    fewer = validation_rows(dataset, settings, 5)["tones"]
    np.testing.assert_array_equal(fewer, chosen["tones"][:5])


def test_without_any_clips_it_is_refused(dataset, tones):
    with pytest.raises(UserError, match="hold some out with --config"):
        validation_rows(dataset, DataConfig(path=str(tones)), 100)


def planted(scale):
    """A model whose loss of a clip is the tokens of its caption, times ``scale``, plus half of its seconds."""

    def reduce(outputs, inputs):
        return Reduced({"loss_B": outputs["tokens_B"] + 0.5 * outputs["seconds_B"]}, {})

    def combine(reduced, inputs, batch):
        weight_B = batch["mask"].astype(jnp.float32)
        clips = weight_B.sum()
        return (reduced.rows["loss_B"] * weight_B).sum() / clips, {"accuracy": clips}

    def apply(params, mel_BTF, len_B, inputs):
        return {"tokens_B": params * inputs["text_len"], "seconds_B": len_B / 100.0}

    return Parts(None, apply, Objective(lambda batch, key: {"text_len": batch["text_len"]}, reduce, combine), {}), scale


@pytest.fixture
def measured(tiny, tones, dataset, monkeypatch):
    """Returns ``make(devices)``: a validation of planted losses in batches of four clips."""
    monkeypatch.setattr(validation, "CLIPS", 4)
    config = tiny(data={"held_out": SHARE}, train={"validate_clips": 9})
    config = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, max_seconds=1.0))
    tokenizer = open_tokenizer(tones / "tokenizer.model")
    parts, scale = planted(2.0)

    def make(devices):
        mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
        return Validation(config, dataset, tokenizer, parts, mesh), {"params": jnp.float32(scale)}

    return make


def test_values_are_those_planted_on_any_number_of_devices(measured, dataset, tones):
    one, state = measured(1)
    assert one.clips == {"tones": 8}  # of nine: a rest of one clip has no negatives
    values = one.of(state)
    batches = [one._read(rows) for _, rows in one._batches]
    tokens = np.concatenate([batch["text_len"] for batch in batches])
    assert 3 < tokens.mean() < 16
    assert {batch["audio"].shape for batch in batches} == {(4, 16_000)}
    seconds = np.concatenate([batch["audio_len"] for batch in batches]) / 16_000
    np.testing.assert_allclose(values["validation/loss"], (2 * tokens + 0.5 * seconds).mean(), atol=0.03)  # frames
    assert values["validation/tones/loss"] == values["validation/loss"]
    assert values["validation/accuracy"] == 4.0  # clips that count
    assert one.of(state) == values
    eight, _ = measured(8)
    assert eight._read(eight._batches[0][1])["mask"].sum() == 4  # and four padding rows
    assert eight.of(state) == pytest.approx(values, rel=1e-6)


def test_hosts_read_their_parts_of_the_same_batch(measured, monkeypatch):
    one, _ = measured(2)
    whole = one._read(one._batches[0][1])
    parts = []
    for part in range(2):
        monkeypatch.setattr(validation, "batch_part", lambda mesh, part=part: (part, 2))
        parts.append(one._read(one._batches[0][1]))
    for name, value in whole.items():
        np.testing.assert_array_equal(np.concatenate([batch[name] for batch in parts]), value)


def losses(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["validation/loss"] for line in lines if "validation/loss" in line}


def test_a_run_measures_at_its_cadence_and_a_resumed_one_the_same(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "CLIPS", 8)
    settings = {"steps": 4, "validate_every": 2, "log_every": 50, "save_every": 2}
    config, run = tiny(train=settings, data={"held_out": SHARE}), tmp_path / "run"
    config = dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, max_seconds=1.0))
    train(config, run)
    found = losses(run)
    assert list(found) == [0, 2, 4]
    assert len(set(found.values())) == 3
    for task in ("validation", "validation_tones"):
        result = Result.read(run / "eval" / f"{task}-contrastive.json")
        assert result.metrics["loss"]["value"] == pytest.approx(found[4])
        assert result.facts["step"] == 4
    shutil.rmtree(run / "checkpoints" / "4")
    train(config, run)
    assert losses(run) == found
