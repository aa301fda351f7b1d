"""Lhotse manifests: cuts with captions, and the form in which UTS publishes CaptionStew 400K."""

import gzip
import json

import pytest

from alp_jax.core.clip import Rejected
from alp_jax.core.errors import UserError
from alp_jax.corpora import registry

VIDEO = "tS9FbMAKnFc"


def cut(own="u1", source="speech/u1.wav", **changes):
    custom = {"caption": "New.", "original_caption": ["Old.", "Older."], "audio_tag": ["punk", "music", "punk"]}
    supervision = {"id": own, "start": 0.0, "duration": 10.0, "custom": changes.pop("custom", custom)}
    recording = {"id": own, "sources": [{"type": "file", "channels": [0], "source": source}], "sampling_rate": 16000}
    return {
        "id": own,
        "start": 2.5,
        "duration": 10.0,
        "channel": 0,
        "supervisions": [supervision],
        "recording": recording,
        "type": "MonoCut",
    } | changes


def read(tmp_path, *cuts, name="cuts_train.jsonl", **settings):
    text = "".join(json.dumps(c) + "\n" for c in cuts).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    rows = list(registry.read("lhotse", [path], **settings))
    bad = [row.reason for row in rows if isinstance(row, Rejected)]
    return [row for row in rows if not isinstance(row, Rejected)], bad


def test_cuts_of_the_authors_toolbox(tmp_path):
    (clip,), bad = read(tmp_path, cut(), name="cuts_dev.jsonl.gz", audio=tmp_path)
    assert (clip.id, clip.source, clip.recording, clip.split) == ("lhotse:u1", "lhotse", "lhotse:u1", "valid")
    assert (clip.start_s, clip.duration_s, clip.recording_start_s) == (2.5, 10.0, 2.5)
    assert (clip.captions, clip.tags) == (("New.",), ("punk", "music"))
    assert clip.audio_path == str(tmp_path / "speech/u1.wav")
    assert not bad


def test_uts_states_the_data_set_in_place_of_the_path(tmp_path):
    name = f"Y{VIDEO}"
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / f"{name}.flac").touch()
    cuts = [cut(name, "audioset", start=0.0), cut("w_17", "clotho", start=0.0)]
    (first, second), _ = read(tmp_path, *cuts, audio=tmp_path / "audio")
    assert (first.id, first.source, first.recording) == (f"audioset:{name}", "audioset", f"youtube:{VIDEO}")
    assert (first.recording_start_s, first.audio_path) == (None, str(tmp_path / "audio" / f"{name}.flac"))
    assert (second.recording, second.audio_path) == ("clotho:w_17", str(tmp_path / "audio" / "w_17.wav"))
    (first, _), _ = read(tmp_path, *cuts, source="uts")
    assert (first.source, first.id, first.audio_path) == ("uts", f"uts:{name}", "")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("new", ("New.",)), ("original", ("Old.", "Older.")), ("both", ("New.", "Old.", "Older."))],
)
def test_which_captions_are_used(tmp_path, choice, expected):
    assert read(tmp_path, cut(), captions=choice)[0][0].captions == expected


def test_unknown_choice_of_captions(tmp_path):
    with pytest.raises(UserError, match="unknown captions of lhotse 'old'"):
        read(tmp_path, cut(), captions="old")


