"""The mini corpus on a small made-up package tree: captions, labels, splits, accounting, credits."""

import gzip
import json
import struct
import wave

import pytest

from alp_jax.core.errors import UserError
from alp_jax.core.files import write_json
from alp_jax.corpora.captioned import mini
from alp_jax.corpora.captioned.mini import words
from alp_jax.corpora.captioned.mini.apt import STAMP

SOUNDS = "usr/share/asterisk/sounds"
PROMPTS = [f"prompt-{i}" for i in range(90)]
VOICES = {"en": "en_US_f_Allison", "fr": "fr_CA_f_June"}
HEDGEWARS = "usr/share/games/hedgewars/Data"
_serial = iter(range(1, 10**9))


def put(cache, package, relpath, data):
    path = cache / "raw" / package / relpath
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    (cache / "unpacked" / package).mkdir(parents=True, exist_ok=True)
    return path


def put_wav(cache, package, relpath, seconds=0.1, rate=8000):
    """A WAVE file unlike every other one: its first samples hold a serial number."""
    path = put(cache, package, relpath, b"")
    frames = struct.pack("<I", next(_serial)) + bytes(2 * max(0, round(seconds * rate) - 2))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(frames)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    texts = "; comment\n\n" + "\n".join(f"{name}: Please press key {i}." for i, name in enumerate(PROMPTS))
    texts += "\nbeep: [this is a simple beep tone]\nclock: The time is:\nsilence/1: quiet\n"
    put(cache, "asterisk-core-sounds-en", "usr/share/doc/x/core-sounds-en.txt.gz", gzip.compress(texts.encode()))
    for code, voice in VOICES.items():
        for name in [*PROMPTS, "beep", "silence/1"]:
            data = struct.pack("<I", next(_serial)) + bytes(8000)
            put(cache, f"asterisk-core-sounds-{code}-g722", f"{SOUNDS}/{voice}/{name}.g722", data)
    for pack in ("Pirate", "Default_es"):
        for line in ("Amazing", "Ouch", "Jump1", "Jump2", "Runaway", "Nosuchpack"):
            put_wav(cache, "hedgewars-data", f"{HEDGEWARS}/Sounds/voices/{pack}/{line}.wav")
    put_wav(cache, "hedgewars-data", f"{HEDGEWARS}/Sounds/voices/Unknown/Amazing.wav")
    for i in range(9):
        put_wav(cache, "ufoai-sound", f"base/sound/footsteps/gravel{i}.wav")
        put_wav(cache, "minetest-data", f"x/sounds/default_snow_footstep.{i}.wav")
        put_wav(cache, "ufoai-sound", f"base/sound/doors/door{i}-open.wav")
        put_wav(cache, "hydrogen-data", f"x/drumkits/GMRockKit/Kick-{i}.wav")
        put_wav(cache, "lmms-common", f"usr/share/lmms/samples/drums/bassdrum0{i}.wav")
    put_wav(cache, "openttd-opensfx", "a/opensfx.cat/00.wav")
    index = {"00.wav": '"Ship horn". Original "x.aif" by L. M. License: CC0.'}
    put(cache, "openttd-opensfx", "a/opensfx.cat/index.json", json.dumps(index).encode())
    for track, seconds in (("Nebula", 35), ("Awakening", 135), ("Short", 8), ("Blip", 2)):
        put_wav(cache, "singularity-music", f"usr/share/games/singularity/music/{track}.wav", seconds, rate=4000)
    put_wav(cache, "qabcs-data", "usr/share/qabcs/abcs/en/sounds/words/electric_guitar.wav")
    table = {"letters": [{"E": {"sound_letter": "E.ogg", "instrument": {"sound_pic": "electric_guitar.wav"}}}]}
    put(cache, "qabcs-data", "usr/share/qabcs/abcs/en/abc1.json", json.dumps(table).encode())
    put(cache, "sonic-pi-samples", "x/samples/bd_808.flac", b"not audio")
    for root in (cache / "raw").iterdir():
        write_json(root / STAMP, {"version": "2", "pin": "1", "sha256": "abc"})
    return cache


@pytest.fixture(scope="module")
def clips(cache):
    return mini.collect(cache)[0]


def find(clips, end):
    (clip,) = [clip for clip in clips if clip.id.endswith(end)]
    return clip


def test_ids_captions_and_groups(clips):
    assert len({clip.id for clip in clips}) == len(clips) > 120
    split_of = {}
    for clip in clips:
        assert 1 <= len(clip.captions) <= 4
        assert len(set(clip.captions)) == len(clip.captions)
        assert all(text == " ".join(text.split()) and "{" not in text and "[" not in text for text in clip.captions)
        assert clip.id.startswith("mini-")
        assert clip.source.startswith("mini-")
        assert clip.license
        assert split_of.setdefault(clip.group, clip.split) == clip.split


def test_the_same_every_time(cache, clips):
    assert mini.collect(cache)[0] == clips


def test_prompts_share_split_group_and_text_over_languages(clips):
    english, french = (find(clips, f"{voice}/prompt-7.g722") for voice in VOICES.values())
    assert english.group == french.group == "asterisk-prompt:please press key 7"
    assert english.recording != french.recording
    assert english.captions[0] == "Please press key 7."
    assert french.captions[0] == "Please press key 7. (in French)"
    assert english.captions[1] == "speech, English, female voice, telephone prompt"
    assert english.source == "mini-asterisk"
    assert english.duration_s is None
    assert {clip.split for clip in clips if clip.source == "mini-asterisk"} == {"train", "valid", "test"}


def test_speaker_is_labelled_and_tones_are_sounds(clips):
    assert find(clips, "en_US_f_Allison/prompt-7.g722").labels["speaker"] == "asterisk en_US_f_Allison"
    beep = find(clips, "en_US_f_Allison/beep.g722")
    assert "speaker" not in beep.labels
    assert beep.captions[0] == "this is a simple beep tone"
    assert not [clip for clip in clips if "silence" in clip.id]


