"""Fetching packages with a stand-in for apt: pins, checksums, resuming, missing packages, machines without apt."""

import hashlib
import pathlib
import subprocess

import pytest

from alp_jax.core.errors import StorageError, UserError
from alp_jax.corpora.captioned.mini import apt


class FakeApt:
    """Plays apt-get, apt-cache and dpkg-deb. ``archive``: package -> {version: bytes of the .deb}."""

    def __init__(self, archive, lists=True, corrupt=(), update_works=True, stale=False):
        self.archive, self.lists, self.corrupt, self.update_works = archive, lists, corrupt, update_works
        self.stale = stale
        self.calls = []

    def __call__(self, command, cwd):
        assert isinstance(command, list), "programs are started from argument lists, never from a shell line"
        self.calls.append(command)
        if "show" in command:
            versions = self.archive.get(command[-1], {}) if self.lists else {}
            blocks = [
                f"Package: {command[-1]}\nVersion: {version}\nDescription: x\n y: z\n"
                f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
                for version, data in versions.items()
            ]
            return self.answer(0, "\n".join(blocks))
        if "update" in command:
            self.lists, self.stale = self.lists or self.update_works, False
            return self.answer(0 if self.update_works else 100, "", "W: x\nE: no network\n")
        if "download" in command:
            name, _, version = command[-1].partition("=")
            if self.stale:
                return self.answer(100, "", "E: Failed to fetch: 404  Not Found\n")
            if not self.lists or name not in self.archive:
                return self.answer(100, "", f"E: Unable to locate package {name}\n")
            version = version or next(iter(self.archive[name]))
            data = b"damaged" if name in self.corrupt else self.archive[name][version]
            (pathlib.Path(cwd) / f"{name}_{version.replace(':', '%3a')}_all.deb").write_bytes(data)
            return self.answer(0)
        assert command[:2] == ["dpkg-deb", "-x"]
        (pathlib.Path(command[3]) / "file").write_bytes(pathlib.Path(command[2]).read_bytes())
        return self.answer(0)

    @staticmethod
    def answer(code, out="", err=""):
        return subprocess.CompletedProcess([], code, out, err)


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    monkeypatch.setattr(apt.shutil, "which", lambda tool: f"/bin/{tool}")


def test_pin_is_taken_when_it_is_there_else_the_newest(tmp_path):
    fake = FakeApt({"a": {"1:3": b"new", "1:2": b"old"}, "b": {"9": b"nine"}})
    got = apt.fetch_packages(["a", "b"], tmp_path, {"a": "1:2", "b": "8"}, fake)
    assert (got["a"]["version"], got["b"]["version"], got["b"]["pin"]) == ("1:2", "9", "8")
    assert (tmp_path / "raw" / "a" / "file").read_bytes() == b"old"
    assert (tmp_path / "debs" / "a_1%3a2_all.deb").exists()
    assert got["a"]["sha256"] == hashlib.sha256(b"old").hexdigest()
    assert got["a"]["verified"]


def test_second_call_runs_nothing_and_says_the_same(tmp_path):
    fake = FakeApt({"a": {"1": b"x"}})
    first = apt.fetch_packages(["a"], tmp_path, {}, fake)
    fake.calls.clear()
    assert apt.fetch_packages(["a"], tmp_path, {}, fake) == first
    assert fake.calls == []


def test_goes_on_where_it_stopped(tmp_path):
    fake = FakeApt({"a": {"1": b"x"}, "b": {"1": b"y"}})
    apt.fetch_packages(["a"], tmp_path, {}, fake)
    (tmp_path / "raw" / ".b.half").mkdir()
    fake.calls.clear()
    apt.fetch_packages(["a", "b"], tmp_path, {}, fake)
    assert [call[-1] for call in fake.calls if "download" in call] == ["b=1"]


def test_a_damaged_old_download_is_fetched_again(tmp_path):
    (tmp_path / "debs").mkdir()
    (tmp_path / "debs" / "a_1_all.deb").write_bytes(b"half")
    apt.fetch_packages(["a"], tmp_path, {}, FakeApt({"a": {"1": b"whole"}}))
    assert (tmp_path / "raw" / "a" / "file").read_bytes() == b"whole"


def test_wrong_checksum_stops_and_leaves_no_package(tmp_path):
    with pytest.raises(StorageError, match="SHA-256"):
        apt.fetch_packages(["a"], tmp_path, {}, FakeApt({"a": {"1": b"x"}}, corrupt={"a"}))
    assert not (tmp_path / "raw" / "a").exists()


def test_a_package_this_release_does_not_have_is_reported(tmp_path):
    got = apt.fetch_packages(["a", "zzz"], tmp_path, {}, FakeApt({"a": {"1": b"x"}}))
    assert got["zzz"] == {"missing": "E: Unable to locate package zzz"}
    assert (tmp_path / "raw" / "a").is_dir()


def test_without_package_lists_own_ones_are_made_in_the_cache(tmp_path):
    fake = FakeApt({"a": {"1": b"x"}}, lists=False)
    assert apt.fetch_packages(["a"], tmp_path, {}, fake)["a"]["verified"]
    update = next(call for call in fake.calls if "update" in call)
    assert f"Dir::State={tmp_path / 'apt' / 'state'}" in update
    assert (tmp_path / "apt" / "state" / "lists" / "partial").is_dir()


def test_old_package_lists_are_replaced_by_own_ones(tmp_path):
    got = apt.fetch_packages(["a", "b"], tmp_path, {}, FakeApt({"a": {"1": b"x"}, "b": {"1": b"y"}}, stale=True))
    assert [entry["version"] for entry in got.values()] == ["1", "1"]


def test_nothing_to_be_had_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"no network.*apt-get update.*alp data build folder --audio DIR") as caught:
        apt.fetch_packages(["a"], tmp_path, {}, FakeApt({}, lists=False, update_works=False))
    assert "\n" not in str(caught.value)


def test_machine_without_apt(tmp_path, monkeypatch):
    monkeypatch.setattr(apt.shutil, "which", lambda tool: None)
    with pytest.raises(UserError, match=r"apt-get.*not found.*alp data build folder --audio DIR --captions FILE"):
        apt.fetch_packages(["a"], tmp_path)


def test_machine_without_apt_by_path(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get, apt-cache, dpkg-deb not found"):
        apt.require_tools()


def test_failed_unpacking_leaves_nothing(tmp_path):
    class Broken(FakeApt):
        def __call__(self, command, cwd):
            if command[0] == "dpkg-deb":
                return self.answer(2, "", "dpkg-deb: error: not a Debian archive\n")
            return super().__call__(command, cwd)

    with pytest.raises(StorageError, match="not a Debian archive"):
        apt.fetch_packages(["a"], tmp_path, {}, Broken({"a": {"1": b"x"}}))
    assert list((tmp_path / "raw").iterdir()) == []


def test_real_programs_are_run_with_plain_english_output(tmp_path):
    result = apt.run_command(["sh", "-c", "echo $LC_ALL; pwd"], tmp_path)
    assert result.stdout.split() == ["C", str(tmp_path)]
