"""A data set in memory with planted structure, and an encoder whose answers are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest

from alp_jax.config.schema import EvalConfig
from alp_jax.core.clip import SPLITS
from alp_jax.data.store.records import Record
from alp_jax.evaluation.model import EvalModel

WIDTH, HOP = 6, 400
KINDS = ("dog", "cat", "rain")


class FakeDataset:
    """As much of ``alp_jax.data.store.dataset.Dataset`` as evaluation uses; ``reads`` counts decoded clips."""

    def __init__(self, records):
        self.records, self.num_clips, self.fingerprint, self.reads = records, len(records), "fake", 0
        self.id = pa.array([record.id for record in records])
        self.num_samples = np.array([record.num_samples for record in records], np.int32)
        self.split = np.array([SPLITS.index(record.split) for record in records], np.int8)
        self.sources, self.source = ("fake",), np.zeros(len(records), np.int32)
        self.exclusions, self.excluded = ("", "leak:audio"), np.zeros(len(records), np.int8)
        self.info = {"accounting": {"sources": {"fake": {"expected": 300, "unusable": {"missing": 9}}}}}

    def read(self, row, audio=True):
        self.reads += audio
        return self.records[row]

    def described(self, rows):
        return (self.read(row, audio=False) for row in rows)

    def read_many(self, rows, audio):
        """Evaluation reads clips from their start, up to the length of the batch."""
        for row, crop in zip(rows, audio, strict=True):
            record = self.read(int(row))
            yield dataclasses.replace(record, audio=record.audio[: crop.width])


def make_records(count=240, seed=1):
    """Clips whose first sample holds the class of task ``kind``; every fourth group is a test group."""
    rng = np.random.default_rng(seed)
    records = []
    for i in range(count):
        group, kind = i // 3, int(rng.integers(len(KINDS)))
        num_samples = int(rng.integers(2 * HOP, 8 * HOP))
        audio = rng.integers(-50, 50, num_samples).astype(np.int16)
        audio[::HOP] = 1000 * (kind + 1)
        records.append(
            Record(
                id=f"fake:{i}", source="fake", recording=f"fake:{i}", audio=audio, num_samples=num_samples,
                captions=(f"a {KINDS[kind]}", f"number {i} is a {KINDS[kind]}"), tags=(KINDS[kind], f"rare {i}"),
                labels={"kind": KINDS[kind]} | ({"lonely": "only"} if i < 100 else {}), events=(),
                split="test" if group % 4 == 0 else "train", group=f"group {group}", license="",
            )
        )  # fmt: skip
    return records


@pytest.fixture
def dataset():
    return FakeDataset(make_records())


@pytest.fixture(scope="session")
def encoder():
    """Frames of HOP samples: the first dimension is 1 to 3 by class, the second 1, 0, 1; the others are noise."""

    @jax.jit
    def frames(audio_BS, audio_len_B):
        blocks = audio_BS.reshape(audio_BS.shape[0], -1, HOP).astype(jnp.float32)
        kind = blocks[:, :, :1] / 1000
        picked = jnp.concatenate([kind, (kind - 2) ** 2, blocks[:, :, 2:WIDTH] / 50], axis=-1)
        return picked, (audio_len_B + HOP - 1) // HOP

    return EvalModel("planted", frames)


@pytest.fixture
def config():
    return EvalConfig(
        batch_seconds=4.0, max_seconds=0.2, max_train_clips=120, max_test_clips=0, retrieval_clips=40,
        alignment_clips=100, attention_steps=48, attention_frames=8, lit_steps=0,
    )  # fmt: skip
