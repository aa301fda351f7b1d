"""What only an object store can do, on a server that speaks S3; and what is said where none can be reached."""

import concurrent.futures
import os
import sys

import fsspec
import pytest

from alp_jax.core import object_store, storage
from alp_jax.core.errors import StorageError, UserError
from tests.s3_server import s3  # noqa: F401


def test_a_bucket_holds_files_as_a_folder_does(s3, tmp_path):  # noqa: F811
    run = storage.join(s3, "runs/a")
    assert storage.tree(run) == {}
    assert storage.names(run) == []
    storage.write(storage.join(run, "config.json"), b"{}")
    (tmp_path / "x").write_bytes(b"1234")
    object_store.send(tmp_path / "x", storage.join(run, "checkpoints/3/x"))
    assert (tmp_path / "x").exists()
    assert storage.tree(run) == {"checkpoints/3/x": 4, "config.json": 2}
    assert storage.names(run) == ["checkpoints", "config.json"]
    storage.write(storage.join(run, "config.json"), b"{1}")  # what another host writes is seen: nothing is kept
    assert storage.tree(run)["config.json"] == 3
    assert storage.modified(storage.join(run, "config.json")) > 1e9
    storage.fetch(storage.join(run, "checkpoints/3/x"), tmp_path / "new" / "y")
    assert (tmp_path / "new" / "y").read_bytes() == b"1234"
    with pytest.raises(FileNotFoundError):
        storage.fetch(storage.join(run, "none"), tmp_path / "new" / "z")
    assert os.listdir(tmp_path / "new") == ["y"]
    object_store.remove_folder(storage.join(run, "checkpoints"))
    object_store.remove_folder(storage.join(run, "checkpoints"))
    assert storage.tree(run) == {"config.json": 3}
    with pytest.raises(StorageError, match=r"s3://nowhere/a could not be written: .*bucket does not exist"):
        object_store.send(tmp_path / "x", "s3://nowhere/a")


def test_of_several_writers_at_once_one_creates_an_object(s3):  # noqa: F811
    name, texts = storage.join(s3, "claims/1"), [f"writer {i}".encode() for i in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda text: object_store.create(name, text), texts))
    assert sum(won) == 1
    winner = texts[won.index(True)]
    assert storage.read(name) == winner
    assert object_store.create(name, winner)  # the same request, sent again after its answer was lost
    with pytest.raises(StorageError, match="s3://nowhere/a could not be written"):
        object_store.create("s3://nowhere/a", b"")


def test_a_place_where_no_run_can_be_is_refused_in_one_line(s3, monkeypatch):  # noqa: F811
    def refused(path):
        with pytest.raises(UserError) as error:
            storage.check_run_folder(path, "--workdir")
        return str(error.value)

    for good in ("runs/a", "/runs/a", "file:///runs/a", "memory://runs/a", f"{s3}/runs/b"):
        storage.check_run_folder(good, "--workdir")
    assert "--workdir s4://b/r: a run folder cannot be at s4://: give a path, or a URL" in refused("s4://b/r")
    assert "cannot be at https://" in refused("https://host/r")
    assert refused("gs:/b/r") == "--workdir gs:/b/r is not a URL: write gs://b/r"
    assert "bucket does not exist" in refused("s3://nowhere/r")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3")
    assert refused("s3://b/r").endswith("the package for s3:// is not installed: pip install 'alp_jax[cloud]'")


def test_missing_credentials_are_named(s3, monkeypatch, tmp_path):  # noqa: F811
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(UserError, match=r"s3://bucket/r: no credentials were found: set AWS_ACCESS_KEY_ID and"):
        storage.check_run_folder("s3://bucket/r", "--workdir")
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_a_store_of_google_is_not_tried_without_credentials(monkeypatch, tmp_path):
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    fsspec.get_filesystem_class("gs").clear_instance_cache()
    with pytest.raises(UserError, match=r"gs://bucket/r: no credentials were found: run 'gcloud auth"):
        storage.check_run_folder("gs://bucket/r", "--workdir")
    fsspec.get_filesystem_class("gs").clear_instance_cache()