def test_absolute_paths(tmp_path):
    inside = tmp_path / "audio" / "a" / "u1.wav"
    inside.parent.mkdir(parents=True)
    inside.touch()
    for source in (str(inside), "/elsewhere/u1.wav"):
        assert read(tmp_path, cut(source=source), audio=tmp_path / "audio")[0][0].audio_path == str(inside)
    assert read(tmp_path, cut(source="/elsewhere/u1.wav"), audio="/")[0][0].audio_path == "/elsewhere/u1.wav"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"type": "MixedCut"}, "unsupported_cut"),
        ({"start": -1}, "bad_time"),
        ({"duration": None}, "bad_time"),
        ({"duration": 0}, "bad_time"),
        ({"supervisions": []}, "bad_record"),
        ({"recording": {"id": "r", "sources": []}}, "bad_record"),
        ({"recording": {"id": "r", "sources": [{"type": "command", "source": "rm x"}]}}, "unsupported_cut"),
        ({"recording": None}, "bad_record"),
        ({"recording": None, "features": {"type": "fbank"}}, "unsupported_cut"),
        ({"channel": 1}, "bad_record"),
        ({"channel": True}, "bad_record"),
        ({"channel": []}, "bad_record"),
        ({"custom": {"audio_tag": []}}, "empty_caption"),
        ({"custom": {"caption": 3}}, "bad_record"),
        ({"source": "../x.wav"}, "outside_folder"),
        ({"own": ""}, "bad_id"),
        ({"own": "../../x", "source": "clotho"}, "bad_id"),
    ],
)
def test_cuts_that_cannot_be_used(tmp_path, changes, reason):
    assert read(tmp_path, cut(**changes), audio=tmp_path) == ([], [reason])


def stereo(own, channel, sources=None, **changes):
    sources = sources or [{"type": "file", "channels": [0, 1], "source": "two.wav"}]
    recording = {"id": "two", "sources": sources, "channel_ids": [0, 1]}
    return cut(own, **{"recording": recording, "channel": channel, "start": 0} | changes)


def test_a_cut_of_a_channel_is_that_channel(tmp_path):
    (left, right, both), bad = read(tmp_path, *map(stereo, ("l", "r", "b"), (0, 1, [0, 1])), audio=tmp_path)
    assert [clip.channel for clip in (left, right, both)] == [0, 1, None]
    assert [clip.recording for clip in (left, right, both)] == [
        "lhotse:two#channel_0",
        "lhotse:two#channel_1",
        "lhotse:two",
    ]
    assert {clip.group for clip in (left, right, both)} == {"lhotse:two"}
    assert not bad
    files = [{"type": "file", "channels": [n], "source": f"{n}.wav"} for n in (0, 1)]
    (right,), _ = read(tmp_path, stereo("r", 1, files), audio=tmp_path)
    assert (right.channel, right.recording, right.audio_path) == (None, "lhotse:two#channel_1", str(tmp_path / "1.wav"))
    swapped = [{"type": "file", "channels": [1, 0], "source": "two.wav"}]
    assert read(tmp_path, stereo("r", 1, swapped))[0][0].channel == 0


@pytest.mark.parametrize(
    ("sources", "channel", "detail"),
    [
        ([[0], [1]], [0, 1], "channels of 2 files"),
        ([[0, 1, 2]], [0, 2], "channels 0,2 of 3"),
        ([[0, 1]], 2, "channel 2 is not among those of the recording"),
    ],
)
def test_channels_that_cannot_be_read_are_named(tmp_path, sources, channel, detail):
    sources = [{"type": "file", "channels": own, "source": "a.wav"} for own in sources]
    assert detail in only_rejected(tmp_path, stereo("x", channel, sources)).detail


def only_rejected(tmp_path, *cuts):
    path = tmp_path / "cuts_train.jsonl"
    path.write_text("".join(json.dumps(c) + "\n" for c in cuts))
    (row,) = registry.read("lhotse", [path])
    return row


def supervision(start, duration, caption, **more):
    return {"id": caption, "start": start, "duration": duration, "custom": {"caption": caption}} | more


