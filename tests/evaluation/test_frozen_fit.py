"""Text sides that learn from frozen frames: planted words are found, captions learnt, held clips select."""

import itertools
import types

import numpy as np
import pytest

from alp_jax.config.schema import DecoderConfig, EvalConfig, ModelConfig, ObjectiveConfig, TextTowerConfig
from alp_jax.core.hashing import fingerprint
from alp_jax.evaluation.frozen_fit import Captioned, Kept, evenly, fit, fit_text_side, permuted, sampled
from alp_jax.evaluation.retrieval.task import captioned_clips
from alp_jax.evaluation.retrieval.text_tower import search
from alp_jax.evaluation.table import Table
from alp_jax.objectives.base import SpecialTokens

TOKENS = SpecialTokens(pad=0, bos=1, eos=2, mask=3)
NAMES = ("dog", "cat", "rain", "bell", "door", "wind")
WORDS = ("a", "the", "sounds", *NAMES)
CLIPS, FRAMES, WIDTH = 150, 5, 8
MODEL = ModelConfig(
    text=TextTowerConfig(
        vocab_size=16, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=8, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    ),
    decoder=DecoderConfig(
        vocab_size=16, d_model=32, num_decoder_layers=1, decoder_nhead=2, dim_feedforward=32, decoder_dropout=0.0
    ),
    shared_emb_dim=16,
)  # fmt: skip


def encode(text):
    return [4 + WORDS.index(word) for word in text.split()]


@pytest.fixture(scope="module")
def planted():
    """(kind per clip, frames): the direction of a clip's last valid frame says its kind, others are noise."""
    rng = np.random.default_rng(0)
    kind_N = rng.integers(len(NAMES), size=CLIPS)
    frames_NTD = 0.3 * rng.standard_normal((CLIPS, FRAMES, WIDTH)).astype(np.float32)
    len_N = rng.integers(2, FRAMES + 1, CLIPS).astype(np.int32)
    frames_NTD[np.arange(CLIPS), len_N - 1, kind_N] += 6.0
    frames_NTD[np.arange(FRAMES) >= len_N[:, None]] = 99.0  # must not be looked at
    return kind_N, frames_NTD, len_N


@pytest.fixture(scope="module")
def setup(planted):
    """As much of a ``Setup`` as a text tower uses."""
    kind_N = planted[0]
    split = np.where(np.arange(CLIPS) < 110, 0, 2).astype(np.int8)
    captions = [(f"a {NAMES[k]}", f"the {NAMES[k]} sounds") for k in kind_N]
    names = [f"clip {i}" for i in range(CLIPS)]
    table = Table(names, ["t"] * CLIPS, split, names, [{}] * CLIPS, [()] * CLIPS, captions, [()] * CLIPS)
    parts = {"encode": encode, "special": TOKENS, "model_config": MODEL, "text_start": None, "table": table}
    return types.SimpleNamespace(config=EvalConfig(lit_steps=120), **parts)


def test_a_text_tower_learns_what_locked_frames_say(planted, setup):
    _, frames_NTD, len_N = planted
    features = types.SimpleNamespace(frames=lambda rows, max_frames: (frames_NTD[rows], len_N[rows]))
    clips = captioned_clips(setup)
    found = search(clips, setup, features)
    assert found["text_to_audio"].values["recall_at_1"]["value"] > 0.9
    assert found["audio_to_text"].values["recall_at_1"]["value"] > 0.9
    selected = found["text_to_audio"].selected
    assert 0 < selected["step"] <= selected["steps"] == 120
    setup.config = EvalConfig(lit_steps=4)
    start = search(clips, setup, features)
    assert start["text_to_audio"].values["recall_at_1"]["value"] < 0.6


@pytest.fixture(scope="module")
def captioned(planted):
    kind_N, frames_NTD, len_N = planted
    ids = [[encode(f"a {NAMES[k]}")] for k in kind_N]
    groups = [[int(k)] for k in kind_N]
    held = np.arange(CLIPS) % 5 == 0
    return Captioned(lambda clips: (frames_NTD[clips], len_N[clips]), ids, groups, held)


