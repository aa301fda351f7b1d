"""What an account notes of clips that are stored: by name, by source, through merges."""

import numpy as np
import pytest

from alp_jax.cli.main import main
from alp_jax.core import files
from alp_jax.core.clip import Clip
from alp_jax.data.building.build import build
from alp_jax.data.building.merge import merge
from tests.data.sounds import chunk, coded, form, muxed, pcm, tone, wav


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("notes")
    sounds = {
        "cancel.wav": coded(np.stack([tone(2.0), -tone(2.0)], 1)),
        "integers.wav": coded(np.rint(tone(2.0, 300) * 32768), subtype="FLOAT"),
        "unfinished.wav": wav(form(), chunk(b"data", pcm(tone(2.0, 500)), 0), size=0),
        **{f"{hz}.wav": coded(tone(10.0, hz)) for hz in range(600, 607)},
    }
    for name, data in sounds.items():
        (root / name).write_bytes(data)
    stated = {600: 10.5, 601: 11.1, 602: 30.0, 603: 60.0, 604: 9.2, 605: 8.0}
    clips = [Clip(name, "faults", f"r:{name}", str(root / name)) for name in list(sounds)[:3]]
    clips += [Clip(f"{hz}", "rows", f"r:{hz}", str(root / f"{hz}.wav"), stated_s=s) for hz, s in stated.items()]
    clips.append(Clip("cut", "rows", "r:cut", str(root / "606.wav"), 5.0, 60.0))
    first = build(clips[:5], root / "a", source_name="x", workers=1)
    second = build(clips[5:], root / "b", source_name="x", workers=1)
    return root, first, second


def counts(accounting):
    return {note: (entry["count"], entry["clips"]) for note, entry in accounting["notes"].items()}


def test_notes_are_counted_and_named_and_nothing_is_dropped(sets):
    root, first, second = sets
    assert counts(first) == {
        "channels_cancel": (1, ["cancel.wav"]),
        "rescaled": (1, ["integers.wav"]),
        "wrong_header": (1, ["unfinished.wav"]),
    }
    # 10 s: by 1.1 s but not by a tenth of 11.1 s is close enough
    assert counts(second) == {"longer_than_stated": (1, ["605"]), "shorter_than_stated": (3, ["602", "603", "cut"])}
    assert (first["usable"], second["usable"]) == (5, 5)
    assert second["sources"]["rows"]["notes"] == {"longer_than_stated": 1, "shorter_than_stated": 3}
    merged = merge([root / "a", root / "b"], root / "both")
    assert merged["notes"] == first["notes"] | second["notes"]
    assert merged["sources"]["rows"]["notes"] == second["sources"]["rows"]["notes"]


def test_downloads_of_every_form_are_found(tmp_path, capsys):
    """AudioCaps as downloaders leave it: m4a, webm, mp4 beside a wav, and a format that is refused by its name."""
    audio = tmp_path / "audio"
    audio.mkdir()
    for stem, extension, data in (
        ("Yr1nicOVtvkQ", "m4a", muxed(tone(2.0), "ipod", "aac")),
        ("IwURMgmOTB0", "webm", muxed(tone(2.0, 500, 48_000), "webm", "libopus", 48_000)),
        ("_v4wqdgzUBk", "wav", coded(tone(2.0, 600))),
        ("_v4wqdgzUBk", "mp4", b"never read"),
        ("YaaaaaaaaaaA", "wma", b"\x30\x26\xb2\x75" + bytes(99)),
    ):
        (audio / f"{stem}.{extension}").write_bytes(data)
    names = ("r1nicOVtvkQ", "IwURMgmOTB0", "_v4wqdgzUBk", "aaaaaaaaaaA", "bbbbbbbbbbB")
    rows = "".join(f"{n},{name},10,a sound\n" for n, name in enumerate(names))
    (tmp_path / "train.csv").write_text("audiocap_id,youtube_id,start_time,caption\n" + rows)
    command = ["data", "build", "audiocaps", "--metadata", str(tmp_path / "train.csv"), "--audio", str(audio)]
    assert main([*command, "--out", str(tmp_path / "set"), "--max_bad_share", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert "3 of 5 clips" in printed
    assert "1 missing: no such file, or no audio in the record: audiocaps:bbbbbbbbbbB-10" in printed
    assert "1 unsupported: a container or encoding outside" in printed
    refused = "audiocaps:aaaaaaaaaaA-10: extension '.wma'; convert it: ffmpeg -i FILE FILE.flac"
    assert f"or too many channels: {refused}" in printed
    made = files.read_json(tmp_path / "set" / "dataset.json")["accounting"]
    assert made["splits"]["train"]["hours"] == pytest.approx(3 * 2 / 3600, abs=1e-4)
