"""Clips to compare models on: test clips where there are some, whatever there is otherwise."""

import numpy as np
import pytest
import soundfile

from alp_jax.core.clip import Clip
from alp_jax.data.audio.samples import made_clips, sample_clips
from alp_jax.data.building import build
from alp_jax.data.store.dataset import open_dataset


def dataset(tmp_path, splits):
    clips = []
    for i, split in enumerate(splits):
        wave = np.random.default_rng(i).integers(-9000, 9000, 3200 * (i + 1)).astype(np.int16)
        soundfile.write(tmp_path / f"{i}.wav", wave, 16000, subtype="PCM_16")
        about = {"captions": (f"noise {i}",), "split": split, "group": str(i)}
        clips.append(Clip(f"n:{i}", "n", f"n:{i}", str(tmp_path / f"{i}.wav"), **about))
    build.build(clips, tmp_path / "set", source_name="n", workers=1)
    return open_dataset(tmp_path / "set")


@pytest.mark.parametrize(
    ("splits", "words", "lengths"),
    [
        (["train", "test", "test", "valid"], "test", [6400, 8000]),
        (["train", "train", "valid"], "validation", [8000]),
        (["train", "train"], "training", [3200, 6400]),
    ],
)
def test_what_there_is_is_taken_and_named(tmp_path, splits, words, lengths):
    clips, kind = sample_clips(dataset(tmp_path, splits), 8, 0.5)
    assert [len(clip) for clip in clips] == lengths
    assert kind == f"{words} clips of {tmp_path / 'set'}"


def test_made_up_clips_are_always_the_same_and_of_all_lengths():
    clips, kind = made_clips(5, 4.0)
    again, _ = made_clips(5, 4.0)
    assert kind == "made-up clips"
    assert [len(clip) for clip in clips] == sorted(len(clip) for clip in clips)
    assert (len(clips[0]), len(clips[-1])) == (8000, 64000)
    assert all(np.array_equal(a, b) for a, b in zip(clips, again, strict=True))
    assert min(np.abs(clip.astype(int)).max() for clip in clips) > 8000
    assert [len(clip) for clip in made_clips(1, 0.2)[0]] == [3200]
