"""The kinds of leaks on columns: stretches of recordings, equal samples, captions that say something."""

import dataclasses

import numpy as np
import pytest

from alp_jax.core.clip import Clip
from alp_jax.data.audit import sets
from alp_jax.data.audit.audit import compare
from alp_jax.data.audit.kinds import TOUCH_S


@pytest.fixture
def audit_of():
    """``audit_of(train block, evaluation clips as dicts)``."""

    def run(block, *evaluation):
        base = {"source": "e", "audio_path": ""}
        full = [Clip(**(base | {"id": f"e:{i}", "recording": f"e:{i}"} | clip)) for i, clip in enumerate(evaluation)]
        return compare([block], [sets.of_clips("set", full)])

    return run


def rows(found, kind):
    return found.matches[kind]["row"].to_pylist()


def at(start, duration=10.0, recording="youtube:a"):
    return {"recording": recording, "recording_start_s": start, "duration_s": duration}


@pytest.mark.parametrize(
    ("train", "evaluation", "leak"),
    [
        (at(30), at(30), True),
        (at(30), at(39.9), True),
        (at(30), at(40), False),
        (at(30), at(40 - TOUCH_S / 2), False),
        (at(30), at(20), False),
        (at(30), at(20, 60.0), True),
        (at(30, 100.0), at(70, 2.0), True),
        (at(None), at(70), False),  # where the clip lies is not known: it may be there, and may not
        (at(30), at(None), False),
        (at(None), at(None), False),
        (at(None) | {"source": "wavcaps_audioset"}, at(70) | {"source": "audiocaps"}, True),  # a video's one clip there
        (at(70) | {"source": "musiccaps"}, at(None) | {"source": "fusionaudio"}, True),
        (at(None) | {"source": "wavcaps_audioset"}, at(None) | {"source": "audiosetcaps_audioset"}, True),
        (at(30) | {"source": "audiocaps"}, at(70) | {"source": "musiccaps"}, False),
        (at(None) | {"source": "wavcaps_audioset"}, at(70) | {"source": "vggsound"}, False),
        (at(0, 90.0) | {"source": "wavcaps_freesound"}, at(None) | {"source": "clotho"}, True),  # all of the recording
        (at(None) | {"source": "clotho"}, at(0, None) | {"source": "fsd50k"}, True),
        (at(300, None) | {"stated_s": 10.0}, at(5, None) | {"stated_s": 10.0}, False),  # files cut before, 10 s each
        (at(14, None) | {"stated_s": 10.0}, at(5, None) | {"stated_s": 10.0}, True),
        (at(30), at(20, None), True),  # how long it is is not known
        (at(30), at(50, None), False),
        (at(30), at(30, recording="youtube:b"), False),
    ],
)
def test_stretches_of_a_recording_leak_where_they_overlap(train, evaluation, leak, audit_of, clips_as_columns):
    found = audit_of(clips_as_columns(train), at(0, recording="x:1"), evaluation)
    assert rows(found, "recording") == [0] * leak
    assert found.seen["recording"].tolist() == [False, leak]
    shared = train["recording"] == evaluation["recording"] and not leak
    assert found.elsewhere["row"].to_pylist() == [0] * shared
    assert found.seen_elsewhere.tolist() == [False, shared]
    assert len(found.leaks()[0]) == leak
    assert found.leaks(["same_recording"])[1] == ["leak:same_recording"] * shared


def utterance(number, speaker="id00012", video="21Uxsk56VDQ", source="paraspeechcaps"):
    path = f"voxceleb/voxceleb2/dev/aac/{speaker}/{video}/{number}_voicefixer.wav"
    return {"id": f"{source}:{path}", "source": source, "recording": f"voxceleb:{video}", "recording_start_s": None}


def test_another_utterance_of_a_video_is_another_clip(audit_of, clips_as_columns):
    probe = {"id": "voxceleb2:id00012/21Uxsk56VDQ/00003", "source": "voxceleb2", "recording": "voxceleb:21Uxsk56VDQ"}
    block = clips_as_columns(utterance("00001"), utterance("00003"), utterance("00003", speaker="id10001"))
    found = audit_of(block, probe)
    assert rows(found, "recording") == [1]
    assert found.elsewhere["row"].to_pylist() == [0, 2]
    emilia = {"source": "paraspeechcaps", "recording": "emilia:EN_B00030_S01984"}
    block = clips_as_columns(*(emilia | {"id": f"x:EN_B00030_S01984_W{n:06}.mp3"} for n in (36, 37)))
    found = audit_of(block, emilia | {"id": "y:EN_B00030_S01984_W000037.wav"})
    assert rows(found, "recording") == [1]
    assert found.elsewhere["row"].to_pylist() == [0]


