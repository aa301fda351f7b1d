"""Mixtures hold what they say, and a frame probe finds events that an encoder shows."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.core.clip import SAMPLE_RATE, Event
from alp_jax.core.errors import DataError
from alp_jax.data.store.records import Crop
from alp_jax.evaluation.budget import MemoryBudget
from alp_jax.evaluation.features import extract
from alp_jax.evaluation.model import EvalModel
from alp_jax.evaluation.sed import detection, frame_probe
from alp_jax.evaluation.sed.mixtures import BACKGROUND_RMS, GAP_S, SECONDS, Mixtures
from alp_jax.evaluation.sed.task import LABEL, sed_task
from alp_jax.evaluation.table import read_table
from tests.evaluation.conftest import FakeDataset, make_records

PITCH = {"high": 0.5, "low": 0.05}  # radians per sample
HOP = SAMPLE_RATE // 25


def tone(name, seconds):
    return (8000 * np.sin(PITCH[name] * np.arange(round(seconds * SAMPLE_RATE)))).astype(np.int16)


@pytest.fixture(scope="module")
def records():
    """Eight tones with silence around them and two noises of eleven seconds in each split."""
    rng, found, base = np.random.default_rng(3), [], make_records(1)[0]
    for split in ("train", "test"):
        for k in range(8):
            name = ("high", "low")[k % 2]
            quiet = np.zeros(SAMPLE_RATE // 2, np.int16)
            sound = np.concatenate([quiet, tone(name, 0.5 + 0.1 * k), quiet])
            found.append((split, f"{split} tone {k}", {LABEL: name}, sound))
        for k in range(2):
            found.append((split, f"{split} noise {k}", {}, rng.integers(-900, 900, 11 * SAMPLE_RATE).astype(np.int16)))
    return [
        dataclasses.replace(
            base, id=group, split=split, group=group, labels=labels, audio=sound, num_samples=len(sound), events=()
        )
        for split, group, labels, sound in found
    ]


@pytest.fixture(scope="module")
def spectral_encoder():
    """Frames of 40 ms: log energy below and above 1 kHz, on very different scales."""

    @jax.jit
    def frames(audio_BS, audio_len_B):
        power_BTF = jnp.abs(jnp.fft.rfft(audio_BS.reshape(audio_BS.shape[0], -1, HOP) / 32768.0)) ** 2
        bands = jnp.stack([power_BTF[..., 2:40].sum(-1), power_BTF[..., 40:200].sum(-1)], -1)
        return jnp.log(bands + 1e-6) * jnp.array([300.0, 0.01]) + 7, audio_len_B // HOP

    return EvalModel("spectral", frames)


def mixtures(records, count=6, seed=0):
    label_of = {row: r.labels[LABEL] for row, r in enumerate(records) if r.split == "test" and LABEL in r.labels}
    noises = [row for row, r in enumerate(records) if r.split == "test" and not r.labels]
    return Mixtures(FakeDataset(records), label_of, noises, "test", count, seed)


def test_events_lie_where_mixtures_say(records):
    mixed = mixtures(records)
    length = round(SECONDS * SAMPLE_RATE)
    for number, record in enumerate(mixed.read_many(np.arange(6), [Crop(0.0, length)] * 6)):
        assert record.audio.dtype == np.int16
        assert len(record.audio) == length
        power_T = (record.audio.reshape(-1, 160) / 32768.0) ** 2
        loud_T = power_T.mean(1) > 2 * BACKGROUND_RMS**2
        told_T = np.zeros(len(loud_T), bool)
        for event in record.events:
            told_T[round(event.onset_s * 100) : round(event.offset_s * 100)] = True
            assert 0 <= event.onset_s < event.offset_s <= SECONDS
        assert (loud_T == told_T).mean() > 0.97, number
    assert {e.label for plan in mixed.plans for e in plan.events} == {"high", "low"}


def test_events_of_one_class_do_not_touch(records):
    pairs = 0
    for plan in mixtures(records, count=60).plans:
        for label in PITCH:
            same = [event for event in plan.events if event.label == label]
            for first, second in itertools.pairwise(same):
                assert second.onset_s >= first.offset_s + GAP_S
                pairs += 1
    assert pairs > 10


def test_mixtures_depend_on_data_and_seed_alone(records):
    first, again, other = mixtures(records), mixtures(records), mixtures(records, seed=1)
    assert first.plans == again.plans
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != other.fingerprint
    assert mixtures(records, count=9).plans[:6] == first.plans
    with pytest.raises(ValueError, match="backgrounds"):
        Mixtures(FakeDataset(records), {0: "high"}, [], "test", 2, 0)


def test_no_clip_of_training_is_in_a_test_mixture(records, config):
    config = dataclasses.replace(config, max_train_clips=30, max_test_clips=30)
    task = sed_task(data := FakeDataset(records), read_table(data), config)
    assert task.kind == "mixtures"
    assert task.classes == ("high", "low")
    assert {records[row].split for row in task.test_row} == {"test"}
    assert {records[row].split for row in task.train_row} == {"train"}


def test_the_probe_finds_planted_events(records, spectral_encoder, config, tmp_path):
    config = dataclasses.replace(config, max_train_clips=24, max_test_clips=24, batch_seconds=240.0)
    data = FakeDataset(records)
    task = sed_task(data, read_table(data), config)

    def detect(model, name):
        features = extract(model, data, [], tmp_path / name / "frames", config, bucket_seconds=(10.0,))
        return detection.detect(task, features, config)

    found = detect(spectral_encoder, "spectral")
    assert found.values["psds1"]["value"] > 0.9
    low, high = found.values["psds1"]["interval"]
    assert low <= found.values["psds1"]["value"] <= high
    assert found.values["frame_map"]["value"] > 0.9 > 0.3 > found.values["frame_map"]["chance"]
    assert found.selected["selection_score"] > 0.9
    deaf = EvalModel("deaf", lambda audio, length: (jnp.ones((len(audio), audio.shape[1] // HOP, 2)), length // HOP))
    assert detect(deaf, "deaf").values["psds_mean"]["value"] < 0.05


def test_classes_that_are_scored_in_turn_have_the_scores_of_one_pass(
    records, spectral_encoder, config, tmp_path, monkeypatch
):
    data, config = FakeDataset(records), dataclasses.replace(config, max_train_clips=12, max_test_clips=24)
    task = sed_task(data, read_table(data), config)
    features = extract(spectral_encoder, data, [], tmp_path / "frames", config, bucket_seconds=(10.0,))
    passes, read = [], detection.frame_scores
    probe = (
        np.array([[0.0, 1 / 300], [100.0, 0.0]]),
        np.array([-700.0, -7 / 300]),
        {},
    )  # the energy of each class's band
    monkeypatch.setattr(detection, "fit_frame_probe", lambda *given, **options: probe)
    monkeypatch.setattr(detection, "frame_scores", lambda *given: passes.append(len(given[3])) or read(*given))
    together = detection.detect(task, features, config).values
    small = MemoryBudget(frame_probe.host_bytes(24, 250, 2)[0], 1 << 30)
    monkeypatch.setattr(detection.MemoryBudget, "of", lambda config: small)
    monkeypatch.setattr(detection, "SMOOTHED", 1)
    apart = detection.detect(task, features, config).values
    assert passes == [2, 1, 1]  # test clips were read once, and then once for each class
    for name, value in together.items():
        assert apart[name]["value"] == pytest.approx(value["value"], abs=1e-6)
    assert together["psds_mean"]["value"] > 0.1


def test_classes_are_scored_together_as_far_as_memory_allows():
    shared, each = frame_probe.host_bytes(1000, 250, 64)
    for classes, room, sizes in ((407, 407, [407]), (407, 90, [81, 81, 82, 81, 82]), (3, 0, [1, 1, 1])):
        blocks = frame_probe.class_blocks(classes, 1000, 250, 64, MemoryBudget(shared + room * each, 0))
        assert [block.stop - block.start for block in blocks] == sizes
        assert (blocks[0].start, blocks[-1].stop) == (0, classes)


def test_events_of_the_data_set_come_before_mixtures(records, config):
    held = [
        dataclasses.replace(r, events=(Event(0.5, 1.0, r.labels.get(LABEL, "low")),), group=f"{r.group} {k}")
        for r in records
        for k in range(3)
    ]
    data = FakeDataset(held)
    task = sed_task(data, read_table(data), config)
    assert task.kind == "events of the data set"
    assert task.seconds == 11.0 > config.max_seconds  # whole clips: an event that is cut away could not be found
    assert sed_task(data, read_table(FakeDataset(make_records(60))), config) is None


def test_events_of_one_class_are_made_one_and_cut_to_the_audio(records, config):
    def task(*times):
        events = tuple(Event(*pair, label) for pair in times for label in ("low", "high"))
        marked = [dataclasses.replace(r, events=events, group=f"{r.group} {k}") for r in records for k in range(3)]
        data = FakeDataset(marked)
        return sed_task(data, read_table(data), config)

    seconds = records[0].num_samples / SAMPLE_RATE
    found = task((0.1, 0.3), (0.2, 0.4), (0.5, 99.0), (100.0, 101.0)).test.events[0]
    expected = [(0.1, 0.4), (0.5, seconds)]
    assert [(e.onset_s, e.offset_s) for e in found if e.label == "low"] == expected
    assert len(found) == 4
    with pytest.raises(DataError, match=r"clip .*: class high: an event from 0.4 s to 0.3 s"):
        task((0.4, 0.3))