def test_each_stretch_of_several_supervisions_is_a_clip(tmp_path):
    parts = [
        supervision(-1, 3, "first"),
        supervision(4.0, 2.5, "second"),
        supervision(9, 5, "last"),
        supervision(4.0, 2.5, "again"),
        supervision(0, 10, "whole"),
        supervision(2, 1, None),
        supervision(11, 1, "outside"),
    ]
    clips, bad = read(tmp_path, cut(supervisions=parts[:5]), cut("v", supervisions=[parts[0], parts[5]]))
    assert [(clip.id, clip.start_s, clip.duration_s, clip.captions) for clip in clips] == [
        ("lhotse:u1#2.5-4.5", 2.5, 2.0, ("first",)),
        ("lhotse:u1#6.5-9", 6.5, 2.5, ("second", "again")),
        ("lhotse:u1#11.5-12.5", 11.5, 1.0, ("last",)),
        ("lhotse:u1#2.5-12.5", 2.5, 10.0, ("whole",)),
        ("lhotse:v#2.5-4.5", 2.5, 2.0, ("first",)),
    ]
    assert {clip.recording for clip in clips} == {"lhotse:u1", "lhotse:v"}
    assert bad == ["empty_caption"]
    row = only_rejected(tmp_path, cut(supervisions=[parts[0], parts[6]]))
    assert (row.reason, row.detail) == ("bad_time", "supervision 'outside' has no time inside the cut")


def test_supervisions_of_the_whole_cut_are_captions_of_one_clip(tmp_path):
    (clip,), _ = read(tmp_path, cut(supervisions=[supervision(0, 10, "one"), supervision(0.0, 10.0004, "two")]))
    assert (clip.id, clip.captions, clip.start_s, clip.duration_s) == ("lhotse:u1", ("one", "two"), 2.5, 10.0)


def test_supervisions_of_a_cut_of_several_channels_say_which(tmp_path):
    sides = [supervision(0, 10, "left", channel=0), supervision(0, 10, "right", channel=[1])]
    clips, _ = read(tmp_path, stereo("m", [0, 1], supervisions=sides, type="MultiCut"))
    assert [(clip.channel, clip.captions) for clip in clips] == [(0, ("left",)), (1, ("right",))]
    assert len({clip.id for clip in clips}) == 2


@pytest.mark.parametrize(
    ("transform", "detail"),
    [
        ({"name": "Speed", "kwargs": {"factor": 1.1}}, "the transform Speed(factor=1.1) of its recording"),
        ({"name": "Volume", "kwargs": {"factor": 2.0}}, "Volume(factor=2.0)"),
        ({"name": "Resample", "kwargs": {"source_sampling_rate": 16000, "target_sampling_rate": 8000}}, "=8000"),
        ("Reverb", "the transform Reverb()"),
        ({"name": "Resample", "kwargs": {"source_sampling_rate": 8000, "target_sampling_rate": 16000}}, None),
    ],
)
def test_transforms_are_refused_by_name_unless_they_take_nothing_away(tmp_path, transform, detail):
    changed = cut()
    changed["recording"]["transforms"] = [transform]
    row = only_rejected(tmp_path, changed)
    if detail is None:
        assert row.captions == ("New.",)
    else:
        assert row.reason == "unsupported_cut"
        assert detail in row.detail


def test_a_path_in_another_unicode_form_is_found(tmp_path):
    file = tmp_path / "Cafe\u0301" / "u1.wav"
    file.parent.mkdir()
    file.touch()
    assert read(tmp_path, cut(source="Caf\u00e9/u1.wav"), audio=tmp_path)[0][0].audio_path == str(file)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ((2.0, 1.0), (4.5, 1.0)),
        ((-1, 3), (2.5, 2.0)),
        ((0.0, 9.95), (2.5, 10.0)),
        ((-1, 30), (2.5, 10.0)),
        ((None, None), (2.5, 10.0)),
    ],
)
def test_the_only_supervision_of_a_cut_may_be_of_a_part(tmp_path, times, expected):
    (clip,), _ = read(tmp_path, cut(supervisions=[supervision(*times, "x")]))
    assert (clip.id, clip.captions) == ("lhotse:u1", ("x",))
    assert (clip.start_s, clip.duration_s, clip.recording_start_s) == (*expected, expected[0])
    row = only_rejected(tmp_path, cut(supervisions=[supervision(12, 1, "outside")]))
    assert row.detail == "supervision 'outside' has no time inside the cut"
