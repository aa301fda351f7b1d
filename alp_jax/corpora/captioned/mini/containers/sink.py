"""Where archive parsers put their files: a folder nothing can escape, with limits on number and size."""

import dataclasses
import pathlib

from alp_jax.core.errors import DataError


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one package may unpack to, so that a hostile archive cannot fill the disk."""

    files: int = 50_000
    file_bytes: int = 256 * 2**20
    total_bytes: int = 4 * 2**30


class Sink:
    """Writes unpacked files under ``root/prefix``.

    Args:
      root: an existing folder.
      limits: the most that may be written.
      keep: lower-case suffixes of the files to write; others are skipped.
    """

    def __init__(self, root: pathlib.Path, limits: Limits, keep: tuple[str, ...]):
        self.root, self.limits, self._keep = root, limits, keep
        self.prefix = ""
        self.files = self.bytes = 0

    def wants(self, name: str) -> bool:
        """Whether a file called ``name`` is kept."""
        return name.lower().endswith(self._keep)

    def room(self, name: str, size: int) -> None:
        """Raises DataError when a file of ``size`` bytes is over a limit; called before anything is decompressed."""
        if size > self.limits.file_bytes:
            raise DataError(f"{name!r} unpacks to {size} bytes, more than the limit of {self.limits.file_bytes}")
        if self.bytes + size > self.limits.total_bytes or self.files >= self.limits.files:
            raise DataError(
                f"{name!r} is over the limit of {self.limits.files} files or {self.limits.total_bytes} bytes"
            )

    def write(self, name: str, data: bytes) -> None:
        """Writes one file; raises DataError if ``name`` leads out of the folder or a limit is exceeded."""
        self.room(name, len(data))
        parts = name.split("/")
        if "\0" in name or "\\" in name or ":" in parts[0] or any(part in ("", ".", "..") for part in parts):
            raise DataError(f"unsafe file name {name!r}")
        target = self.root.joinpath(self.prefix, *parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        self.files += 1
        self.bytes += len(data)
