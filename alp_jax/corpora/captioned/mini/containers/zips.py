"""Zip archives under any name (.pk3, .wz)."""

import pathlib
import stat
import zipfile
import zlib

from alp_jax.core.errors import DataError
from alp_jax.corpora.captioned.mini.containers.sink import Sink


def unpack_zip(path: pathlib.Path, sink: Sink) -> None:
    """Writes the wanted members of a zip file to ``sink``; links and directories are passed over.

    Raises:
      DataError: not a zip file, damaged, unsafe names, or over the limits.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                is_link = stat.S_ISLNK(info.external_attr >> 16)
                if info.is_dir() or is_link or not sink.wants(info.filename):
                    continue
                sink.room(info.filename, info.file_size)
                with archive.open(info) as member:
                    data = member.read(info.file_size + 1)
                if len(data) != info.file_size:
                    raise DataError(f"member {info.filename!r} is not as long as the archive says")
                sink.write(info.filename, data)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DataError(f"not a readable zip archive: {error}") from None
