"""The paper's suite measures the same thing on every run, whatever the settings that the run was trained with."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import DataConfig, DecoderConfig, EvalConfig, FeatureConfig, ModelConfig, TextTowerConfig
from alp_jax.core.clip import SAMPLE_RATE, Event
from alp_jax.core.run_files import DETECTION
from alp_jax.evaluation.evaluator import Setup
from alp_jax.evaluation.model import EvalModel
from alp_jax.evaluation.protocol import PAPER_EDGES_S, protocol, task_names, text_sides
from alp_jax.evaluation.suite import Suite, run_suite
from alp_jax.evaluation.table import read_table
from tests.evaluation.conftest import FakeDataset, make_records

PITCH = {"high": 0.5, "low": 0.05}  # radians per sample
HOP = SAMPLE_RATE // 25
SHORT = EvalConfig(max_seconds=1.0, max_train_clips=24, lit_steps=0, attention_steps=3, caption_tokens=5)
LONG = EvalConfig(max_seconds=10.0, batch_seconds=60.0)


def marked(number):
    """Three seconds of noise with a second of one of two tones that begins late, as if from AudioSet-Strong."""
    rng, name = np.random.default_rng(number), ("high", "low")[number % 2]
    onset = 1.2 + 0.8 * float(rng.random())
    sound = 100 * rng.standard_normal(3 * SAMPLE_RATE)
    first = round(onset * SAMPLE_RATE)
    sound[first : first + SAMPLE_RATE] += 8000 * np.sin(PITCH[name] * np.arange(SAMPLE_RATE))
    return dataclasses.replace(
        make_records(1)[0], id=f"clip {number}", group=f"clip {number}", labels={}, tags=(), captions=(),
        split="test" if number < 24 else "train", audio=sound.astype(np.int16), num_samples=len(sound),
        events=(Event(onset, onset + 1.0, name),),
    )  # fmt: skip


class NoText:
    """In place of a tokenizer, which these tasks do not need."""

    sha256 = "none"


@pytest.fixture(scope="module")
def strong():
    dataset = FakeDataset([marked(number) for number in range(64)])
    dataset.sources = ("audioset_strong",)
    dataset.info = {"accounting": {"sources": {"audioset_strong": {"expected": 64, "unusable": {}}}}}
    return dataset


@pytest.fixture(scope="module")
def spectral():
    """Frames of 40 ms: log energy below and above 1 kHz."""

    @jax.jit
    def frames(audio_BS, audio_len_B):
        audio_BS = jnp.pad(audio_BS, [(0, 0), (0, -audio_BS.shape[1] % HOP)])
        power_BTF = jnp.abs(jnp.fft.rfft(audio_BS.reshape(audio_BS.shape[0], -1, HOP) / 32768.0)) ** 2
        bands = jnp.stack([power_BTF[..., 2:40].sum(-1), power_BTF[..., 40:200].sum(-1)], -1)
        return jnp.log(bands + 1e-6), audio_len_B // HOP

    return EvalModel("spectral", frames)


def test_every_run_gets_the_same_settings_but_for_its_machine_and_its_files():
    short = dataclasses.replace(SHORT, prompts="mine.json")
    runs = (short, DataConfig(bucket_seconds=(1.0,))), (LONG, DataConfig(bucket_seconds=(5.0, 10.0)))
    (a, data_a), (b, data_b) = (protocol("paper", *run) for run in runs)
    assert (a.batch_seconds, a.prompts, b.batch_seconds) == (240.0, "mine.json", 60.0)
    assert dataclasses.replace(a, batch_seconds=60.0, prompts="") == b
    assert data_a == data_b
    assert data_a.bucket_seconds == PAPER_EDGES_S
    assert a.max_seconds == 30
    assert {a.max_train_clips, a.max_test_clips, a.retrieval_clips, a.alignment_clips} == {0}
    assert a.lit_steps == EvalConfig().lit_steps > 0
    assert protocol("mini", *runs[0]) == runs[0]
    own = ModelConfig(text=TextTowerConfig(hidden_size=16), decoder=DecoderConfig(d_model=16), shared_emb_dim=8)
    sides = text_sides("paper", own, 2048)
    assert (sides.text, sides.decoder) == (TextTowerConfig(vocab_size=2048), DecoderConfig(vocab_size=2048))
    assert sides.shared_emb_dim == 1024
    assert text_sides("mini", own, 2048) == own


@pytest.mark.parametrize("suite", ["paper", DETECTION])
def test_the_detection_score_does_not_depend_on_the_crop_of_a_run(strong, spectral, suite, tmp_path, monkeypatch):
    """All events begin after the first second: none would be left of clips that are cut to it."""
    monkeypatch.setattr(Suite, "floors", lambda self, path, folder: {DETECTION: {}})  # half of the time
    psds = {}
    for config in (SHORT, dataclasses.replace(LONG, max_train_clips=SHORT.max_train_clips)):
        own = config, DataConfig(bucket_seconds=(config.max_seconds,))
        setup = Setup(strong, NoText(), *protocol(suite, *own), FeatureConfig(), ModelConfig())
        opened, out = Suite(setup, only=task_names(suite)), tmp_path / f"{config.max_seconds:g} s"
        assert opened.names == [DETECTION]
        (result,) = run_suite(spectral, opened, out, floors_path=out / "floors.json")
        psds[config.max_seconds] = result["metrics"]["psds1"]["value"]
        assert result["n_train"] == (40 if suite == "paper" else SHORT.max_train_clips)
    print(f"suite {suite}: PSDS1 by max_seconds of the run: {psds}")
    assert psds[1.0] == psds[10.0] > 0.9


def test_text_sides_learn_from_whole_captions_and_the_own_tower_reads_what_it_was_trained_on(dataset):
    class Letters(NoText):
        """Every letter is a token."""

        pad_id, bos_id, eos_id, mask_id = 0, 1, 2, 3

        def encode(self, text):
            return [ord(letter) for letter in text]

    read = []

    def embed_text(text_BL, text_len_B, special):
        read.extend(np.asarray(text_len_B)[np.asarray(text_len_B) > 0].tolist())
        return jnp.asarray(text_BL[:, :1], jnp.float32)

    own = EvalConfig(), DataConfig(text_budget=28)
    setup = Setup(dataset, Letters(), *protocol("paper", *own), FeatureConfig(), ModelConfig())
    assert len(setup.encode("a" * 200)) == 128
    setup.embed_texts(EvalModel("own", None, embed_text=embed_text), ["a" * 200])
    assert read == [28]
    assert len(Setup(dataset, Letters(), *own, FeatureConfig(), ModelConfig()).encode("a" * 200)) == 28


def test_clips_that_were_excluded_are_not_in_a_task(dataset):
    """They are copies of test clips, say: a probe that is fitted to them would know the answers."""
    assert len(read_table(dataset).rows("train")) == 180
    dataset.excluded[:60] = 1
    suite = Suite(Setup(dataset, NoText(), LONG, DataConfig(), FeatureConfig(), ModelConfig()), only=["kind"])
    train = suite.evaluators["kind"].split.train_row
    assert len(train) == suite.evaluators["kind"].facts()["n_train"] == 135
    assert not set(train.tolist()) & set(range(60))
