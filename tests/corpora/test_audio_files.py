"""Finding audio by name: one scan, no guessing."""

import os
import pathlib

import pytest

from alp_jax.core.errors import UserError
from alp_jax.corpora.audio_files import AudioFiles, below
from alp_jax.corpora.rows import BadRow


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_the_first_stem_that_has_a_file_wins(tmp_path):
    touch(tmp_path, "a/x_1.FLAC", "b/x.wav", "c.txt", ".hidden/y.wav", "._z.wav")
    files = AudioFiles(tmp_path)
    assert files.path(["x_1", "x"]) == str(tmp_path / "a" / "x_1.FLAC")
    assert files.path(["nothing", "x"]) == str(tmp_path / "b" / "x.wav")
    for absent in ("c", "y", "z"):
        assert files.path([absent]) == str(tmp_path / f"{absent}.wav")
    assert AudioFiles(None).path(["x"]) == ""


def test_the_folder_is_scanned_once(tmp_path, monkeypatch):
    touch(tmp_path, "a/x.wav", "y.mp3")
    scanned = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: scanned.append(folder) or scandir(folder))
    files = AudioFiles(tmp_path)
    for _ in range(3):
        files.path(["x", "y"])
    assert sorted(scanned) == [str(tmp_path), str(tmp_path / "a")]


def test_one_name_in_two_folders_is_refused(tmp_path):
    touch(tmp_path, "a/x.wav", "b/x.flac", "a/y.wav", "a/y.flac")
    files = AudioFiles(tmp_path)
    with pytest.raises(BadRow, match=r"ambiguous_audio: .*a/x.wav and .*b/x.flac"):
        files.path(["x"])
    assert files.path(["y"]).endswith("a/y.flac")


def test_files_that_need_converting_come_last_and_are_not_missing(tmp_path):
    touch(tmp_path, "audio/a.wav", "video/a.mp4", "audio/b.webm", "audio/b.m4a", "audio/c.wma", "d.WMA", "d.m4a")
    files = AudioFiles(tmp_path)
    for stem, name in {"a": "audio/a.wav", "b": "audio/b.m4a", "c": "audio/c.wma", "d": "d.m4a"}.items():
        assert files.path([stem]) == str(tmp_path / name)
    touch(tmp_path, "x/e.mp4", "y/e.webm")
    with pytest.raises(BadRow, match="ambiguous_audio"):
        AudioFiles(tmp_path).path(["e"])


def test_folders_named_for_something_else_are_left_out(tmp_path):
    touch(tmp_path, "FreeSound_flac/1.flac", "deep/SoundBible_flac/1.flac", "other/2.flac")
    files = AudioFiles(tmp_path, leave_out=("freesound",), keep=("soundbible",))
    assert files.path(["1"]).endswith("SoundBible_flac/1.flac")
    assert files.path(["2"]).endswith("other/2.flac")


def test_links_are_followed_and_loops_end(tmp_path):
    touch(tmp_path, "elsewhere/x.wav")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "loop").symlink_to(tmp_path / "root")
    assert AudioFiles(tmp_path / "root").path(["x"]) == str(tmp_path / "root" / "link" / "x.wav")


def test_folders_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    touch(tmp_path, "locked/x.wav")
    scandir = os.scandir

    def refuse(folder):
        if str(folder).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"locked cannot be read: Permission denied"):
        AudioFiles(tmp_path).path(["x"])


@pytest.mark.parametrize("stem", ["../x", "/etc/x", "", "a\0b"])
def test_stems_that_are_no_file_names(tmp_path, stem):
    with pytest.raises(BadRow, match="bad_id"):
        AudioFiles(tmp_path).path([stem])


def test_paths_below_a_root():
    root = pathlib.Path("/data/audio")
    assert below(root, "a/./b.wav") == "/data/audio/a/b.wav"
    assert below(root, "/data/audio/b.wav") == "/data/audio/b.wav"
    assert below(pathlib.Path("/"), "/b.wav") == "/b.wav"
    assert below(None, "a.wav") == ""
    with pytest.raises(BadRow, match="outside_folder"):
        below(None, "a/../../x.wav")
    for name in ("../x.wav", "/data/audio2/x.wav", "/etc/passwd", "."):
        with pytest.raises(BadRow, match="outside_folder"):
            below(root, name)


def test_folders_whose_names_are_not_utf8(tmp_path):
    os.makedirs(os.fsencode(tmp_path) + b"/caf\xe9")
    open(os.fsencode(tmp_path) + b"/caf\xe9/x.wav", "wb").close()
    with pytest.raises(BadRow, match="not_utf8: audio file: byte 0xE9"):
        AudioFiles(tmp_path).path(["x"])


def test_stems_in_another_unicode_form_are_found(tmp_path):
    (tmp_path / "Cafe\u0301.wav").touch()
    files = AudioFiles(tmp_path)
    assert files.find("Caf\u00e9") == str(tmp_path / "Cafe\u0301.wav")
    assert files.find("Caf\u00e8") == ""
    for name in ("e\u0323\u0302.wav", "e\u0302\u0323.wav"):
        (tmp_path / name).touch()
    with pytest.raises(BadRow, match=r"ambiguous_audio: .* after Unicode normalisation"):
        AudioFiles(tmp_path).find("\u1ec7")
