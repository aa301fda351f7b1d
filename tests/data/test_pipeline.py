"""Order, batches and the ladder: pure functions of (clips, seed, step) whatever the hosts and workers."""

import collections
import dataclasses
import itertools
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from alp_jax.config.schema import DataConfig
from alp_jax.core.clip import Clip
from alp_jax.core.errors import DataError, UserError
from alp_jax.data import pipeline, read_ahead
from alp_jax.data.building.build import build
from alp_jax.data.order import batch_plan
from alp_jax.data.order.subset import open_rung
from alp_jax.data.store import ladder
from alp_jax.data.store.dataset import open_dataset
from alp_jax.data.text import training
from alp_jax.data.text.normalise import caption_ids, normalise
from alp_jax.data.text.open import open_tokenizer

RATE = 16_000
CONFIG = DataConfig(
    bucket_seconds=(0.25, 0.5, 1.0), batch_seconds=4.0, clips_multiple=4, text_budget=6, pairs=0, workers=0
)
WORDS = ["dog", "cat", "rain", "wind", "engine", "bell", "water", "door", "bird", "voice"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipeline")
    rng = np.random.default_rng(0)
    clips = []
    for i in range(60):
        path = root / f"{i}.wav"
        seconds = (0.2, 0.45, 0.3, 0.2, 1.4)[i % 5]
        soundfile.write(path, rng.uniform(-0.5, 0.5, round(seconds * RATE)), RATE)
        captions = tuple(f"{j} the {WORDS[i % 10]} sounds {WORDS[(i + j) % 10]}" for j in range(1 + i % 3))
        clips.append(
            Clip(
                id=f"s{i % 2}:{i}",
                source=f"s{i % 2}",
                recording=f"r:{i // 2}",
                audio_path=str(path),
                captions=captions if i != 7 else (),
                split="test" if i % 10 == 9 else "train",
            )
        )
    build(clips, root / "set", source_name="noise", shards=4, workers=1)
    dataset = open_dataset(root / "set")
    tokenizer = training.train(training.training_captions(dataset), root / "set" / "tokenizer.model", 285)
    return dataset, tokenizer


def take(made, n, start=0, hosts=1, config=CONFIG, seed=3):
    """The first ``n`` global batches from ``start``, put together from every host's rows."""
    iterators = [
        pipeline.train_batches(*[made[0], config, made[1]], seed=seed, start_step=start, host=h, hosts=hosts)
        for h in range(hosts)
    ]
    batches = []
    for _ in range(n):
        parts = [next(it) for it in iterators]
        batches.append({key: np.concatenate([part[key] for part in parts]) for key in parts[0]})
    for it in iterators:
        it.close()
    return batches


def assert_equal(got, want):
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            assert a[key].dtype == b[key].dtype
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


@pytest.fixture(scope="module")
def reference(made):
    return take(made, 24)


@pytest.mark.parametrize("hosts", [2, 4])
def test_any_number_of_hosts_makes_the_same_global_batches(made, reference, hosts):
    assert_equal(take(made, 6, hosts=hosts), reference[:6])


@pytest.fixture
def small_parts(monkeypatch):
    """Batches are read in many parts, as they are where clips are long."""
    monkeypatch.setattr(read_ahead, "_PART_BYTES", 20_000)


def test_loader_processes_share_the_rows_of_a_host(made, reference, small_parts):
    config = dataclasses.replace(CONFIG, workers=2)
    batches = pipeline.train_batches(made[0], config, made[1], seed=3, start_step=1, host=1, hosts=2)
    assert batches.ahead.parts == 4
    got = [next(batches) for _ in range(8)]  # more than are filled at a time: what was handed out stays as it is
    batches.close()
    halves = [{key: value[len(value) // 2 :] for key, value in batch.items()} for batch in reference[1:9]]
    assert_equal(got, halves)
    got[0]["audio"] += 1  # they are the receiver's


@pytest.mark.parametrize("start", [1, 7, 17])
def test_starting_at_a_step_is_resuming_there(made, reference, start):
    assert_equal(take(made, 4, start=start, hosts=2), reference[start : start + 4])


def test_threads_share_batches_and_bytes_ahead_are_bounded(made, reference, small_parts, monkeypatch):
    monkeypatch.setattr(read_ahead, "usable_cores", lambda: [0, 1, 2])
    filled, real = [], pipeline.GlobalBatches.fill

    def fill(self, batch, step, first):
        real(self, batch, step, first)
        filled.append((step, threading.get_ident(), sum(array.nbytes for array in batch.values())))

    monkeypatch.setattr(pipeline.GlobalBatches, "fill", fill)
    batches = pipeline.train_batches(made[0], dataclasses.replace(CONFIG, prefetch_mb=1), made[1], seed=3)
    assert (batches.ahead.threads, batches.ahead.parts, batches.ahead.batches) == (3, 7, 4)
    for taken in range(6):
        assert_equal([next(batches)], [reference[taken]])
        time.sleep(0.1)
        assert sum(size for step, _, size in filled if step > taken) <= batches.ahead.bytes < 10**6
    assert len({thread for _, thread, _ in filled}) > 1
    pieces = collections.Counter(step for step, _, _ in filled)
    assert {pieces[step] for step in range(6)} == {4, 7}  # a batch of four rows has no more
    batches.close()
    with pytest.raises(StopIteration):
        next(batches)


@pytest.mark.parametrize(("clips", "workers", "batches"), [(512, 0, 4), (512, 8, 4), (4096, 0, 1), (4096, 16, 1)])
def test_batches_of_true_size_fit_the_default_memory(clips, workers, batches):
    config = DataConfig(workers=workers)
    ahead = read_ahead.read_ahead(config, clips * (2 * 160_000 + 4 * config.text_budget + 64), clips)
    assert (ahead.batches, ahead.parts) == (batches, clips // 512 * 165 - (clips == 4096) * 6)
    assert ahead.bytes <= 1e6 * config.prefetch_mb


@pytest.mark.parametrize(("workers", "megabytes"), [(0, 1), (2, 5)])
def test_too_little_memory_names_the_knob(made, workers, megabytes):
    tight = dataclasses.replace(CONFIG, batch_seconds=32.0, workers=workers, prefetch_mb=megabytes)
    with pytest.raises(UserError, match=rf"data\.prefetch_mb = {megabytes}: \d+ are needed for a batch of 1\.. MB"):
        pipeline.train_batches(made[0], tight, made[1], seed=3)


def test_a_damaged_record_is_told_after_the_batches_before_it(made, reference, tmp_path):
    shutil.copytree(made[0].path, tmp_path / "set")
    dataset = open_dataset(tmp_path / "set")
    bad = int(reference[2]["row"][0])
    assert not any(bad in batch["row"] for batch in reference[:2])
    frame = dataset.frame(bad)
    with open(frame.path, "r+b") as file:
        file.seek(frame.offset + 40)
        file.write(b"\0\0\0\0")
    batches = pipeline.train_batches(dataset, CONFIG, made[1], seed=3)
    assert_equal([next(batches), next(batches)], reference[:2])
    for _ in range(2):
        with pytest.raises(DataError, match=f"record {frame.record}: "):
            next(batches)
    batches.close()


def test_what_a_batch_holds(made, reference):
    dataset, tokenizer = made
    assert not np.array_equal(take(made, 1, seed=4)[0]["row"], reference[0]["row"])
    offsets, choices = set(), set()
    for batch in reference:
        width = batch["audio"].shape[1]
        assert batch["audio"].shape[0] == {4000: 16, 8000: 8, 16000: 4}[width]
        assert batch["mask"].all()
        for i, row in enumerate(batch["row"]):
            record = dataset.read(int(row))
            assert record.split == "train"
            length = batch["audio_len"][i]
            assert length == min(width, record.num_samples)
            assert not batch["audio"][i, length:].any()
            starts = [s for s in range(record.num_samples - length + 1) if record.audio[s] == batch["audio"][i, 0]]
            fits = [s for s in starts if np.array_equal(record.audio[s : s + length], batch["audio"][i, :length])]
            assert fits
            if record.num_samples > width:
                offsets.add(fits[0])
            ids = batch["text"][i, : batch["text_len"][i]].tolist()
            encoded = [tokenizer.encode(c)[:6] for c in record.captions]
            assert ids in encoded
            assert batch["text_cut"][i] == (len(tokenizer.encode(record.captions[encoded.index(ids)])) > 6)
            assert (batch["text"][i, len(ids) :] == tokenizer.pad_id).all()
            choices.add((len(record.captions), encoded.index(ids)))
            assert batch["recording"][i] == pipeline.stable_id(record.recording)
            assert dataset.sources[batch["source"][i]] == record.source
    assert len(offsets) > 5
    assert {(3, 0), (3, 1), (3, 2), (2, 0), (2, 1)} <= choices
    assert normalise("A  Dog,barks! ") == normalise("a dog barks")


def test_captions_are_cleaned_before_they_are_cut(made):
    tokenizer = made[1]
    loud, quiet = "A DOG , barks *", "a dog barks "
    config = dataclasses.replace(CONFIG, text_budget=len(tokenizer.encode(quiet)), text_clean="clap")
    assert caption_ids(loud, tokenizer, config) == (tokenizer.encode(quiet), False)
    kept = dataclasses.replace(config, text_clean="none")
    assert caption_ids(loud, tokenizer, kept) == (tokenizer.encode(loud)[: config.text_budget], True)


def test_every_clip_of_the_rung_once_per_epoch(made):
    dataset, _ = made
    rung = open_rung(dataset, CONFIG)
    rows = [rung.rows[bucket, 0] for bucket in range(len(rung.summary.edges))]
    assert sorted(np.concatenate(rows)) == sorted(dataset.ladder_rows())
    assert len(rung) == 53
    plan = batch_plan.plan(dataset, CONFIG, seed=3)
    assert [bucket.clips for bucket in plan.buckets] == [len(r) for r in rows]
    assert (plan.pairs, plan.clips) == (dataset.num_captions[dataset.ladder_rows()].sum(), 53)


def test_the_plan_changes_exactly_when_the_order_does(made):
    dataset, _ = made
    first = batch_plan.plan(dataset, CONFIG, seed=3)
    assert batch_plan.plan(open_dataset(dataset.path), dataclasses.replace(CONFIG, workers=5), seed=3) == first
    assert 0 < first.padding < 0.5
    assert 0 < first.cropped < 0.3
    others = {"pairs": 40, "bucket_seconds": (0.25, 0.5), "batch_seconds": 8.0, "clips_per_batch": 8, "text_budget": 5}
    others["text_clean"] = "clap"
    changed = {
        batch_plan.plan(dataset, dataclasses.replace(CONFIG, **{k: v}), seed=3).fingerprint for k, v in others.items()
    }
    changed.add(batch_plan.plan(dataset, CONFIG, seed=4).fingerprint)
    assert len(changed | {first.fingerprint}) == len(others) + 2
    fixed = batch_plan.plan(dataset, dataclasses.replace(CONFIG, clips_per_batch=8), seed=3)
    assert {b.batch for b in fixed.buckets} == {8}


@pytest.mark.parametrize(
    ("change", "knob"),
    [
        ({"pairs": 10**6}, "data.pairs"),
        ({"bucket_seconds": (2.0, 1.0)}, "data.bucket_seconds"),
        ({"bucket_seconds": tuple(range(1, 10))}, "data.bucket_seconds"),
        ({"batch_seconds": 0.0}, "data.batch_seconds"),
        ({"clips_multiple": 0}, "data.clips_multiple"),
        ({"clips_per_batch": 6}, "data.clips_per_batch"),
        ({"clips_multiple": 1, "batch_seconds": 1.0}, "devices"),
        ({"text_budget": 0}, "data.text_budget"),
        ({"text_clean": "clp"}, "data.text_clean"),
    ],
)
def test_wrong_settings_name_the_knob(made, change, knob):
    with pytest.raises(UserError, match=knob):
        batch_plan.plan(made[0], dataclasses.replace(CONFIG, **change), seed=0, devices=4)
    if knob == "devices":
        with pytest.raises(UserError, match="hosts"):
            pipeline.train_batches(made[0], dataclasses.replace(CONFIG, **change), made[1], seed=0, hosts=4)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(), st.integers(1, 4), st.booleans()), min_size=1, max_size=40, unique_by=lambda t: t[0]
    )
)
def test_rungs_are_nested_and_new_sources_change_no_order(clips):
    ids = [f"a:{n}" for n, _, _ in clips]
    captions = np.array([c for _, c, _ in clips])
    ranks = ladder.ranks(ids, np.ones(len(ids), bool))
    total = captions.sum()
    rungs = [ladder.rung(ranks, captions, pairs).tolist() for pairs in range(1, total + 1)]
    for pairs, (small, large) in enumerate(itertools.pairwise(rungs), start=1):
        assert large[: len(small)] == small
        assert captions[small].sum() >= pairs > captions[small[:-1]].sum()
    assert rungs[-1] == ladder.rung(ranks, captions, 0).tolist()
    with pytest.raises(UserError, match="pairs"):
        ladder.rung(ranks, captions, total + 1)
    backwards = ladder.ranks(ids[::-1], np.ones(len(ids), bool))[::-1]
    np.testing.assert_array_equal(backwards, ranks)
    more = ids + [f"b:{n}" for n in range(20)]
    inside = np.array([keep for _, _, keep in clips] + [True] * 20)
    again = ladder.ranks(more, inside)
    assert (again[~inside] == ladder.OUTSIDE).all()
    old = [row for row in np.argsort(ranks) if inside[row]]
    assert old == sorted(old, key=lambda row: again[row])


@pytest.mark.parametrize("end", ["killed", "of itself"])
def test_workers_end_with_their_parent_and_nothing_is_left(made, end):
    code = f"""
import sys, time
from alp_jax.config.schema import DataConfig
from alp_jax.data import pipeline
from alp_jax.data.store.dataset import open_dataset
from alp_jax.data.text.open import open_tokenizer
if __name__ == "__main__":
    dataset = open_dataset({str(made[0].path)!r})
    vocabulary = open_tokenizer({str(made[0].path / "tokenizer.model")!r})
    config = DataConfig(bucket_seconds=(0.5,), batch_seconds=4.0, workers=1)
    it = pipeline.train_batches(dataset, config, vocabulary, seed=0)
    kept = next(it)
    import multiprocessing
    print(*[p.pid for p in multiprocessing.active_children()], flush=True)
    time.sleep({60 if end == "killed" else 0})
"""
    script = made[0].path.parent / "parent.py"
    script.write_text(code)
    there = set(pathlib.Path("/dev/shm").iterdir())
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert children
    if end == "killed":
        parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while any(pathlib.Path(f"/proc/{pid}/cmdline").exists() and _alive(pid) for pid in children):
        assert time.monotonic() < deadline, "a loader worker survived its parent"
        time.sleep(0.1)
    said = parent.stderr.read().splitlines()
    # No traceback, and no alarm about memory that nobody freed.
    assert [line for line in said if not line.startswith("measure captions: ")] == []
    assert not [
        path for path in pathlib.Path("/dev/shm").iterdir() if path not in there and path.name.startswith("psm")
    ]


def _alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


def test_tokenizer_is_deterministic_and_says_what_fits(made, tmp_path):
    dataset, tokenizer = made
    captions = list(training.training_captions(dataset))
    assert len(captions) == int(dataset.num_captions[dataset.ladder_rows()].sum())
    again = training.train(captions, tmp_path / "t.model", 285)
    assert again.sha256 == tokenizer.sha256
    assert (again.pad_id, again.bos_id, again.eos_id, again.unk_id, again.mask_id) == (0, 1, 2, 3, 4)
    assert again.vocab_size == 285
    text = "The DOG sounds <mask> ünder 犬 bell"
    assert again.decode(again.encode(text)) == text.lower()
    assert not set(range(5)) & set(again.encode(text))
    assert training.train(captions, tmp_path / "all.model", 5000).vocab_size < 5000  # all that the captions carry
    with pytest.raises(UserError, match="vocab_size = 9 is too small"):
        training.train(captions, tmp_path / "u.model", 9)
    with pytest.raises(UserError, match="no captions"):
        training.train([], tmp_path / "u.model", 285)
    assert not (tmp_path / "u.model").exists()
    (tmp_path / "u.model").write_text("not a model")
    for path in (tmp_path / "u.model", tmp_path / "none.model"):
        with pytest.raises(UserError, match=path.name):
            open_tokenizer(path)
