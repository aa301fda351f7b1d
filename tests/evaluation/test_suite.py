"""The whole evaluation on a planted encoder: results, floors, resumption, failures, and the command."""

import dataclasses
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.cli.main import main
from alp_jax.config.schema import DataConfig, FeatureConfig, ModelConfig
from alp_jax.core.errors import UserError
from alp_jax.core.metrics import METRICS
from alp_jax.evaluation.evaluator import Setup
from alp_jax.evaluation.forecast import Encoder, Machine, lines
from alp_jax.evaluation.probes import evaluator as probes
from alp_jax.evaluation.probes.linear_probe import linear_probe
from alp_jax.evaluation.registry import BUILT_IN
from alp_jax.evaluation.stats.table import table, too_small
from alp_jax.evaluation.suite import Suite, run_suite

KEYS = {
    "task", "pooling", "metric", "value", "interval", "chance", "floor", "metrics", "n_train", "n_test", "classes",
    "groups_train", "groups_test", "split_hash", "seconds", "data_fingerprint", "fingerprint", "overlap",
}  # fmt: skip
WORDS = ("a", "number", "is", "dog", "cat", "rain")


class FakeTokenizer:
    pad_id, bos_id, eos_id, unk_id, mask_id, sha256 = 0, 1, 2, 3, 4, "fake"

    def encode(self, text):
        return [5 + WORDS.index(word) if word in WORDS else 3 for word in text.split()]


@pytest.fixture
def suite(dataset, config):
    data = DataConfig(bucket_seconds=(0.1, 0.2), text_budget=8)
    return Suite(Setup(dataset, FakeTokenizer(), config, data, FeatureConfig(), ModelConfig()))


@pytest.fixture
def dual(encoder):
    """The planted encoder with a text tower that says which of the classes a caption names."""

    def pool_audio(frames_BTD, len_B):
        valid = jnp.arange(frames_BTD.shape[1]) < len_B[:, None]
        mean = jnp.sum(frames_BTD[:, :, 0] * valid, 1) / jnp.maximum(len_B, 1)
        return -((mean[:, None] - jnp.arange(1.0, 4.0)) ** 2) + 0.5

    def embed_text(text_BL, text_len_B, tokens):
        assert tokens.pad == 0
        assert tokens.bos == 1
        names = jnp.array([5 + WORDS.index(name) for name in ("dog", "cat", "rain")])
        return (text_BL[:, :, None] == names).any(1) * 2.0 - 1.0

    return dataclasses.replace(encoder, pool_audio=pool_audio, embed_text=embed_text)


def test_every_task_and_pooling_is_written_and_reused(suite, dual, tmp_path, monkeypatch):
    results = run_suite(dual, suite, tmp_path / "eval", floors_path=tmp_path / "floors.json")
    by_job = {(r["task"], r["pooling"]): r for r in results}
    assert set(by_job) == {
        *((task, pooling) for task in ("kind", "tags") for pooling in ("mean", "attention")),
        *((t, p) for t in ("text_to_audio", "audio_to_text") for p in ("joint", "linear_alignment")),
        ("tags", "zero_shot"),
    }
    for (task, pooling), result in by_job.items():
        assert result.keys() >= KEYS
        assert json.loads((tmp_path / "eval" / f"{task}-{pooling}.json").read_text()) == result
        assert METRICS[result["metric"]].headline
        for name, found in result["metrics"].items():
            low, high = found["interval"]
            assert METRICS[name].low <= low <= found["value"] <= high <= METRICS[name].high
    assert by_job["kind", "mean"]["value"] > 0.9
    assert by_job["kind", "attention"]["value"] > 0.6  # a few steps only; chance is a third
    assert by_job["tags", "mean"]["value"] > 0.95
    assert by_job["tags", "zero_shot"]["metrics"]["map_best_prompt"]["value"] > 0.7  # chance is a third
    assert by_job["text_to_audio", "joint"]["metrics"]["recall_at_1"]["value"] > 0.4
    assert not (tmp_path / "eval" / "cache").exists()

    def refuse(*args):
        raise AssertionError("computed again")

    reads = suite.setup.dataset.reads
    for cls in BUILT_IN.values():
        monkeypatch.setattr(cls, "measure", refuse)
    assert run_suite(dual, suite, tmp_path / "eval", floors_path=tmp_path / "floors.json") == results
    assert suite.setup.dataset.reads == reads


