"""Debian packages fetched and unpacked without root: pinned where the archive has the pin, verified, resumable."""

import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence

from alp_jax.core import files
from alp_jax.core.errors import StorageError, UserError
from alp_jax.core.progress import Progress

Runner = Callable[[Sequence[str], pathlib.Path], subprocess.CompletedProcess]

STAMP = ".alp-package.json"
_OWN_FOLDER = "build from your own files instead: alp data build folder --audio DIR --captions FILE.csv|.jsonl"


def run_command(command: Sequence[str], cwd: pathlib.Path) -> subprocess.CompletedProcess:
    """Runs one program in ``cwd`` with plain English output; its text is captured."""
    environment = dict(os.environ, LC_ALL="C", DEBIAN_FRONTEND="noninteractive")
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def require_tools() -> None:
    """Raises UserError when this machine has no apt or dpkg-deb."""
    missing = [tool for tool in ("apt-get", "apt-cache", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        raise UserError(
            f"{', '.join(missing)} not found: the mini corpus needs a Debian or Ubuntu machine; {_OWN_FOLDER}"
        )


class Archive:
    """The package archive as apt sees it, with the machine's package lists or, without root, lists in ``cache_dir``."""

    def __init__(self, cache_dir: pathlib.Path, runner: Runner = run_command):
        self._cache, self._run = cache_dir, runner
        self._options: list[str] = []
        self.own_lists = False

    def records(self, name: str) -> list[dict[str, str]]:
        """Every available version of a package: dicts with Version, SHA256, Size, ..., newest first."""
        result = self._run(["apt-cache", *self._options, "show", "--", name], self._cache)
        return [_fields(block) for block in result.stdout.split("\n\n") if "SHA256:" in block]

    def use_own_lists(self) -> str:
        """Downloads package lists into the cache folder (no root needed); returns apt's message when that fails."""
        state, cache = self._cache / "apt" / "state", self._cache / "apt" / "cache"
        for folder in (state / "lists" / "partial", cache / "archives" / "partial"):
            folder.mkdir(parents=True, exist_ok=True)
        settings = {"Dir::State": state, "Dir::State::status": "/var/lib/dpkg/status", "Dir::Cache": cache}
        settings |= {"Debug::NoLocking": 1, "APT::Sandbox::User": ""}
        self.own_lists = True
        self._options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
        result = self._run(["apt-get", *self._options, "update"], self._cache)
        return "" if result.returncode == 0 else _last_line(result.stderr)

    def download(self, name: str, version: str, folder: pathlib.Path) -> str:
        """Downloads one ``.deb`` into ``folder``; returns apt's message when that fails, else an empty text."""
        target = f"{name}={version}" if version else name
        result = self._run(["apt-get", *self._options, "download", "--", target], folder)
        return "" if result.returncode == 0 else _last_line(result.stderr)


def _fields(block: str) -> dict[str, str]:
    pairs = (line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(" "))
    return {key: value.strip() for key, value in pairs}


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("W:")]
    return lines[-1] if lines else "no message from apt-get"


def find_deb(debs: pathlib.Path, name: str, version: str | None) -> pathlib.Path | None:
    """An already downloaded package file; ``version`` None accepts any. File names write the epoch's colon as %3a."""
    pattern = f"{name}_{version.replace(':', '%3a')}_*.deb" if version else f"{name}_*.deb"
    return next(iter(sorted(debs.glob(pattern.replace("[", "[[]")))), None)


def fetch_packages(
    names: Sequence[str],
    cache_dir: str | os.PathLike,
    pins: Mapping[str, str] | None = None,
    runner: Runner = run_command,
) -> dict[str, dict]:
    """Downloads packages into ``cache_dir/debs`` and unpacks them into ``cache_dir/raw/<package>``.

    Packages that are there already are not touched, so an interrupted call can be resumed. A package that
    the archive does not have is reported, not fatal: releases differ.

    Args:
      names: package names.
      cache_dir: where everything goes; created when missing.
      pins: package -> version to prefer.
      runner: runs a program; replaced in tests.

    Returns:
      package -> {"version", "pin", "sha256", "verified", "bytes"}, or {"missing": reason}.

    Raises:
      UserError: no apt on this machine, or none of the packages could be fetched.
      StorageError: a downloaded file does not have the checksum that the archive states, or cannot be unpacked.
    """
    cache = pathlib.Path(cache_dir).absolute()
    debs, raw = cache / "debs", cache / "raw"
    debs.mkdir(parents=True, exist_ok=True)
    raw.mkdir(parents=True, exist_ok=True)
    done = {name: read_stamp(raw / name) for name in names if (raw / name / STAMP).exists()}
    todo = [name for name in names if name not in done]
    if not todo:
        return {name: done[name] for name in names}
    require_tools()
    archive = Archive(cache, runner)
    trouble = ""
    with Progress("fetch packages", len(todo), "packages") as progress:
        for name in todo:
            pin = (pins or {}).get(name, "")
            done[name] = _fetch_one(archive, name, pin, debs, raw, runner)
            if "missing" in done[name] and not archive.own_lists:  # no lists on this machine, or old ones
                trouble = archive.use_own_lists()
                done[name] = _fetch_one(archive, name, pin, debs, raw, runner)
            progress.update(1, name)
    if all("missing" in entry for entry in done.values()):
        trouble = trouble or done[todo[0]]["missing"]
        raise UserError(f"apt has none of the packages ({trouble}): run `apt-get update` (needs root) or {_OWN_FOLDER}")
    return {name: done[name] for name in names}


def read_stamp(package_dir: pathlib.Path) -> dict:
    """What was recorded when a package was unpacked."""
    return files.read_json(package_dir / STAMP, "package record")


def _fetch_one(archive: Archive, name: str, pin: str, debs: pathlib.Path, raw: pathlib.Path, runner: Runner) -> dict:
    # the pinned version if the archive has it, else the newest; None if the package is unknown
    records = archive.records(name)
    record = next((record for record in records if record["Version"] == pin), records[0] if records else None)
    deb = find_deb(debs, name, record["Version"] if record else None)
    if deb is not None and record and files.sha256(deb) != record["SHA256"]:
        deb.unlink()
        deb = None
    if deb is None:
        with tempfile.TemporaryDirectory(dir=debs, prefix=".download-") as folder:
            problem = archive.download(name, record["Version"] if record else "", pathlib.Path(folder))
            downloaded = find_deb(pathlib.Path(folder), name, None)
            if problem or downloaded is None:
                return {"missing": problem or "apt-get left no file"}
            deb = debs / downloaded.name
            os.replace(downloaded, deb)
    digest = files.sha256(deb)
    if record and digest != record["SHA256"]:
        raise StorageError(
            f"{deb} has SHA-256 {digest[:12]}..., but the archive says {record['SHA256'][:12]}...: delete it"
        )
    entry = {
        "package": name,
        "version": record["Version"] if record else deb.name.split("_")[1].replace("%3a", ":"),
        "pin": pin,
        "sha256": digest,
        "verified": record is not None,
        "bytes": deb.stat().st_size,
    }
    with files.whole_folder(raw / name) as made:
        result = runner(["dpkg-deb", "-x", str(deb), str(made)], raw)
        if result.returncode != 0:
            raise StorageError(f"{deb} cannot be unpacked: {_last_line(result.stderr)}")
        files.write_json(made / STAMP, entry)
    return entry
