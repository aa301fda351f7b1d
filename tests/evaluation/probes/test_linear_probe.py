"""Probes find what is planted, and nothing where nothing is."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from alp_jax.evaluation.budget import MemoryBudget
from alp_jax.evaluation.fit_state import Saves
from alp_jax.evaluation.probes import attention_probe as attention
from alp_jax.evaluation.probes import linear_probe as probe
from alp_jax.evaluation.probes.data import ROWS_MULTIPLE, ProbeData, padded
from alp_jax.evaluation.stats.metrics import standardise

N, D, C = 300, 12, 5


def planted(seed=0, noise=0.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2 * N, D)).astype(np.float32)
    centres = rng.standard_normal((C, D))
    y = rng.integers(C, size=2 * N)
    x += 3 * centres[y] * (1 - noise)
    return (x * np.linspace(0.01, 100, D) + 7).astype(np.float32), y.astype(np.int32)


AMPLE = {"budget": MemoryBudget(2 << 30, 4 << 30), "saves": Saves()}


def data_of(x, y, held_share=0.2, classes=C, length=None):
    """The first N clips train; with ``length`` x are frames."""
    held = np.arange(N) < held_share * N
    if length is None:
        readers = lambda at: x[:N][at], lambda at: x[N:][at]
    else:
        readers = lambda at: (x[:N][at], length[:N][at]), lambda at: (x[N:][at], length[N:][at])
    return ProbeData(readers[0], y[:N], held, readers[1], len(x) - N, classes)


def linear_probe(data):
    return probe.linear_probe(data, epochs=10, **AMPLE)


def attention_probe(data, steps):
    return attention.attention_probe(data, epochs=1e-3, least=steps, **AMPLE)


def test_a_planted_linear_label_is_recovered_and_random_labels_are_not():
    x, y = planted()
    found, chosen = linear_probe(data_of(x, y))
    assert found.shape == (N,)
    assert (found == y[N:]).mean() > 0.97
    assert chosen["selection_score"] > 0.95

    random = np.random.default_rng(1).integers(C, size=2 * N).astype(np.int32)
    found, _ = linear_probe(data_of(x, random))
    assert abs((found == random[N:]).mean() - 1 / C) < 0.08


def test_the_fit_is_scikit_learns():
    x, y = planted(noise=0.8)
    data = data_of(x, y)
    fitted, chosen = probe.fit_linear(data, epochs=10, **AMPLE)
    logits = fitted.logits(x[N:])
    train_x, test_x = standardise(x[:N], x[N:])
    oracle = LogisticRegression(C=1 / (chosen["penalty"] * N), tol=1e-6, max_iter=1000).fit(train_x, data.train_y)
    ours = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    np.testing.assert_allclose(ours, oracle.predict_proba(test_x), atol=0.02)


def test_the_largest_penalty_wins_among_equal_scores(monkeypatch):
    x, y = planted()
    monkeypatch.setattr(probe, "score", lambda logits, target: 0.5)
    assert linear_probe(data_of(x, y))[1] == {"penalty": max(probe.PENALTIES), "selection_score": 0.5}


def test_the_first_setting_and_the_shortest_training_win_among_equal_scores(monkeypatch):
    x, y, length = cue()
    monkeypatch.setattr(attention, "score", lambda logits, target: 0.5)
    _, selected = attention_probe(data_of(x, y, classes=3, length=length), steps=12)
    assert (selected["learning_rate"], selected["weight_decay"]) == attention.SETTINGS[0]
    assert selected["steps"] == 2  # one round of six


def test_several_labels_per_clip():
    x, y = planted()
    many = np.eye(C, dtype=np.float32)[y]
    many[:, 0] = np.maximum(many[:, 0], y == 3)  # label 0 comes with 3 as well
    logits, _ = linear_probe(data_of(x, many))
    assert average_precision_score(many[N:], logits, average="macro") > 0.98


def test_held_out_rows_select_but_test_rows_never_do():
    x, y = planted(noise=0.9)
    data = data_of(x, y)
    first = linear_probe(data)[1]
    other = data_of(np.concatenate([x[:N], x[N:][::-1]]), y)
    assert linear_probe(other)[1] == first


def test_constant_features_do_no_harm():
    x, y = planted()
    x[:, 3] = 5.0
    fitted, _ = probe.fit_linear(data_of(x, y), epochs=10, **AMPLE)
    assert np.isfinite(fitted.logits(x)).all()


@pytest.mark.parametrize(("size", "expected"), [(1, 512), (513, 1024), (1025, 2048), (8193, 16384), (16385, 24576)])
def test_sizes_are_padded_so_that_programs_are_shared(size, expected):
    assert padded(size, ROWS_MULTIPLE) == expected


def cue(seed=0, frames=24, width=8):
    """One frame of each clip holds the class in sign-balanced noise, so that the mean hardly shows it."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2 * N, frames, width)).astype(np.float32) * 0.5
    y = rng.integers(3, size=2 * N).astype(np.int32)
    length = rng.integers(frames // 2, frames + 1, size=2 * N).astype(np.int32)
    for i, k in enumerate(y):
        at, other = rng.choice(length[i], 2, replace=False)
        x[i, at, 7] += 6  # marks the frame that counts
        x[i, at, k] += 3
        x[i, other, k] -= 3  # the mean over frames of the cue is zero
        x[i, length[i] :] = 50.0  # padding that must not matter
    return x, y, length


def test_attention_finds_a_single_frame_that_mean_pooling_misses():
    x, y, length = cue()
    data = data_of(x, y, classes=3, length=length)
    answers, chosen = attention_probe(data, steps=240)
    found = (answers == y[N:]).mean(1)
    mean = np.stack([clip[:n].mean(0) for clip, n in zip(x, length, strict=True)])
    missed = (linear_probe(data_of(mean, y, classes=3))[0] == y[N:]).mean()
    assert found.min() > 0.9, chosen  # of every seed
    assert len({x.tobytes() for x in answers}) > 1
    assert len(answers) == len(chosen["seeds"]) == 3
    assert missed < 0.45
    again, _ = attention_probe(data, steps=240)
    np.testing.assert_array_equal(again, answers)


def test_attention_sees_no_padding():
    x, _, length = cue()
    params = attention.init(np.random.default_rng(0), x.shape[2], 4)
    first = attention.logits(params, x[:9], length[:9])
    for i, n in enumerate(length[:9]):
        x[i, n:] = -7.0
    np.testing.assert_array_equal(attention.logits(params, x[:9], length[:9]), first)
    assert np.abs(first - attention.logits(params, x[:9], length[:9] - 1)).max() > 0
