"""Lengths of captions in tokens: measured once, in pieces that a stopped measurement keeps, and checked when opened."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
import soundfile

from alp_jax.config.schema import DataConfig
from alp_jax.core import storage
from alp_jax.core.clip import Clip
from alp_jax.core.errors import DataError, StorageError
from alp_jax.data.building.build import build
from alp_jax.data.store import records
from alp_jax.data.store.dataset import open_dataset
from alp_jax.data.text import token_lengths as measuring
from alp_jax.data.text import training
from alp_jax.data.text.open import open_tokenizer
from alp_jax.data.text.token_lengths import token_lengths

RATE = 16_000
CONFIG = DataConfig()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("tokens")
    rng, clips = np.random.default_rng(0), []
    soundfile.write(root / "noise.wav", rng.uniform(-0.5, 0.5, RATE // 10), RATE)
    for i in range(40):
        captions = tuple(" ".join(f"Word{i} and {j}." for _ in range(1 + (i * j) % 9)) for j in range(i % 4))
        clips.append(Clip(f"s:{i}", "s", f"r:{i}", str(root / "noise.wav"), captions=captions))
    build(clips, root / "set", source_name="noise", shards=3, workers=1)
    dataset = open_dataset(root / "set")
    training.train(training.training_captions(dataset), root / "set" / "tokenizer.model", 285)
    return root / "set"


@pytest.fixture
def dataset(built, tmp_path, monkeypatch):
    monkeypatch.setenv("ALP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(measuring, "PIECE", 7)
    monkeypatch.setattr(measuring, "usable_cores", lambda: [0])
    return open_dataset(shutil.copytree(built, tmp_path / "set"))


def wanted(dataset, rows, budget):
    tokenizer = open_tokenizer(dataset.path / "tokenizer.model")
    each = [[min(budget, len(tokenizer.encode(c))) for c in dataset.read(int(row)).captions] for row in rows]
    return [max(one) for one in each], [np.mean(one) for one in each]


def files(dataset):
    return sorted(path.name for path in dataset.path.glob("tokens-*"))


def test_lengths_are_those_of_the_tokenizer(dataset):
    lengths = token_lengths(dataset, CONFIG)
    rows = np.flatnonzero(dataset.num_captions)
    for chosen in (rows, rows[2:21:3], rows[:1], rows[-1:]):
        for budget in (5, 128):
            for got, want in zip(lengths.of(chosen, budget), wanted(dataset, chosen, budget), strict=True):
                np.testing.assert_allclose(got, want)
    lengths.release()
    assert files(dataset) == [lengths.name]
    cleaned = token_lengths(dataset, dataclasses.replace(CONFIG, text_clean="clap"))
    assert cleaned.name != lengths.name
    assert cleaned.of(rows, 128)[1].sum() < lengths.of(rows, 128)[1].sum()


def test_a_measurement_that_was_stopped_goes_on(dataset, monkeypatch):
    real, measured = measuring._piece, []

    def stops(dataset, config, folder, joined, name, rows):
        if len(measured) == 4:
            raise KeyboardInterrupt
        measured.append(rows[0])
        return real(dataset, config, folder, joined, name, rows)

    monkeypatch.setattr(measuring, "_piece", stops)
    with pytest.raises(KeyboardInterrupt):
        token_lengths(dataset, CONFIG)
    assert len(files(dataset)) == 4
    monkeypatch.setattr(measuring, "_piece", lambda *args: measured.append(args[-1][0]) or real(*args))
    token_lengths(dataset, CONFIG)
    assert sorted(measured) == list(range(0, 40, 7))
    assert len(files(dataset)) == 1
    monkeypatch.setattr(measuring, "_piece", None)
    token_lengths(dataset, CONFIG)  # only opened


def test_hosts_share_the_pieces(dataset, monkeypatch):
    """Another host measures and joins all of them while this one measures its first."""
    real, own = measuring._piece, []

    def piece(dataset, config, folder, joined, name, rows):
        table = real(dataset, config, folder, joined, name, rows)
        own.append(rows)
        if len(own) == 1:
            monkeypatch.setattr(measuring, "_piece", real)
            token_lengths(dataset, CONFIG)
            monkeypatch.setattr(measuring, "_piece", piece)
        return table

    monkeypatch.setattr(measuring, "_piece", piece)
    lengths = token_lengths(dataset, CONFIG)
    rows = np.flatnonzero(dataset.num_captions)
    np.testing.assert_array_equal(lengths.of(rows, 128)[0], wanted(dataset, rows, 128)[0])
    assert files(dataset) == [lengths.name]


def test_processes_measure_the_same(dataset, monkeypatch):
    alone = token_lengths(dataset, CONFIG)
    content = (dataset.path / alone.name).read_bytes()
    (dataset.path / alone.name).unlink()
    monkeypatch.setattr(measuring, "PIECE", 20)
    monkeypatch.setattr(measuring, "usable_cores", lambda: [0, 1])
    assert (dataset.path / token_lengths(dataset, CONFIG).name).read_bytes() == content


def test_what_is_damaged_is_refused(dataset):
    path = dataset.path / token_lengths(dataset, CONFIG).name
    whole = path.read_bytes()
    values = token_lengths(dataset, CONFIG)._values[:6].tobytes()
    place = whole.rfind(values)
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(DataError, match=r"tokens-\w+\.arrow is damaged: delete it"):
        token_lengths(dataset, CONFIG)
    path.write_bytes(whole[:100])
    with pytest.raises(DataError, match="cannot be read"):
        token_lengths(dataset, CONFIG)


def test_where_nobody_may_write_the_cache_is_used(dataset, monkeypatch, tmp_path):
    write = measuring.write_table

    def refused(path, table):
        if str(path).startswith(str(dataset.path)):
            raise StorageError(f"{path} could not be written")
        write(path, table)

    monkeypatch.setattr(measuring, "write_table", refused)
    lengths = token_lengths(dataset, CONFIG)
    assert files(dataset) == []
    assert os.listdir(tmp_path / "cache" / "tokens") == [lengths.name]
    monkeypatch.setattr(measuring, "_measure", None)
    assert token_lengths(dataset, CONFIG).name == lengths.name


def test_without_a_tokenizer_or_a_wish_nothing_is_measured(dataset):
    assert token_lengths(dataset, CONFIG, measure=False) is None
    (dataset.path / "tokenizer.model").unlink()
    assert token_lengths(dataset, CONFIG) is None
    assert files(dataset) == []


def test_captions_are_read_without_the_audio(dataset, monkeypatch):
    rows = np.arange(len(dataset))
    whole = [dataset.read(int(row)).captions for row in rows]
    assert list(dataset.captions(rows)) == whole
    assert list(dataset.described(rows)) == [dataset.read(int(row), audio=False) for row in rows]
    monkeypatch.setattr(records, "_AUDIO_KEY", b"\n\x05other")  # of a writer with features in another order
    assert list(dataset.captions(rows[:5])) == whole[:5]
    monkeypatch.undo()
    shard = dataset.path / dataset.info["shards"][0]["name"]
    data = shard.read_bytes()
    shard.write_bytes(data.replace(b"s:1", b"s:9", 1).replace(b"s:3", b"s:9", 1).replace(b"s:2", b"s:9", 1))
    with pytest.raises(DataError, match="the index says s:"):
        list(dataset.captions(rows))
    shard.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        list(dataset.captions(rows))


def test_a_remote_data_set_keeps_its_lengths_with_it(dataset):
    alone = token_lengths(dataset, CONFIG).of(np.flatnonzero(dataset.num_captions), 128)
    url = f"memory://tokens-{os.getpid()}"
    for path in dataset.path.iterdir():
        storage.write(storage.join(url, path.name), path.read_bytes())
        if path.name in files(dataset):
            storage.remove(storage.join(url, path.name))
    remote = open_dataset(url)
    np.testing.assert_array_equal(token_lengths(remote, CONFIG).of(np.flatnonzero(dataset.num_captions), 128), alone)
    assert [name for name in storage.names(url) if name.startswith("tokens-")] == files(dataset)
