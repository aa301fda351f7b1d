"""Data sets in object stores, and orders that visit whole shards, give the batches that local ones give."""

import dataclasses
import os
import time

import fsspec
import numpy as np
import pytest
import soundfile

from alp_jax.config.schema import DataConfig
from alp_jax.core.clip import Clip
from alp_jax.core.errors import DataError, UserError
from alp_jax.data import pipeline
from alp_jax.data.building.build import build
from alp_jax.data.order import batch_plan
from alp_jax.data.store import shard_cache
from alp_jax.data.store.dataset import open_dataset
from alp_jax.data.text import training
from alp_jax.data.text.open import open_tokenizer, tokenizer_path

RATE = 16_000
CONFIG = DataConfig(bucket_seconds=(0.2, 0.4), batch_seconds=1.6, clips_multiple=4, text_budget=6)
SEQUENTIAL = dataclasses.replace(CONFIG, read="sequential", window_shards=2)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    root = tmp_path_factory.mktemp("remote")
    rng, clips = np.random.default_rng(0), []
    for i in range(80):
        path = root / f"{i}.wav"
        soundfile.write(path, rng.uniform(-0.5, 0.5, round((0.15, 0.35, 0.2)[i % 3] * RATE)), RATE)
        captions = (f"sound {i}", f"noise {i}")
        clips.append(Clip(f"s{i % 2}:{i}", f"s{i % 2}", f"r:{i}", str(path), captions=captions))
    build(clips, root / "set", source_name="noise", shards=8, workers=1)
    dataset = open_dataset(root / "set")
    training.train(training.training_captions(dataset), root / "set" / "tokenizer.model", 285)
    return dataset


@pytest.fixture(scope="module")
def remote(local):
    system = fsspec.filesystem("memory")
    system.put(f"{local.path}/", "/bucket/set", recursive=True)
    yield open_dataset("memory://bucket/set")
    system.rm("/bucket", recursive=True)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ALP_CACHE", str(tmp_path))
    return tmp_path


def batches(dataset, n, config=CONFIG, start=0, hosts=1):
    vocabulary = open_tokenizer(tokenizer_path(dataset.path, config))
    made = [pipeline.GlobalBatches(dataset, config, vocabulary, 3, host, hosts) for host in range(hosts)]
    parts = [[source[step] for source in made] for step in range(start, start + n)]
    return [{key: np.concatenate([p[key] for p in part]) for key in part[0]} for part in parts]


def assert_equal(got, want):
    for a, b in zip(got, want, strict=True):
        for key in b:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_a_remote_data_set_gives_the_same_batches(local, remote, cache):
    assert remote.fingerprint == local.fingerprint
    assert batch_plan.plan(remote, CONFIG, seed=3) == batch_plan.plan(local, CONFIG, seed=3)
    assert_equal(batches(remote, 4), batches(local, 4))
    assert_equal(batches(open_dataset(f"file://{local.path}"), 4), batches(local, 4))
    assert remote.verify() == local.verify()
    assert [file.name for file in (cache / "indexes").iterdir()] == [f"{local.info['index']['sha256']}.arrow"]


def test_shards_one_after_another_give_every_clip_once_and_one_order_on_all_hosts(local, remote):
    reference = batches(local, 30, SEQUENTIAL)
    assert_equal(batches(local, 12, SEQUENTIAL, start=5, hosts=4), reference[5:17])
    assert_equal(batches(remote, 6, SEQUENTIAL, start=3, hosts=2), reference[3:9])
    plan = batch_plan.plan(local, SEQUENTIAL, seed=3)
    assert plan.fingerprint != batch_plan.plan(local, CONFIG, seed=3).fingerprint
    one_pass = np.concatenate([batch["row"] for batch in reference])[: len(local)]
    assert len(set(one_pass.tolist())) > 70  # a pass, but for the batches at its border
    shards = [set(local.column("shard")[batch["row"]].tolist()) for batch in reference]
    assert max(map(len, shards)) <= 4
    assert len(set().union(*shards)) == 8
    mixed = dataclasses.replace(SEQUENTIAL, mixture="s0=3,s1=1")
    assert_equal(batches(local, 3, mixed, start=300, hosts=2), batches(local, 3, mixed, start=300))


def test_copies_of_shards_make_room_for_each_other(local, remote, cache, monkeypatch):
    entries = local.info["shards"]
    limit = 3 * max(entry["bytes"] for entry in entries)
    copies = shard_cache.ShardCache(remote.path, entries, limit)
    monkeypatch.setattr(shard_cache, "_IN_USE_S", 0.0)
    for number, entry in enumerate(entries):
        path = copies.path(number)
        assert path.read_bytes() == (local.path / entry["name"]).read_bytes()
        os.utime(path, (number, number))  # seconds since 1970: the lower the longer ago
    kept = sorted(path.name for path in (cache / "shards").glob("[!.]*"))
    assert kept == sorted(f"{e['sha256'][:16]}-{e['name']}" for e in entries[-3:])
    assert copies.path(7).stat().st_mtime > 1e9  # used just now
    for numbers in ((0, 1), (0, 1)):
        copies.ahead(numbers)
    deadline = time.monotonic() + 10
    while len(list((cache / "shards").glob(f"{entries[1]['sha256'][:16]}*"))) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    damaged = shard_cache.ShardCache(remote.path, [entries[2] | {"bytes": 7}], limit)
    with pytest.raises(DataError, match="does not have the 7 bytes"):
        damaged.path(0)
    missing = shard_cache.ShardCache("memory://bucket/nowhere", entries, limit)
    missing.ahead((3,))  # says nothing: who reads it will
    with pytest.raises(DataError, match=entries[3]["name"]):
        missing.path(3)


def test_what_is_wrong_with_a_remote_data_set_is_said(remote):
    system = fsspec.filesystem("memory")
    with pytest.raises(UserError, match="memory://bucket/nothing does not exist"):
        open_dataset("memory://bucket/nothing")
    with pytest.raises(UserError, match="nosuch://x/y"):
        open_dataset("nosuch://x/y")
    system.copy("/bucket/set", "/bucket/cut", recursive=True)
    name = remote.info["shards"][2]["name"]
    system.pipe_file(f"/bucket/cut/{name}", system.cat_file(f"/bucket/cut/{name}")[:-1])
    with pytest.raises(DataError, match=f"memory://bucket/cut/{name} has"):
        open_dataset("memory://bucket/cut")
    damaged = bytearray(system.cat_file(f"/bucket/set/{name}"))
    damaged[len(damaged) // 2] ^= 1
    system.pipe_file(f"/bucket/cut/{name}", bytes(damaged))
    with pytest.raises(DataError, match=f"memory://bucket/cut/{name}"):
        open_dataset("memory://bucket/cut").verify()
    small = dataclasses.replace(SEQUENTIAL, shard_cache_gb=1e-6)
    with pytest.raises(UserError, match=r"data\.shard_cache_gb"):
        batches(remote, 1, small)
    for change, knob in (({"window_shards": 0}, "window_shards"), ({"read": "seqential"}, "did you mean 'sequential'")):
        with pytest.raises(UserError, match=knob):
            batches(remote, 1, dataclasses.replace(SEQUENTIAL, **change))
