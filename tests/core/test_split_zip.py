"""Zip archives in one or several volumes give the files that went in; what is wrong with them is one line."""

import zipfile

import pytest

from alp_jax.core.errors import UserError
from alp_jax.core.split_zip import ZipArchive
from tests.core.zips import packed, split

FILES = {f"mnt/data/FreeSound_flac/{n}.flac": bytes([n]) * 40 * n + b"x" for n in range(9)} | {"mnt/é.txt": b"a"}


def content(path):
    archive = ZipArchive(path)
    return {entry.name: archive.read(entry.start, entry.length, 10_000) for entry in archive.entries()}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("volume", [97, 500, 1 << 20])
def test_what_is_read_is_what_was_packed(tmp_path, method, volume):
    path = split(tmp_path, "a", packed(FILES | {"folder/": b""}, method), volume)
    assert len(list(tmp_path.iterdir())) > (volume < 1000)
    assert content(path) == {name: (name, data) for name, data in FILES.items()}


def test_the_extra_fields_of_large_archives(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    data = packed(FILES)
    assert b"PK\6\6" in data
    (tmp_path / "large.zip").write_bytes(data)
    assert content(tmp_path / "large.zip") == {name: (name, data) for name, data in FILES.items()}


def test_no_more_is_inflated_than_asked(tmp_path):
    (tmp_path / "bomb.zip").write_bytes(packed({"a": bytes(1 << 20)}))
    archive = ZipArchive(tmp_path / "bomb.zip")
    (entry,) = archive.entries()
    assert archive.read(entry.start, entry.length, 1000) == ("a", bytes(1001))


def test_what_is_wrong_is_said_in_one_line(tmp_path):
    path = split(tmp_path, "a", packed(FILES), 500)
    first = next(ZipArchive(path).entries())
    (tmp_path / "a.z02").rename(tmp_path / "b.z02")
    with pytest.raises(UserError, match=r"a\.zip cannot be read as a zip archive: it has 3 volumes, and a\.z02 is not"):
        ZipArchive(path)
    (tmp_path / "none.zip").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"none\.zip cannot be read as a zip archive: no directory"):
        ZipArchive(tmp_path / "none.zip")
    (tmp_path / "b.z02").rename(tmp_path / "a.z02")
    archive = ZipArchive(path)
    with pytest.raises(ValueError, match="the archive has changed"):
        archive.read(first.start + 1, first.length, 100)
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes()[30:])
    with pytest.raises(UserError, match=r"a\.zip cannot be read as a zip archive"):
        list(ZipArchive(path).entries())
