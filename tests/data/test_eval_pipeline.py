"""Batches for evaluation: every clip once, the same ones whatever threads read them."""

import threading

import numpy as np
import pytest
import soundfile

from alp_jax.core.clip import Clip
from alp_jax.core.errors import DataError
from alp_jax.data import eval_pipeline
from alp_jax.data.building.build import build
from alp_jax.data.eval_pipeline import eval_batches
from alp_jax.data.store.dataset import open_dataset

RATE = 16_000
SETTINGS = {"bucket_seconds": (0.25, 0.5, 2.0), "batch_seconds": 2.0, "max_seconds": 1.0}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root, rng, clips = tmp_path_factory.mktemp("eval"), np.random.default_rng(0), []
    for i in range(33):
        path, seconds = root / f"{i}.wav", (0.2, 0.45, 0.3, 0.2, 1.4)[i % 5]
        soundfile.write(path, rng.uniform(-0.5, 0.5, round(seconds * RATE)), RATE)
        clips.append(Clip(f"s:{i}", "s", f"r:{i}", str(path)))
    build(clips, root / "set", source_name="noise", shards=3, workers=1)
    return open_dataset(root / "set")


@pytest.fixture(params=[1, 3])
def threads(request, monkeypatch):
    monkeypatch.setattr(eval_pipeline, "usable_cores", lambda: list(range(request.param)))
    return request.param


def test_every_row_comes_once_in_fixed_shapes_and_one_order(dataset, threads, monkeypatch):
    rows = np.arange(len(dataset))[::-1]
    parts, fill = [], eval_pipeline._fill
    monkeypatch.setattr(eval_pipeline, "_fill", lambda *args: (parts.append(threading.get_ident()), fill(*args)))
    seen, shapes = [], {}
    for batch in eval_batches(dataset, rows, **SETTINGS):
        width = batch["audio"].shape[1]
        shapes[width] = len(batch["audio"])
        for i in np.flatnonzero(batch["mask"]):
            sound = dataset.read(int(batch["row"][i])).audio[:RATE]
            assert batch["audio_len"][i] == len(sound)
            np.testing.assert_array_equal(batch["audio"][i], np.pad(sound, (0, width - len(sound))))
        assert (batch["row"][~batch["mask"]] == -1).all()
        assert not batch["audio"][~batch["mask"]].any()
        seen += batch["row"][batch["mask"]].tolist()
    length = np.minimum(dataset.num_samples[rows], RATE)
    order = np.argsort(np.searchsorted([4000, 8000], length), kind="stable")
    assert seen == rows[order].tolist()
    assert shapes == {4000: 8, 8000: 4, 16000: 2}
    assert len(set(parts)) <= threads < len(parts)


def test_a_damaged_record_is_told_where_its_batch_is_due(dataset, threads, monkeypatch):
    wanted = list(eval_batches(dataset, np.arange(33), **SETTINGS))
    bad = int(wanted[3]["row"][0])
    read = dataset.read_many

    def read_many(rows, **settings):
        if bad in rows:
            raise DataError(f"record {bad}")
        return read(rows, **settings)

    monkeypatch.setattr(dataset, "read_many", read_many)
    batches = eval_batches(dataset, np.arange(33), **SETTINGS)
    for batch in wanted[:3]:
        np.testing.assert_array_equal(next(batches)["audio"], batch["audio"])
    with pytest.raises(DataError, match=f"record {bad}"):
        next(batches)
    assert not any(thread.name.startswith("eval batches") for thread in threading.enumerate())


def test_few_batches_are_read_ahead_and_leaving_early_ends_the_threads(dataset, threads, monkeypatch):
    filled = []
    monkeypatch.setattr(eval_pipeline, "_fill", lambda batch, *args: filled.append(id(batch)))
    batches = eval_batches(dataset, np.arange(33), **SETTINGS)
    next(batches)
    batches.close()
    assert not any(thread.name.startswith("eval batches") for thread in threading.enumerate())
    assert len(set(filled)) <= 1 + eval_pipeline._AHEAD