def test_floors_are_shared_and_a_failing_task_stops_nobody(suite, encoder, tmp_path, monkeypatch):
    floors = tmp_path / "floors.json"
    rows = np.unique(np.concatenate([suite.evaluators[name].rows() for name in suite.names]))
    assert suite.floors(floors, tmp_path / "cache").keys() == {*suite.names}
    assert {*suite.names} == {"kind", "tags", "text_to_audio", "audio_to_text", "captioning"}
    stored, reads = floors.read_text(), suite.setup.dataset.reads

    def broken(data, *, least, **options):
        if not data.multi:
            raise ValueError("planted failure")
        readers = [lambda at, read=read: read(at)[0].mean(1) for read in (data.train, data.test)]
        return linear_probe(dataclasses.replace(data, train=readers[0], test=readers[1]), **options)

    with monkeypatch.context() as patch:
        patch.setattr(probes, "attention_probe", broken)
        results = run_suite(encoder, suite, tmp_path / "eval", floors_path=floors)
    assert [r["failed"] for r in results if "failed" in r] == ["ValueError: planted failure"]
    assert "planted failure" in (tmp_path / "eval" / "kind-attention.failed").read_text()
    assert len(list((tmp_path / "eval").glob("*.json"))) == len(results) - 1 == 5  # no joint space, no joint retrieval
    assert floors.read_text() == stored
    assert suite.setup.dataset.reads - reads == len(rows)  # the floors were not computed again
    assert "planted failure" in table(results, {})
    again = run_suite(encoder, suite, tmp_path / "eval", floors_path=floors)
    assert not any("failed" in r for r in again)
    assert not list((tmp_path / "eval").glob("*.failed"))


def test_a_suite_tells_what_it_will_take(suite, encoder):
    suite.setup.dataset.path = "planted"
    found = Encoder.of(encoder)
    assert (found.width, found.rate) == (6, 40.0)
    assert found.flops > 0
    assert Encoder.of(dataclasses.replace(encoder, frames=lambda *b: encoder.frames(*map(np.array, b)))).flops is None
    assert found.own_s > 0
    assert found.compile_s > 0
    head, encode, *results, floor, total = suite.forecast(encoder)
    probes = ["kind-mean", "kind-attention", "tags-mean", "tags-attention"]
    assert [line.split()[0] for line in results] == probes
    text = Suite(dataclasses.replace(suite.setup, config=dataclasses.replace(suite.setup.config, lit_steps=4)))
    found = lines({"planted": text.ahead}, found, text.setup.config, (Machine.known("h100"),))
    assert [line.split()[0] for line in found[2:-1]] == [*probes, "text_to_audio-lit", "captioning-lit"]
    assert encode.startswith("planted: encode")
    assert floor.startswith("planted: floors")
    assert "h100" in head
    assert results[0].endswith("exact")
    assert total.startswith("all ")


def opened(dataset, config, **options):
    return Suite(Setup(dataset, FakeTokenizer(), config, DataConfig(), FeatureConfig(), ModelConfig()), **options)


def test_unknown_tasks_are_named_with_those_there_are(dataset, config):
    with pytest.raises(UserError, match=r"'kin' \(did you mean 'kind'\?\): the data set has kind, tags, text_to_audio"):
        opened(dataset, config, only=["kin"])
    bare = [dataclasses.replace(r, labels={}, tags=(), captions=()) for r in dataset.records]
    with pytest.raises(UserError, match="unknown task 'kind': the data set has no labels, tags or captions"):
        opened(type(dataset)(bare), config, only=["kind"])


def few(dataset, test):
    """The data set with only so many test clips, three of a group."""
    kept, records = 0, []
    for record in dataset.records:
        kept += record.split == "test"
        if record.split == "train" or kept <= test:
            records.append(record)
    return type(dataset)(records)


def test_tasks_that_are_too_small_say_what_there_is_and_the_others_are_measured(dataset, config):
    suite = opened(few(dataset, 18), config)
    assert suite.names == ["kind"]
    assert set(suite.shortages) == {"lonely", "tags", "text_to_audio", "audio_to_text", "captioning"}
    assert str(suite.shortages["text_to_audio"]) == (
        "too small: 18 test and 180 training clips with captions, 20 of each are needed"
    )
    tags = suite.shortages["tags"]
    assert re.fullmatch(
        r"too small: 18 test and 120 training clips; 2 tags with at least 10 test and 20 training clips each are "
        r"needed, and 0 of \d+ have enough",
        str(tags),
    )
    assert (tags.have, tags.need) == (
        {"classes": 0, "train": 120, "test": 18},
        {"classes": 2, "train": 20, "test": 10},
    )
    assert len(suite.evaluators["kind"].split.test_row) == 18
    assert too_small(suite.shortages)[-1].startswith("text_to_audio, audio_to_text, captioning: too small: 18 test")


def test_a_suite_made_for_other_data_measures_the_labels_of_this_one(dataset, config):
    suite = opened(dataset, config, only=["speaker", "tags"], strict=False)
    assert (suite.names, set(suite.shortages)) == (["kind", "tags"], {"lonely"})
    suite = opened(dataset, config, only=["tags"], strict=False)
    assert (suite.names, set(suite.shortages)) == (["tags"], set())


def test_captions_are_embedded_once_and_in_order(suite, dual):
    calls = []

    def counted(text_BL, text_len_B, tokens):
        calls.append(text_BL.shape)
        return jnp.asarray(text_BL[:, :1]) * 1.0

    model = dataclasses.replace(dual, embed_text=counted)
    texts = ["dog", "cat", "dog", "rain is a dog"]
    found = suite.setup.embed_texts(model, texts)
    np.testing.assert_array_equal(found[:, 0], [8, 9, 8, 10])
    assert len(calls) == 1


def test_the_command_names_a_missing_run(tmp_path, capsys):
    assert main(["eval", "--run", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