def test_language_is_never_tested_on_the_packages_it_is_trained_on(clips):
    for clip in clips:
        if "language" in clip.labels and clip.split != "train":
            assert clip.source == "mini-words"


def test_personas(clips):
    pirate, spanish = (find(clips, f"{pack}/Runaway.wav") for pack in ("Pirate", "Default_es"))
    assert pirate.captions[0] == "Run away!"
    assert spanish.captions[0] == "Run away! (in Spanish)"
    assert pirate.group == spanish.group == "hedgewars-line:runaway"
    assert pirate.tags == ("speech", "English", "pirate", "game voice", "frightened")
    assert find(clips, "Pirate/Ouch.wav").captions[0] == "a pirate, a cry of pain"
    assert find(clips, "Pirate/Jump1.wav").group == find(clips, "Default_es/Jump2.wav").group
    assert not [clip for clip in clips if "voices/Unknown" in clip.id]


def test_sound_events_are_package_disjoint_and_pruned(clips):
    step = find(clips, "gravel3.wav")
    assert step.labels == {"sound_event": "footsteps"}
    assert step.captions[0] == "footsteps gravel, footsteps, sound effect"
    assert find(clips, "default_snow_footstep.3.wav").split == "test"
    assert step.split == "train"
    assert find(clips, "door3-open.wav").labels == {}, "doors have no test clips here"
    assert find(clips, "opensfx.cat/00.wav").captions[0] == "Ship horn"


def test_drum_kits_are_disjoint(clips):
    kick, bass = find(clips, "Kick-3.wav"), find(clips, "bassdrum03.wav")
    assert (kick.labels, kick.split, kick.group) == ({"drum": "kick"}, "train", "kit:gmrock")
    assert (bass.labels, bass.split, bass.group) == ({"drum": "kick"}, "test", "kit:lmms")


def test_music_is_cut_into_segments_that_share_recording_and_split(clips):
    music = [clip for clip in clips if clip.source == "mini-music"]
    nebula = [clip for clip in music if "Nebula" in clip.id]
    assert [(clip.start_s, clip.duration_s) for clip in nebula] == [(0.0, 10.0), (10.0, 10.0), (20.0, 10.0)]
    assert [clip.id[-2:] for clip in nebula] == ["#0", "#1", "#2"]
    assert len({clip.recording for clip in nebula}) == 1
    awakening = [clip for clip in music if "Awakening" in clip.id]
    assert len(awakening) == 12
    assert awakening[-1].start_s == 125.0
    assert [clip.duration_s for clip in music if "Short" in clip.id] == [8.0]
    assert not [clip for clip in music if "Blip" in clip.id]


def test_words_know_their_category(clips):
    clip = find(clips, "electric_guitar.wav")
    assert clip.tags == ("speech", "English", "isolated word", "electric guitar", "instrument")


def test_account_counts_what_is_left_out(cache):
    copy = cache / "raw" / "ufoai-sound" / "base" / "sound" / "ui" / "copy.wav"
    copy.parent.mkdir()
    copy.write_bytes((copy.parents[1] / "footsteps" / "gravel1.wav").read_bytes())
    link = copy.with_name("link.wav")
    link.symlink_to("copy.wav")
    made, account = mini.collect(cache)
    copy.unlink()
    link.unlink()
    assert account["duplicates"] == 1
    assert account["unreadable"] == 1
    assert account["packages"]["ufoai-sound"] == 18
    assert account["packages"]["sonic-pi-samples"] == 0
    assert "gcin-voice" in account["missing"]
    assert len(made) == sum(account["packages"].values())


def test_a_package_that_was_not_unpacked_counts_as_missing(cache, tmp_path):
    (tmp_path / "raw").symlink_to(cache / "raw")
    (tmp_path / "unpacked" / "ufoai-sound").mkdir(parents=True)
    made, account = mini.collect(tmp_path)
    assert {clip.id.split(":")[0] for clip in made} == {"mini-ufoai-sound"}
    assert "lmms-common" in account["missing"]


def test_empty_cache_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match="alp data fetch mini"):
        mini.collect(tmp_path)


def test_tiers_nest_and_every_package_is_described():
    small, medium, large = (mini.packages(tier) for tier in mini.TIERS)
    assert medium[: len(small)] == small
    assert large[: len(medium)] == medium
    assert len(set(large)) == len(large)
    table = mini.table("packages")["packages"]
    assert set(table) == set(large)
    assert sum(table[name]["bytes"] for name in small) < 450e6
    with pytest.raises(UserError, match="unknown tier 'x'"):
        mini.packages("x")


def test_credits_name_every_package(cache, clips, tmp_path):
    text = mini.write_credits(cache, clips, tmp_path / "CREDITS")
    assert (tmp_path / "CREDITS").read_text() == text
    assert "lmms-common 2 (listed: 1)\n  licence: GPL-2+" in text
    assert "  clips: 9" in text
    assert "  clips: none, text only" in text
    for package in {clip.id.removeprefix("mini-").split(":")[0] for clip in clips}:
        assert f"\n{package} " in text


@pytest.mark.parametrize(
    ("symbols", "latin"),
    [
        ("ㄊㄢ", "tan"),
        ("ㄕ", "shi"),
        ("ㄧㄢ", "yan"),
        ("ㄩ", "yu"),
        ("ㄨㄛ", "wo"),
        ("ㄒㄩㄝ", "xue"),
        ("ㄌㄩ", "lü"),
        ("x", ""),
    ],
)
def test_pinyin(symbols, latin):
    assert words.pinyin(symbols) == latin
