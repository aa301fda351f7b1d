"""Archive parsers: what they write, and that damaged or hostile bytes are refused before anything is left behind."""

import io
import json
import stat
import struct
import zipfile
import zlib

import pytest

from alp_jax.core.errors import DataError
from alp_jax.corpora.captioned.mini import containers
from alp_jax.corpora.captioned.mini.containers.sink import Limits, Sink


def make_zip(members, link=None):
    blob = io.BytesIO()
    with zipfile.ZipFile(blob, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
    return blob.getvalue()


def make_rcc(name="a.wav", data=b"sound", version=1, compressed=False, children=(1, 1), claim=None):
    """A root folder with one file."""
    raw = struct.pack(">I", claim if claim is not None else len(data)) + zlib.compress(data) if compressed else data
    blob_data = struct.pack(">I", len(raw)) + raw
    blob_names = struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    extra = b"" if version == 1 else bytes(8)
    tree = struct.pack(">IHII", 0, 2, *children) + extra
    tree += struct.pack(">IHII", 0, int(compressed), 0, 0) + extra
    head = 20
    return (
        b"qres"
        + struct.pack(">4I", version, head, head + len(tree), head + len(tree) + len(blob_data))
        + tree
        + blob_data
        + blob_names
    )


def make_cat(entries):
    bodies = [bytes([len(text)]) + text + b"RIFF" + struct.pack("<I", len(wave)) + wave for text, wave in entries]
    offset, table = 8 * len(bodies), b""
    for body in bodies:
        table += struct.pack("<II", offset | 0x80000000, len(body))
        offset += len(body)
    return table + b"".join(bodies)


def unpack(tmp_path, name, blob, limits=None):
    package = tmp_path / "package"
    package.mkdir(exist_ok=True)
    (package / name).write_bytes(blob)
    out = tmp_path / "out"
    containers.unpack(package, out, limits)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def refused(tmp_path, name, blob, match, limits=None):
    with pytest.raises(DataError, match=match):
        unpack(tmp_path, name, blob, limits)
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["package"], "a temporary folder was left"


def test_zip_keeps_audio_and_passes_over_links_and_code(tmp_path):
    blob = make_zip({"sound/a.ogg": b"1", "script.py": b"2"}, link="sound/link.ogg")
    assert unpack(tmp_path, "0snd.pk3", blob) == {"0snd.pk3/sound/a.ogg": b"1"}


@pytest.mark.parametrize("name", ["../a.ogg", "/a.ogg", "x/../../a.ogg", "c:/a.ogg", "x\\a.ogg"])
def test_zip_names_cannot_leave_the_folder(tmp_path, name):
    refused(tmp_path, "a.zip", make_zip({name: b"1"}), "unsafe file name")
    assert not (tmp_path.parent / "a.ogg").exists()


def test_zip_limits_on_size_and_number(tmp_path):
    bomb = make_zip({"a.wav": bytes(5000)})
    refused(tmp_path, "a.zip", bomb, "more than the limit of 4000", Limits(file_bytes=4000))
    many = make_zip({f"{i}.wav": b"x" for i in range(4)})
    refused(tmp_path, "a.zip", many, "limit of 3 files", Limits(files=3))
    refused(tmp_path, "a.zip", make_zip({"a.wav": b"xx", "b.wav": b"xx"}), "3 bytes", Limits(total_bytes=3))


def test_truncated_zip_is_refused(tmp_path):
    refused(tmp_path, "a.zip", make_zip({"a.wav": bytes(range(200))})[:-30], "not a readable zip")


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("compressed", [False, True])
def test_rcc(tmp_path, version, compressed):
    blob = make_rcc(version=version, compressed=compressed)
    assert unpack(tmp_path, "x.rcc", blob) == {"x.rcc/a.wav": b"sound"}


def test_every_truncation_of_rcc_is_refused(tmp_path):
    blob = make_rcc(compressed=True)
    for size in range(len(blob)):
        refused(tmp_path, "x.rcc", blob[:size], "Qt resource|not a|damaged")


def test_hostile_rcc(tmp_path):
    refused(tmp_path, "x.rcc", make_rcc(name="../a.wav"), "unsafe")
    refused(tmp_path, "x.rcc", make_rcc(children=(1, 0)), "loops")
    refused(tmp_path, "x.rcc", make_rcc(children=(2**31, 1)), "too large")
    refused(tmp_path, "x.rcc", make_rcc(compressed=True, claim=2**31), "limit")
    refused(tmp_path, "x.rcc", make_rcc(compressed=True, claim=2), "not as long")
    refused(tmp_path, "x.rcc", make_rcc(version=9), "version 9")


def test_cat_gives_waves_and_their_sentences(tmp_path):
    found = unpack(tmp_path, "s.cat", make_cat([(b'"Ship horn". By A.\0', b"one"), (b'"Cow". By B.\0', b"two!")]))
    assert found["s.cat/00.wav"] == b"RIFF\x03\0\0\0one"
    assert found["s.cat/01.wav"] == b"RIFF\x04\0\0\0two!"
    assert json.loads(found["s.cat/index.json"]) == {"00.wav": '"Ship horn". By A.', "01.wav": '"Cow". By B.'}


def test_every_truncation_of_cat_is_refused(tmp_path):
    blob = make_cat([(b"A\0", b"12345")])
    for size in range(len(blob)):
        refused(tmp_path, "s.cat", blob[:size], "sound")


def test_unpack_is_done_once(tmp_path):
    unpack(tmp_path, "a.zip", make_zip({"a.wav": b"1"}))
    assert unpack(tmp_path, "a.zip", make_zip({"a.wav": b"2"})) == {"a.zip/a.wav": b"1"}


def test_sink_accepts_plain_names(tmp_path):
    sink = Sink(tmp_path, Limits(), (".wav",))
    sink.write("a b/ü.wav", b"1")
    assert (tmp_path / "a b" / "ü.wav").read_bytes() == b"1"
    assert sink.wants("A.WAV")
    assert not sink.wants("a.exe")
