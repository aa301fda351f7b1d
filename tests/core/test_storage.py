"""Files by path or URL."""

import os
import pathlib

import pytest

from alp_jax.core import storage
from alp_jax.core.errors import StorageError, UserError


@pytest.fixture(params=["path", "file url", "memory url"])
def folder(request, tmp_path):
    return {"path": tmp_path, "file url": f"file://{tmp_path}", "memory url": f"memory://{tmp_path.name}"}[
        request.param
    ]


def test_what_is_written_is_read_wherever_it_lies(folder):
    path = storage.join(folder, "a.bin")
    assert storage.size(path) == -1
    assert storage.names(folder) == []
    storage.write(path, bytes(range(100)))
    assert storage.size(path) == 100
    assert storage.sizes(folder) == {"a.bin": 100}
    assert storage.read(path) == bytes(range(100))
    if storage.is_remote(path):  # of local files data/store/records.py reads ranges
        ranges = [(path, 10, 5), (path, 98, 5), (path, 3, 2)]
        assert storage.read_ranges(ranges) == [bytes(range(10, 15)), bytes(range(98, 100)), bytes([3, 4])]
    with storage.open_binary(path) as file:
        file.seek(-2, os.SEEK_END)
        assert file.read() == bytes([98, 99])
    assert storage.names(folder) == ["a.bin"]
    storage.remove(path)
    storage.remove(path)
    assert storage.size(path) == -1
    with pytest.raises(OSError):
        storage.read(path)


def test_a_file_is_there_whole_or_not_at_all(folder):
    path = storage.join(folder, "a.bin")
    storage.write(path, b"old")

    def break_off():
        with storage.partial(path) as partial:
            partial.write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        break_off()
    assert storage.read(path) == b"old"
    with storage.partial(path) as partial:
        partial.write_bytes(b"whole")
        assert storage.read(path) == b"old"
    assert storage.read(path) == b"whole"
    assert storage.names(folder) == ["a.bin"]
    assert not partial.exists()
    with pytest.raises(StorageError, match=r"a\.bin could not be written: .*No space"), storage.partial(path):
        raise OSError("No space left on device")
    assert storage.read(path) == b"whole"


def test_partial_files_of_one_process_do_not_meet(tmp_path):
    with storage.partial(tmp_path / "new" / "a") as one, storage.partial(tmp_path / "new" / "a") as other:
        assert one != other
        one.write_bytes(b"1")
        other.write_bytes(b"2")
    assert (tmp_path / "new" / "a").read_bytes() == b"1"  # the outer block ends last
    assert oct((tmp_path / "new" / "a").stat().st_mode & 0o777) == "0o644"
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"), storage.partial(tmp_path / "file" / "a"):
        pass


def test_names_in_a_folder_are_relative_or_stand_for_themselves():
    assert storage.resolve("/data/set", "a.bin") == "/data/set/a.bin"
    assert storage.resolve("gs://b/set/", "a.bin") == "gs://b/set/a.bin"
    for whole in ("/other/a.bin", "gs://b/a.bin", "file:///x/a.bin"):
        assert storage.resolve("/data/set", whole) == whole
    assert storage.local("file:///x/a.bin") == pathlib.Path("/x/a.bin")
    with pytest.raises(UserError, match="gs://b/a is remote"):
        storage.local("gs://b/a")
    with pytest.raises(UserError, match="nosuch:// is not known: use a path, or a URL"):
        storage.read("nosuch://x/a")


def test_a_copy_is_fetched_once(tmp_path):
    storage.write("memory://copies/a", b"first")
    copy = storage.local_copy("memory://copies/a", tmp_path / "cache", "a-1")
    storage.write("memory://copies/a", b"other")
    assert storage.local_copy("memory://copies/a", tmp_path / "cache", "a-1") == copy
    assert copy.read_bytes() == b"first"
    assert storage.local_copy("memory://copies/a", tmp_path / "cache", "a-2").read_bytes() == b"other"
    assert storage.local_copy(tmp_path / "x", tmp_path / "cache", "a-3") == tmp_path / "x"
    assert sorted(os.listdir(tmp_path / "cache")) == ["a-1", "a-2"]
