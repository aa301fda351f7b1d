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
        ({"type": "MixedCut"}, "bad_record"),
        ({"start": -1}, "bad_time"),
        ({"duration": None}, "bad_time"),
        ({"duration": 0}, "bad_time"),
        ({"supervisions": []}, "bad_record"),
        ({"recording": {"id": "r", "sources": []}}, "bad_record"),
        ({"recording": {"id": "r", "sources": [{"type": "command", "source": "rm x"}]}}, "bad_record"),
        ({"recording": None}, "bad_record"),
        ({"custom": {"audio_tag": []}}, "empty_caption"),
        ({"custom": {"caption": 3}}, "bad_record"),
        ({"source": "../x.wav"}, "outside_folder"),
        ({"own": ""}, "bad_id"),
        ({"own": "../../x", "source": "clotho"}, "bad_id"),
    ],
)
def test_cuts_that_cannot_be_used(tmp_path, changes, reason):
    assert read(tmp_path, cut(**changes), audio=tmp_path) == ([], [reason])
