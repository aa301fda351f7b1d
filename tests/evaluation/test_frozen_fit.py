"""Text sides that learn from frozen frames: planted words are found, captions learnt, held clips select."""

import itertools
import types

import numpy as np
import pytest

from alp_jax.config.schema import DecoderConfig, EvalConfig, ModelConfig, ObjectiveConfig, TextTowerConfig
from alp_jax.core.hashing import fingerprint
from alp_jax.evaluation import fit_state
from alp_jax.evaluation.fit_state import Saves
from alp_jax.evaluation.frozen_fit import Captioned, FitSchedule, Kept, evenly, fit, fit_text_side, permuted
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
    table = Table(names, ["t"] * CLIPS, split, names, [{}] * CLIPS, [()] * CLIPS, captions, [()] * CLIPS, split >= 0)
    parts = {"encode": encode, "special": TOKENS, "model_config": MODEL, "text_start": None, "table": table}
    return types.SimpleNamespace(config=EvalConfig(lit_steps=120), **parts)


def test_a_text_tower_learns_what_locked_frames_say(planted, setup):
    _, frames_NTD, len_N = planted
    features = types.SimpleNamespace(
        frames=lambda rows, max_frames: (frames_NTD[rows], len_N[rows]), saves=lambda *identity: Saves()
    )
    clips = captioned_clips(setup)
    found = search(clips, setup, features)
    assert found["text_to_audio"].values["recall_at_1"]["value"] > 0.9
    assert found["audio_to_text"].values["recall_at_1"]["value"] > 0.9
    selected = found["text_to_audio"].selected
    assert 0 < selected["step"] <= selected["steps"] == 120
    setup.config = EvalConfig(lit_steps=4, lit_epochs=0.1)
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
    assert evenly(10, 4) == (2, 5, 8, 10)
    assert evenly(2, 4) == (1, 2)


def test_a_fit_takes_epochs_of_large_sets_and_the_fewest_steps_of_small_ones():
    assert FitSchedule.of(300, 10, 204, 64, 512, looks=3) == FitSchedule(204, 64, (68, 136, 204))
    assert FitSchedule.of(40_000, 10, 204, 64, 512, looks=1) == FitSchedule(6250, 64, (6250,))
    assert FitSchedule.of(1_092_009, 0.5, 204, 64, 512, looks=1) == FitSchedule(1067, 512, (1067,))


def test_the_draws_of_every_fit_are_those_of_earlier_results():
    """Every fit takes permutations, so that an epoch sees each clip once."""
    among = np.arange(3, 50)
    # probes, adapters and event detection; text towers and decoders
    for seed, digest in ((0, "ac723c1e44fef279"), (1, "09a03f8cf82b40b6")):
        permutations = list(itertools.islice(permuted(np.random.default_rng(seed), among, 32), 4))
        assert sorted(np.concatenate(permutations)[:47]) == among.tolist()
        assert fingerprint([draw.tolist() for draw in permutations]) == digest


def test_a_fit_that_was_stopped_goes_on_and_ends_as_it_would_have(tmp_path, monkeypatch):
    monkeypatch.setattr(fit_state, "EVERY_S", 0.0)
    rng = np.random.default_rng(0)
    truth_D, x_ND = rng.standard_normal(4), rng.standard_normal((40, 4))

    def run(state, stop=None):
        seen = []

        def update(params, state, at):
            if len(seen) == stop:
                raise KeyboardInterrupt
            seen.append(at)
            slope_D = x_ND[at].T @ (x_ND[at] @ (params["w"] - truth_D)) / len(at)
            state = 0.9 * state + slope_D
            return {"w": params["w"] - 0.1 * state}, state

        def loss(params):
            return float(np.abs(params["w"] - truth_D).sum())

        batches = permuted(np.random.default_rng(1), np.arange(40), 8)
        kept = fit(
            update, {"w": np.zeros(4)}, np.zeros(4), batches, steps=30, look=loss, looks={7, 15, 30}, saved=state
        )
        return kept, len(seen)

    whole, steps = run(None)
    assert steps == 30
    saves = Saves(tmp_path, ("model", "task"))
    with pytest.raises(KeyboardInterrupt):
        run(saves.state(), stop=17)
    kept, steps = run(saves.state())
    assert steps == 13
    assert (kept.loss, kept.step) == (whole.loss, whole.step)
    np.testing.assert_array_equal(kept.params["w"], whole.params["w"])
    assert run(saves.of("other settings").state())[1] == 30  # another fit does not take it


def test_every_held_clip_counts_the_same(captioned):
    """The held-out loss is that of all tokens, though the last batch holds a single clip."""
    objective = ObjectiveConfig(name="captioning", autoregressive_share=1.0, label_smoothing=0.0)
    ids = [[encode("a dog")] for _ in range(CLIPS)]
    ids[-1] = [encode("rain rain rain rain rain rain")]  # never trained on, and in a short last batch
    held = np.arange(CLIPS) >= CLIPS - 33
    odd = Captioned(captioned.frames, ids, captioned.groups, held)
    selected = fit_text_side(odd, MODEL, objective, TOKENS, steps=120).selected
    alone = Captioned(captioned.frames, ids, captioned.groups, np.arange(CLIPS) == CLIPS - 1)
    worst = fit_text_side(alone, MODEL, objective, TOKENS, steps=120).selected["selection_loss"]
    # 7 of 32 x 3 + 7 tokens are the odd clip's; the mean over batches would give them a half
    assert selected["selection_loss"] < 0.25 * worst
