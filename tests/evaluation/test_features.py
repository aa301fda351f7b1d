"""Frames are computed once, exactly, and survive an interruption."""

import dataclasses

import numpy as np
import pytest

from alp_jax.evaluation import features
from alp_jax.evaluation.features import extract

BUCKETS = (0.1, 0.2)


def expected(record, hop=400, width=6):
    blocks = np.zeros(-(-record.num_samples // hop) * hop, np.float32)
    blocks[: record.num_samples] = record.audio
    blocks = blocks.reshape(-1, hop)
    kind = blocks[:, :1] / 1000
    return np.concatenate([kind, (kind - 2) ** 2, blocks[:, 2:width] / 50], axis=1)


def test_frames_and_pooled_vectors_of_every_row(dataset, encoder, config, tmp_path):
    rows = np.array([30, 2, 77, 2, 5])
    found = extract(encoder, dataset, rows, tmp_path, config, bucket_seconds=BUCKETS)
    assert found.row.tolist() == [2, 5, 30, 77]
    frames_NTD, len_N = found.frames(rows, 0)
    for i, row in enumerate(rows):
        truth = expected(dataset.records[row])
        assert len_N[i] == len(truth)
        np.testing.assert_allclose(frames_NTD[i, : len(truth)], truth, atol=2e-3)
        assert not frames_NTD[i, len(truth) :].any()
        (moments,) = found.moments(np.array([row]))
        np.testing.assert_allclose(found.mean(np.array([row]))[0], truth.mean(0), atol=1e-5)
        np.testing.assert_allclose(moments, [*truth.mean(0), *truth.std(0)], atol=1e-5)
        assert found.length(np.array([row])) == [len(truth)]
    for read in (found.mean, found.moments, found.joint, found.length, lambda rows: found.frames(rows, 0)):
        with pytest.raises(KeyError):
            read(np.array([3]))


def test_long_clips_are_reduced_by_averaging(dataset, encoder, config, tmp_path):
    rows = np.arange(40)
    found = extract(encoder, dataset, rows, tmp_path, config, bucket_seconds=BUCKETS)
    whole, length = found.frames(rows, 0)
    short, short_length = found.frames(rows, 3)
    assert short.shape[1] == 3
    assert length.max() > 3
    for i in range(40):
        n = length[i]
        assert short_length[i] == min(n, 3)
        pieces = np.array_split(whole[i, :n], 3) if n % 3 == 0 else None
        if n > 3 and pieces:
            np.testing.assert_allclose(short[i], [piece.mean(0) for piece in pieces], rtol=1e-5)
        assert short[i].min() >= whole[i, :n].min() - 1e-5


def test_an_interrupted_extraction_goes_on_and_a_finished_one_is_reused(
    dataset, encoder, config, tmp_path, monkeypatch
):
    monkeypatch.setattr(features, "PART_CLIPS", 50)
    rows, calls = np.arange(120), []

    def failing(audio_BS, audio_len_B):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("stop")
        return encoder.frames(audio_BS, audio_len_B)

    broken = dataclasses.replace(encoder, frames=failing)
    with pytest.raises(RuntimeError):
        extract(broken, dataset, rows, tmp_path, config, bucket_seconds=BUCKETS)
    finished = len(list(tmp_path.glob("index-*")))
    assert 0 < finished < 3
    before = dataset.reads
    found = extract(encoder, dataset, rows, tmp_path, config, bucket_seconds=BUCKETS)
    assert dataset.reads - before == 120 - 50 * finished
    again = extract(encoder, dataset, rows, tmp_path, config, bucket_seconds=BUCKETS)
    assert dataset.reads - before == 120 - 50 * finished
    np.testing.assert_array_equal(again.mean(rows), found.mean(rows))
    fresh = extract(encoder, dataset, rows, tmp_path / "fresh", config, bucket_seconds=BUCKETS)
    np.testing.assert_array_equal(fresh.frames(rows, 0)[0], found.frames(rows, 0)[0])


def test_features_of_another_model_are_not_taken(dataset, encoder, config, tmp_path):
    rows = np.arange(10)
    extract(encoder, dataset, rows, tmp_path, config, bucket_seconds=BUCKETS)
    doubled = dataclasses.replace(
        encoder, identity="doubled", frames=lambda *batch: (2 * encoder.frames(*batch)[0], encoder.frames(*batch)[1])
    )
    found = extract(doubled, dataset, rows, tmp_path, config, bucket_seconds=BUCKETS)
    np.testing.assert_allclose(found.mean(rows[:1])[0], 2 * expected(dataset.records[0]).mean(0), rtol=1e-4, atol=1e-6)
