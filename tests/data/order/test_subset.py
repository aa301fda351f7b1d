"""Rungs: nested within any choice of sources, sorted by bucket, the same from the index and from the cache."""

import dataclasses

import numpy as np
import pytest

from alp_jax.config.schema import DataConfig
from alp_jax.core.errors import UserError
from alp_jax.data.order import subset as rungs
from alp_jax.data.store.ladder import rung as prefix

RATE = 16_000
SOURCES = ("big", "small", "tests")


class Index:
    """The columns of an index, without shards."""

    path, fingerprint, sources = "index", "f00d", SOURCES

    def __init__(self, clips, seed=0):
        rng = np.random.default_rng(seed)
        self.source = rng.choice(3, clips, p=(0.7, 0.2, 0.1)).astype(np.int32)
        self.num_captions = rng.integers(1, 4, clips).astype(np.uint16)
        self.num_samples = (np.clip(np.exp(rng.normal(2, 0.6, clips)), 1, 60) * RATE).astype(np.int32)
        inside = (self.source < 2) & (rng.random(clips) < 0.9)
        self.ladder = np.full(clips, -1, np.int32)
        self.ladder[inside] = rng.permutation(inside.sum())  # a merged set is not stored in ladder order

    def __len__(self):
        return len(self.source)

    def release(self):
        pass


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch, tmp_path):
    monkeypatch.setattr(rungs, "CHUNK", 500)
    monkeypatch.setattr(rungs, "_RANK_BINS", 64)
    monkeypatch.setenv("ALP_CACHE", str(tmp_path))


def everything(rung):
    return np.concatenate([*rung.rows.values()])


@pytest.mark.parametrize("pairs", [1, 2, 700, 2999, 0])
@pytest.mark.parametrize("sources", ["", "small", "-small,-tests"])
def test_a_rung_is_a_prefix_of_the_ladder_within_the_sources(pairs, sources):
    index = Index(2600)
    config = DataConfig(pairs=pairs if sources != "small" else pairs // 4, sources=sources)
    rung = rungs.open_rung(index, config)
    inside = {"": [0, 1, 2], "small": [1], "-small,-tests": [0]}[sources]
    ladder = np.where(np.isin(index.source, inside), index.ladder, -1)
    rank = np.full(len(index), -1)
    rank[np.argsort(np.where(ladder < 0, len(index), ladder))[: (ladder >= 0).sum()]] = np.arange((ladder >= 0).sum())
    want = prefix(rank, index.num_captions, config.pairs)
    got = everything(rung)
    assert got.dtype == np.int32
    assert sorted(got) == sorted(want)
    assert len(rung) == len(want) == np.array(rung.summary.source_clips).sum()
    assert np.array(rung.summary.source_pairs).sum() == index.num_captions[want].sum()


def test_rows_are_sorted_by_bucket_and_keep_their_stored_order():
    index = Index(2600)
    rung = rungs.open_rung(index, DataConfig())
    assert rung.summary.components == [""]
    for bucket, edge in enumerate(rung.summary.edges):
        rows = rung.rows[bucket, 0]
        assert (np.diff(rows) > 0).all()
        below = rung.summary.longest[bucket - 1] if bucket else 0
        samples = index.num_samples[rows]
        assert (samples > below).all()
        assert bucket == len(rung.summary.edges) - 1 or (samples <= rung.summary.longest[bucket]).all()
        kept = np.minimum(samples, edge)
        assert rung.summary.source_kept[bucket][0] == kept[index.source[rows] == 0].sum()
        assert rung.summary.source_samples[bucket][1] == samples[index.source[rows] == 1].sum()
    mixed = rungs.open_rung(index, DataConfig(mixture="big=1,small=1"))
    assert mixed.summary.components == ["big", "small"]
    for component in range(2):
        assert {*index.source[mixed.rows[3, component]]} == {component}
    np.testing.assert_array_equal(np.sort(everything(mixed)), np.sort(everything(rung)))


def test_shares_of_sources_hold_on_every_rung():
    index = Index(200_000)
    shares = []
    for pairs in (20_000, 80_000, 0):
        summary = rungs.open_rung(index, DataConfig(pairs=pairs)).summary
        clips = np.array(summary.source_clips).sum(0)
        shares.append(clips / clips.sum())
    assert np.abs(np.array(shares) - shares[-1]).max() < 0.005


def test_a_big_rung_is_kept_and_mapped(monkeypatch, tmp_path):
    index, config = Index(2600), DataConfig(pairs=3000, bucket_seconds=(), mixture="big=1,small=2")
    derived = rungs.open_rung(index, config)
    monkeypatch.setattr(rungs, "BIG", 100)
    written = rungs.open_rung(index, config)
    (file,) = (tmp_path / "rungs").iterdir()
    monkeypatch.setattr(rungs, "_make", None)
    mapped = rungs.open_rung(index, config)
    for rung in (written, mapped):
        assert rung.summary == derived.summary
        np.testing.assert_array_equal(everything(rung), everything(derived))
        rung.table.release()
        np.testing.assert_array_equal(everything(rung), everything(derived))
    with pytest.raises(TypeError):  # anything else is made anew
        rungs.open_rung(index, dataclasses.replace(config, pairs=2999))
    monkeypatch.undo()
    monkeypatch.setenv("ALP_CACHE", str(tmp_path))
    damaged = bytearray(file.read_bytes())
    place = damaged.find(np.asarray(everything(derived)[:4]).tobytes())
    damaged[place] ^= 1
    file.write_bytes(damaged)
    np.testing.assert_array_equal(everything(rungs.open_rung(index, config)), everything(derived))
    file.write_bytes(damaged[:1000])
    np.testing.assert_array_equal(everything(rungs.open_rung(index, config)), everything(derived))


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ALP_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(rungs, "BIG", 100)
    assert len(rungs.open_rung(Index(2600), DataConfig(pairs=3000)))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"pairs": 10**6}, r"data\.pairs = 1000000: the training split has \d+"),
        ({"pairs": -1}, r"data\.pairs"),
        ({"sources": "tests"}, r"data\.sources"),
        ({"sources": "bigg"}, "did you mean 'big'"),
        ({"bucket_seconds": (), "crop_seconds": 0.0}, r"data\.crop_seconds"),
        ({"bucket_seconds": (), "max_padding": 1.0}, r"data\.max_padding"),
    ],
)
def test_wrong_settings_name_the_knob(settings, problem):
    with pytest.raises(UserError, match=problem):
        rungs.open_rung(Index(600), DataConfig(**settings))