def test_overlap_is_that_of_every_pair(audit_of, clips_as_columns):
    rng = np.random.default_rng(0)

    def draw(count):
        places = zip(
            rng.integers(0, 400, count), rng.choice([1, 10, 60], count), rng.integers(9, size=count), strict=True
        )
        return [at(float(start), float(seconds), f"r:{recording}") for start, seconds, recording in places]

    train, evaluation = draw(60), draw(50)
    found = audit_of(clips_as_columns(*train), *evaluation)

    def leaks(a, b):
        (s, d), (t, e) = ((x["recording_start_s"], x["duration_s"]) for x in (a, b))
        return a["recording"] == b["recording"] and s < t + e and t < s + d - TOUCH_S

    assert rows(found, "recording") == [i for i, a in enumerate(train) if any(leaks(a, b) for b in evaluation)]
    assert found.seen["recording"].tolist() == [any(leaks(a, b) for a in train) for b in evaluation]
    near = [i for i, a in enumerate(train) if any(a["recording"] == b["recording"] for b in evaluation)]
    assert found.elsewhere["row"].to_pylist() == [i for i in near if i not in rows(found, "recording")]
    held = found.matches["recording"]["eval_clip"].to_pylist()
    assert all(leaks(train[i], evaluation[j]) for i, j in zip(rows(found, "recording"), held, strict=True))


def test_equal_samples_leak_and_clips_without_audio_do_not(clips_as_columns):
    def with_audio(block, hashes):
        return dataclasses.replace(block, has_audio=np.array(hashes) > 0, audio_hash=np.array(hashes, np.uint64))

    train = with_audio(clips_as_columns({}, {}, {}, {}), [5, 0, 7, 9])
    held = with_audio(clips_as_columns({}, {}, {}, {}), [9, 5, 0, 9])
    found = compare([train], [sets.EvalSet("set", held, lambda _: (), ())])
    assert rows(found, "audio") == [0, 3]
    assert found.matches["audio"]["eval_clip"].to_pylist() == [1, 0]
    assert found.seen["audio"].tolist() == [True, True, False, True]


LONG = "A dog barks at two passing cars"


@pytest.mark.parametrize(
    ("train", "evaluation", "leaks"),
    [
        ([(LONG,)], [(LONG.upper() + " !",)], [0]),
        ([("a dog barks loudly",)], [("a dog barks loudly",)], []),  # four words
        ([("a dog barks very loudly",)], [("a dog barks very loudly",)], [0]),
        ([(LONG,)] * 3, [(LONG,)], [0, 1, 2]),
        ([(LONG,)] * 4, [(LONG,)], []),
        ([(LONG,)], [(LONG,)] * 4, []),
        ([(LONG, "one more caption")], [(LONG,)], [0]),  # all that the evaluation clip has
        ([(LONG, "one more caption")], [(LONG, "yet another one")], []),  # one of several
        ([(LONG, LONG)], [(LONG, "yet another one")], [0]),  # the training clip has but one
        ([(LONG, "Rain falls on a tin roof", "x")], [("y", "rain falls on a tin roof", LONG)], [0]),
        ([(LONG, "Rain falls on a tin roof", "x")], [("y", LONG), ("rain falls on a tin roof", "z")], []),
        ([(LONG, "a dog", "x")], [("a dog", LONG)], [0]),  # all, though one alone would say nothing
        ([(LONG, "a dog", "x")], [("a dog", LONG, "y")], []),
    ],
)
def test_captions_leak_when_they_say_which_clip_it_is(train, evaluation, leaks, audit_of, clips_as_columns):
    block = clips_as_columns(*({"captions": captions} for captions in train))
    found = audit_of(block, *({"captions": captions} for captions in evaluation))
    assert rows(found, "caption") == leaks
    assert found.seen["caption"].any() == bool(leaks)
    assert found.unspecific == (0 if leaks else len(train))


def test_captions_are_counted_over_all_blocks(clips_as_columns):
    blocks = [
        dataclasses.replace(
            clips_as_columns({"captions": (LONG,)}, {"captions": (LONG,)}), row=np.array([first, first + 1])
        )
        for first in (0, 2)
    ]
    one = sets.of_clips("set", [Clip("e:1", "e", "e:1", "", captions=(LONG,))])
    assert rows(compare(blocks[:1], [one]), "caption") == [0, 1]
    assert rows(compare(blocks, [one]), "caption") == []


def test_the_surest_kind_names_the_reason(audit_of, clips_as_columns):
    train = clips_as_columns(at(0) | {"captions": (LONG,)}, {"captions": ("x",)}, at(0, recording="r:2"))
    found = audit_of(train, at(5) | {"captions": (LONG,)}, at(0, recording="r:2"))
    leaks, reasons = found.leaks()
    assert (leaks.tolist(), reasons) == ([0, 2], ["leak:recording", "leak:recording"])
    assert found.leaks(["caption"])[1] == ["leak:caption"]
