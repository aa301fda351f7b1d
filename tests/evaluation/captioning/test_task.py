"""Captioning of planted clips: by the decoder of a model, by one that learns from frozen frames, and its parts."""

import dataclasses
import sys
import types

import jax
import numpy as np
import pytest

from alp_jax.config.schema import DataConfig, DecoderConfig, FeatureConfig, ModelConfig
from alp_jax.core.metrics import METRICS
from alp_jax.evaluation.captioning import task as captioning
from alp_jax.evaluation.captioning.spice_free import extra_scores
from alp_jax.evaluation.evaluator import Setup
from alp_jax.evaluation.frozen_fit import fit_text_side
from alp_jax.evaluation.suite import Suite, run_suite
from tests.evaluation.conftest import KINDS

WORDS = ("a", "number", "is", *KINDS)


class Words:
    """A tokenizer of whole words."""

    pad_id, bos_id, eos_id, unk_id, mask_id, sha256 = 0, 1, 2, 3, 4, "words"

    def encode(self, text):
        return [5 + WORDS.index(word) if word in WORDS else 3 for word in text.split()]

    def decode(self, ids):
        return " ".join(WORDS[i - 5] if i >= 5 else "?" for i in ids)


def make_suite(dataset, config, **changes):
    decoder = DecoderConfig(
        vocab_size=16, d_model=32, num_decoder_layers=1, decoder_nhead=2, dim_feedforward=32, decoder_dropout=0.0
    )
    setup = Setup(
        dataset,
        Words(),
        dataclasses.replace(config, caption_tokens=6, caption_beams=2, **changes),
        DataConfig(bucket_seconds=(0.1, 0.2), text_budget=8),
        FeatureConfig(),
        ModelConfig(decoder=decoder),
    )
    return Suite(setup, only=["captioning"])


def test_a_model_with_a_decoder_and_a_decoder_on_frozen_frames_say_what_is_heard(dataset, config, encoder, tmp_path):
    def caption(frames_BTD, len_B, special, beams, tokens):
        """``a KIND`` by the first dimension of the first frame."""
        assert (special.bos, special.eos, special.pad, beams, tokens) == (1, 2, 0, 2, 6)
        kind_B = np.asarray(frames_BTD)[:, 0, 0].round().astype(int) - 1
        return np.stack([np.full_like(kind_B, 5), 8 + kind_B, *[np.zeros_like(kind_B)] * 4], axis=1)

    suite = make_suite(dataset, config, lit_steps=240)
    model = dataclasses.replace(encoder, caption=caption)
    results = run_suite(model, suite, tmp_path / "eval", floors_path=tmp_path / "floors.json")
    by_pooling = {result["pooling"]: result for result in results}
    assert by_pooling.keys() == {"decoder", "lit"}
    own, learnt = by_pooling["decoder"], by_pooling["lit"]
    assert own["metric"] == "rouge_l"  # as in the paper
    assert METRICS["rouge_l"].headline
    assert 0 < own["chance"] < own["value"]  # captions of other clips share a word or two
    assert own["metrics"]["bleu_2"]["value"] == pytest.approx(1.0)  # every word is in one of the two references
    assert {f"bleu_{n}" for n in (1, 2, 3, 4)} | {"rouge_l", "cider_d"} <= own["metrics"].keys()
    assert own["interval"][0] <= own["value"] <= own["interval"][1]
    assert own["samples"][0]["caption"] in own["samples"][0]["references"]
    # the number cannot be heard and counts as no word; what can be is always said
    assert learnt["metrics"]["rouge_l"]["value"] > 0.95
    assert learnt["selected"]["step"] <= 240


def test_the_floor_is_a_caption_of_the_nearest_training_clip(dataset, config):
    task = make_suite(dataset, config).evaluators["captioning"].split
    vectors = np.eye(len(task.train_row))
    near = captioning.nearest_captions(task, vectors, vectors[[4, 0] * (len(task.test_row) // 2)])
    assert near[0] in task.train_captions[4]
    assert near[1] in task.train_captions[0]
    assert captioning._plainest(["the dog", "a loud dog barks", "dog barks"]) == "dog barks"


def test_cider_of_references_that_are_one_text_is_not_computable(dataset, config):
    task = make_suite(dataset, config).evaluators["captioning"].split
    alike = dataclasses.replace(task, references=[("A dog.", "a dog")] * len(task.references))
    found = captioning.score_captions(alike, ["a dog"] * len(task.references), {})
    assert "cider_d" not in found.values
    assert found.notes["skipped"]["cider_d"].startswith("not computable")
    assert found.headline()[0] == "rouge_l"
    assert found.headline()[1]["value"] == pytest.approx(1.0)
    assert "cider_d" in captioning.score_captions(task, ["a dog"] * len(task.references), {}).values


def test_what_is_not_here_is_named_and_never_zero(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk.translate.meteor_score", None)
    evaluator = types.SimpleNamespace(sentence_score=lambda caption, references: float(caption in references))
    package = types.SimpleNamespace(Evaluator=lambda **options: evaluator)
    monkeypatch.setitem(sys.modules, "fense", types.SimpleNamespace(evaluator=package))
    monkeypatch.setitem(sys.modules, "fense.evaluator", package)
    found = extra_scores(["a dog", "rain"], [["a dog"], ["wind", "a storm"]])
    assert found["meteor_nltk"].startswith("needs the package nltk")
    assert "Java" in found["spice"]
    np.testing.assert_array_equal(found["fense"], [1.0, 0.0])


def test_only_the_parameters_that_are_named_learn(monkeypatch):
    from alp_jax.config.schema import ObjectiveConfig
    from alp_jax.evaluation.frozen_fit import Captioned
    from alp_jax.objectives.base import SpecialTokens

    frames = np.random.default_rng(0).standard_normal((40, 3, 8)).astype(np.float32)
    data = Captioned(lambda c: (frames[c], np.full(len(c), 3)), [[[5, 6]]] * 40, [[0]] * 40, np.arange(40) % 5 == 0)
    model = ModelConfig(
        decoder=DecoderConfig(vocab_size=16, d_model=8, num_decoder_layers=1, decoder_nhead=2, dim_feedforward=8)
    )
    options = {"steps": 4, "seed": 3}
    objective = ObjectiveConfig(name="captioning", autoregressive_share=1.0)
    special = SpecialTokens(0, 1, 2, 4)
    whole = fit_text_side(data, model, objective, special, **options).params
    start = {"decoder": whole["decoder"]}
    part = fit_text_side(data, model, objective, special, start=start, only="multihead_attn", **options).params
    moved = jax.tree_util.tree_leaves_with_path(jax.tree.map(lambda a, b: bool((a != b).any()), whole, part))
    names = {jax.tree_util.keystr(path) for path, yes in moved if yes}
    assert names
    assert all("multihead_attn" in name for name in names)
