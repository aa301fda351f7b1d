"""Webdataset shards read where they lie: samples, their texts, what is left out, and archives that are damaged."""

import io
import json
import tarfile

import numpy as np
import pytest
import soundfile

from alp_jax.core.clip import Rejected
from alp_jax.core.errors import UserError
from alp_jax.corpora import registry
from alp_jax.data.audio import reader as audio
from alp_jax.data.audio.containers import MemberReader
from alp_jax.data.audio.errors import BadAudio
from alp_jax.data.building.build import build


def flac(hz):
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.3 * np.sin(2 * np.pi * hz * np.arange(8000) / 16000), 16000, format="FLAC")
    return buffer.getvalue()


def shard(path, *files, form=tarfile.USTAR_FORMAT):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in files:
            content = content if isinstance(content, bytes) else content.encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def laion(caption, **more):
    return json.dumps({"text": caption, "tag": ["tone"], "original_data": {"id": 1}} | more)


def read(*metadata, **settings):
    rows = list(registry.read("folder", metadata, **settings))
    return [row for row in rows if not isinstance(row, Rejected)], [row for row in rows if isinstance(row, Rejected)]


def test_samples_as_laion_publishes_them(tmp_path, capsys):
    sounds = [flac(300), flac(900)]
    path = shard(
        tmp_path / "set" / "valid" / "name0.tar",
        *(("0.flac", sounds[0]), ("0.json", laion(["one", "two"])), ("1.flac", sounds[1]), ("1.json", laion("three"))),
    )
    clips, bad = read(path)
    assert not bad
    assert [(clip.id, clip.captions, clip.tags, clip.split) for clip in clips] == [
        ("folder:valid/name0.tar/0", ("one", "two"), ("tone",), "valid"),
        ("folder:valid/name0.tar/1", ("three",), ("tone",), "valid"),
    ]
    assert [MemberReader().read(clip.audio_path, clip.member, 1 << 20) for clip in clips] == [
        (sounds[0], ".flac"),
        (sounds[1], ".flac"),
    ]
    assert capsys.readouterr().err == (  # each once for all shards
        f"{path.parent}: split valid by the folder's name, except for rows that state another\n"
        f"{path.parent}/*.tar: ignored: original_data\n"
    )
    same, _ = read(audio=tmp_path / "set")
    assert [clip.id for clip in same] == [clip.id for clip in clips]
    assert build(same, tmp_path / "out", source_name="folder", workers=1)["splits"]["valid"]["captions"] == 3
    assert {path.name for path in (tmp_path / "set").rglob("*")} == {"valid", "name0.tar"}  # nothing was unpacked


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_folders_and_texts(tmp_path, form):
    long = "a" * 90 + "/" + "b" * 90
    files = [
        ("./d/x.1.wav", b"RIFF1"),
        ("./d/x.1.txt", " a caption \n"),
        ("./d/x.2.cls", "7"),
        ("e/x.flac", b"fLaC2"),
        ("e/x.txt", "\ufeffanother"),
        (f"{long}.ogg", b"OggS3"),
        (f"{long}.json", '{"caption": "long", "license": "CC0"}'),
        ("e/._x.flac", b"junk of macOS"),
    ]
    clips, bad = read(shard(tmp_path / "s" / "train-0.tar", *files, form=form))
    assert not bad
    assert [clip.id for clip in clips] == [f"folder:s/train-0.tar/{name}" for name in ("./d/x", "e/x", long)]
    assert [clip.captions for clip in clips] == [("a caption",), ("another",), ("long",)]
    assert (clips[0].labels, clips[2].license) == ({"cls": "7"}, "CC0")
    read_member = MemberReader().read
    found = [read_member(clip.audio_path, clip.member, 99) for clip in clips]
    assert found == [(b"RIFF1", ".wav"), (b"fLaC2", ".flac"), (b"OggS3", ".ogg")]