def test_a_decoder_learns_to_name_what_is_heard(planted, captioned):
    objective = ObjectiveConfig(name="captioning", autoregressive_share=1.0, label_smoothing=0.0)
    fitted = fit_text_side(captioned, MODEL, objective, TOKENS, steps=150)
    kind_N, frames_NTD, len_N = planted
    bos_B1 = np.array([[1, 4]] * CLIPS, np.int32)
    logits_BLV = fitted.apply(
        fitted.params, bos_B1, np.full(CLIPS, 2), np.ones(CLIPS, bool), frames_NTD, len_N, method="decode"
    )
    said_B = np.asarray(logits_BLV)[:, 1].argmax(-1)
    wanted_B = np.array([encode(NAMES[k])[0] for k in kind_N])
    assert (said_B == wanted_B)[captioned.held].mean() > 0.9
    assert fitted.selected["selection_loss"] < 0.3


def test_the_kept_parameters_are_those_of_the_best_look(captioned):
    """Held clips whose captions are false get worse while training goes on: the first look is kept."""
    wrong = [ids if not held else [encode("the wind")] for ids, held in zip(captioned.ids, captioned.held, strict=True)]
    misled = Captioned(captioned.frames, wrong, captioned.groups, captioned.held)
    objective = ObjectiveConfig(name="captioning", autoregressive_share=1.0, label_smoothing=0.0)
    assert fit_text_side(misled, MODEL, objective, TOKENS, steps=150).selected["step"] < 150


def test_a_start_of_other_shapes_is_refused(captioned):
    objective = ObjectiveConfig(name="contrastive")
    with pytest.raises(ValueError, match="no part 'decoder'"):
        fit_text_side(captioned, MODEL, objective, TOKENS, steps=1, start={"decoder": {}})
    with pytest.raises(ValueError, match="shapes that differ"):
        fit_text_side(captioned, MODEL, objective, TOKENS, steps=1, start={"text": {"x": np.zeros(2)}})


def kept_of(losses, **options):
    """A fit whose parameters count the steps, looked at after 2, 4 and 6 of them."""
    seen = iter(losses)
    batches = iter("abcdefgh")
    return fit(
        lambda params, state, batch: (params + 1, state + batch), 0, "", batches, steps=6,
        look=lambda params: next(seen), looks={2, 4, 6}, **options,
    )  # fmt: skip


def test_the_earliest_of_the_best_states_is_kept():
    assert kept_of([5.0, 3.0, 3.0]) == Kept(3.0, 4, 4)
    assert kept_of([np.nan, 3.0, np.nan]) == Kept(3.0, 4, 4)
    assert kept_of([5.0, 3.0, 4.0], start_loss=3.0) == Kept(3.0, 0, 0)  # training that helps nothing is not kept
    last = fit(lambda params, state, batch: (params + batch, state), 0, None, itertools.count(), steps=4)
    assert (last.step, last.params) == (4, 0 + 1 + 2 + 3)
    assert evenly(10, 4) == {2, 5, 8, 10}


def test_the_draws_of_every_fit_are_those_of_earlier_results():
    """Attention probes and adapters take permutations, text sides and frame probes draw anew for every step."""
    among = np.arange(3, 50)
    permutations = list(itertools.islice(permuted(np.random.default_rng(0), among, 32), 4))
    assert sorted(np.concatenate(permutations)[:47]) == among.tolist()
    draws = list(itertools.islice(sampled(np.random.default_rng(1), among, 32), 4))
    assert all((np.diff(draw) > 0).all() for draw in draws)
    assert [len(draw) for draw in itertools.islice(sampled(np.random.default_rng(1), among[:5], 32), 2)] == [5, 5]
    digests = [fingerprint([draw.tolist() for draw in drawn]) for drawn in (permutations, draws)]
    assert digests == ["ac723c1e44fef279", "5db0a3b1404a88b3"]
