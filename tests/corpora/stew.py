"""The eight corpora of CaptionStew as their downloads lie on disk, in tiny: a few clips of a second or so each."""

import csv
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.core.zips import packed, split
from tests.data.conftest import make_sound
from tests.data.sounds import coded, muxed

SECONDS = 1.2
LEAKED = "aaaaaaaaaaT"  # a test clip of AudioCaps that WavCaps has too
HEARD = 700  # a sound of Freesound that a blacklist names
_CLOTHO = ("file_name", *(f"caption_{n}" for n in range(1, 6)))
_FACTS = ("file_name", "keywords", "sound_id", "sound_link", "start_end_samples", "manufacturer", "license")
_MUSIC = ("ytid", "start_s", "end_s", "audioset_positive_labels", "aspect_list", "caption", "author_id")


def sound(seed, seconds=SECONDS):
    return (make_sound(seed, seconds) / 32768).astype(np.float32)


def video(letter, number):
    return f"{letter * 8}{number:03}"


def plant(root):
    """Makes the tree below ``root``; the number of clips of each corpus that can be built."""
    made = (_audiocaps, _clotho, _musiccaps, _wavcaps, _audiosetcaps, _fusionaudio, _jamendomaxcaps, _paraspeechcaps)
    return {make.__name__[1:]: make(root / make.__name__[1:]) for make in made}


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def table(path, head, rows):
    text = io.StringIO()
    csv.writer(text).writerows([head, *rows])
    put(path, text.getvalue())


def _audiocaps(home):
    clips = {"train": [video("a", n) for n in range(5)], "val": [video("a", 5)], "test": [LEAKED]}
    for name, ids in clips.items():
        rows = [(n, one, 30, f"a {name} sound {n} of audiocaps") for n, one in enumerate(ids)]
        table(home / "dataset" / f"{name}.csv", ("audiocap_id", "youtube_id", "start_time", "caption"), rows)
        for n, one in enumerate(ids):
            content = muxed(sound(ord(name[1]) * 10 + n), "mp4", "aac")
            put(home / "audio" / name / f"{one}_30.m4a", content)
    return 7


def _clotho(home):
    for name, count in (("development", 3), ("validation", 1), ("evaluation", 1)):
        rows = [(f"{name} {n}.wav", *(f"{name} sound {n}, told {k}" for k in range(5))) for n in range(count)]
        facts = [
            (f"{name} {n}.wav", "a;b", 100 * len(name) + ord(name[0]) + n, "x", "[0, 44100]", "m", "CC0")
            for n in range(count)
        ]
        table(home / f"clotho_captions_{name}.csv", _CLOTHO, rows)
        table(home / f"clotho_metadata_{name}.csv", _FACTS, facts)
        for n in range(count):
            put(home / name / f"{name} {n}.wav", coded(sound(2000 + 9 * ord(name[0]) + n)))
    return 5


def _musiccaps(home):
    rows = [(video("m", n), 0, 10, "/m/1", "['slow']", f"music {n}", 1, "False", str(n == 3)) for n in range(4)]
    table(home / "musiccaps-public.csv", (*_MUSIC, "is_balanced_subset", "is_audioset_eval"), rows)
    for n in range(4):
        put(home / "wav" / f"{video('m', n)}.wav", coded(sound(3000 + n)))
    return 4


def _wavcaps(home):
    files = {"AudioSet_SL": {f"Y{video('w', 0)}": 4000, f"Y{LEAKED}": ord("e") * 10}}
    files |= {"BBC_Sound_Effects": {"NHU01": 4002}, "FreeSound": {str(HEARD): 4003, "701": 4004, "702": 4005}}
    files |= {"SoundBible": {"701": 4006}}
    names = {"AudioSet_SL": "as", "BBC_Sound_Effects": "bbc", "FreeSound": "fsd", "SoundBible": "sb"}
    for part, sounds in files.items():
        ending = ".wav" if part == "AudioSet_SL" else ""
        data = [{"id": own + ending, "caption": f"{part} {own}", "duration": SECONDS, "audio": ""} for own in sounds]
        text = json.dumps({"num_captions_per_audio": 1, "data": data})
        put(home / "json_files" / part / f"{names[part]}_final.json", text)
        if part == "FreeSound":
            put(home / "json_files" / part / "fsd_final_2s.json", text)
        content = packed({f"mnt/{part}_flac/{own}.flac": coded(sound(n), form="FLAC") for own, n in sounds.items()})
        (home / "Zip_files" / part).mkdir(parents=True)
        split(home / "Zip_files" / part, part, content, 15_000)
    lists = {"exclude_all_ac": [701], "exclude_test_ac": [HEARD, "Not found"], "exclude_ub8k_esc50_vggsound": [5]}
    for name, ids in lists.items():
        text = json.dumps({"AudioSet": [f"Y{video('q', 1)}.wav"], "FreeSound": [str(one) for one in ids]})
        put(home / "json_files" / "blacklist" / f"blacklist_{name}.json", text)
    return 7


def _audiosetcaps(home):
    ids = {"AudioSetCaps": f"Y{video('s', 0)}", "VGGSound_AudioSetCaps": f"{video('s', 1)}_000030"}
    ids |= {"YouTube-8M_AudioSetCaps": f"{video('s', 2)}_12_10"}
    for n, (name, own) in enumerate(ids.items()):
        table(home / "Dataset" / f"{name}_caption.csv", ("id", "caption"), [(own, f"{name} caption")])
        put(home / "audio" / name / f"{own}.mp3", coded(sound(5000 + n), form="MP3", subtype="MPEG_LAYER_III"))
    return 3


def _fusionaudio(home):
    record = {"instruction": "?", "input": "", "dataset": "AudioSet", "task": "audio captioning"}
    records = [record | {"audio_id": f"/x/Y{video('f', n)}.wav", "output": f"fusion {n}"} for n in range(2)]
    put(home / "FusionAudio-1.2M.json", json.dumps(records))
    for n in range(2):
        put(home / "audio" / f"Y{video('f', n)}.flac", coded(sound(6000 + n), form="FLAC"))
    return 2


def _jamendomaxcaps(home):
    spans = [(track, 0.0, 1.0) for track in range(6)] + [(track, 1.0, 2.0) for track in range(6)]
    rows = [{"id": str(t), "caption": f"track {t} at {a:g}", "start_time": a, "end_time": b} for t, a, b in spans]
    put(home / "final_caption30sec.jsonl", "\n".join(json.dumps(row) for row in rows))
    put(home / "2004-12-31.jsonl", json.dumps({"id": "0", "musicinfo": {"tags": {"genres": ["jazz"]}}}))
    audio = [
        {"bytes": coded(sound(7000 + track, 2.0), form="MP3", subtype="MPEG_LAYER_III"), "path": f"{track}.mp3"}
        for track in range(6)
    ]
    (home / "data").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"audio": audio}), home / "data" / "train-00000.parquet", row_group_size=3)
    return 12


def _paraspeechcaps(home):
    rows = {"train_scaled": ("voxceleb", "voxceleb2/id1/abcdefghijk/1.wav"), "dev": ("ears", "p1/emo_fear.wav")}
    for n, (name, (source, path)) in enumerate(rows.items()):
        columns = {"source": [source], "relative_audio_path": [path], "text_description": [[f"a {source} voice"]]}
        (home / "data").mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns | {"speakerid": ["1"]}), home / "data" / f"{name}-00000-of-00001.parquet")
        put(home / source / path, coded(sound(8000 + n)))
    return 2