@pytest.mark.parametrize(
    ("files", "reason", "detail"),
    [
        ([("0.json", laion("x"))], "no_audio", "among 0.json"),
        ([("0.flac", b"x"), ("0.wav", b"y")], "ambiguous_audio", "among 0.flac, 0.wav"),
        ([("0.flac", b"x"), ("0.json", "{")], "bad_json", ""),
        ([("0.flac", b"x"), ("0.json", "[]")], "bad_json", "not a JSON object"),
        ([("0.flac", b"x"), ("0.json", '{"text": 1, "text": 2}')], "bad_json", "the key text appears twice"),
        ([("0.flac", b"x"), ("0.txt", b"caf\xe9")], "not_utf8", "0.txt: byte 0xE9 is not UTF-8"),
        ([("0.flac", b"x"), ("0.txt", "x" * ((1 << 20) + 1))], "bad_record", "1048577 bytes"),
        ([("0.flac", b"x"), ("0.json", '{"text": 3}')], "bad_record", "caption is int"),
        ([("\udce9.flac", b"x")], "not_utf8", "byte 0xE9"),
    ],
)
def test_samples_that_cannot_be_used_cost_themselves(tmp_path, files, reason, detail):
    path = shard(tmp_path / "a" / "0.tar", *files, ("ok.flac", b"x"), ("ok.json", laion("fine")))
    (clip,), (row,) = read(path)
    assert clip.captions == ("fine",)
    assert (row.reason, row.where.partition(" sample ")[0]) == (reason, str(path))
    assert detail in row.detail


def test_keys_and_parts_that_are_not_known_are_left_aside_by_name(tmp_path):
    path = shard(tmp_path / "0.tar", ("0.flac", b"x"), ("0.json", laion("x", key="0", status="ok")), ("0.npy", b"y"))
    with pytest.raises(UserError, match=r"columns 'key', 'status', '\.npy'; .* --option ignore=key,status,\.npy"):
        read(path)
    assert read(path, ignore="key,status,.npy")[0][0].captions == ("x",)


def test_archives_that_are_damaged_say_so(tmp_path):
    path = shard(tmp_path / "0.tar", ("0.flac", b"x" * 3000), ("0.json", laion("x")))
    whole = path.read_bytes()
    for data, match in (
        (whole[:2000], "0.tar is cut short: '0.flac' is incomplete"),
        (whole + whole, "continues after its end"),
        (b"no archive" * 1000, "cannot be read as a tar file"),
        (b"", "cannot be read as a tar file: empty file"),
    ):
        path.write_bytes(data)
        with pytest.raises(UserError, match=match) as caught:
            read(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"0.tar.gz must end in .* gunzip it"):
        read(path.rename(path.with_suffix(".tar.gz")))


def test_an_archive_that_changed_after_it_was_read_is_noticed(tmp_path):
    path = shard(tmp_path / "0.tar", ("0.flac", b"x" * 3000), ("0.txt", "x"))
    (clip,), _ = read(path)
    reader = MemberReader()
    for member, limit, reason in (
        (clip.member, 100, "too_large"),
        ("1024", 9999, "corrupt"),
        ("0", 9999, "corrupt"),
        ("99999", 9999, "corrupt"),
        ("x", 9999, "missing"),
    ):
        with pytest.raises(BadAudio) as caught:
            reader.read(str(path), member, limit)
        assert caught.value.reason == reason
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(BadAudio, match=r"corrupt.*'0.flac' is cut short"):
        reader.read(str(path), clip.member, 9999)
    path.unlink()
    with pytest.raises(BadAudio, match="missing"):
        audio.load(str(path), 0.0, None, audio.Limits(), clip.member)


def test_containers_are_named_from_the_lowest_folder_that_holds_all(tmp_path):
    files = ("0.flac", b"x"), ("0.json", laion("x"))
    paths = [shard(tmp_path / language / "a" / "0.tar", *files) for language in ("de", "en")]
    assert [clip.id for clip in read(*paths)[0]] == ["folder:de/a/0.tar/0", "folder:en/a/0.tar/0"]
    dots = paths[1].parent / ".." / ".." / "de" / "a" / "0.tar"
    assert [clip.id for clip in read(dots, paths[1])[0]] == ["folder:de/a/0.tar/0", "folder:en/a/0.tar/0"]
    assert [clip.id for clip in read(paths[0])[0]] == ["folder:a/0.tar/0"]


def test_a_split_by_a_folders_name_is_said_once(tmp_path, capsys):
    paths = [shard(tmp_path / "train" / f"{n}.tar", ("0.flac", b"x"), ("0.txt", "x")) for n in range(3)]
    paths += [shard(tmp_path / "dev" / f"test-{n}.tar", ("0.flac", b"x"), ("0.txt", "x")) for n in range(3)]
    clips, _ = read(*paths)
    assert [clip.split for clip in clips] == ["train"] * 3 + ["test"] * 3
    said = f"{tmp_path / 'train'}: split train by the folder's name, except for rows that state another\n"
    assert capsys.readouterr().err == said
    read(*paths, split="valid")
    assert not capsys.readouterr().err
