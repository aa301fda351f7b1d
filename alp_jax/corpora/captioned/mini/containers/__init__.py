"""Archives inside packages (zip, Qt resources, OpenTTD sound sets) unpacked into plain files, all or nothing."""

import pathlib
import stat
import zipfile
import zlib

from alp_jax.core.errors import DataError
from alp_jax.core.files import whole_folder
from alp_jax.corpora.captioned.mini.containers.opensfx import unpack_cat
from alp_jax.corpora.captioned.mini.containers.rcc import unpack_rcc
from alp_jax.corpora.captioned.mini.containers.sink import Limits, Sink

KEEP = (".ogg", ".oga", ".wav", ".flac", ".txt", ".json", ".csv")


def unpack_zip(path: pathlib.Path, sink: Sink) -> None:
    """Writes the wanted members of a zip file to ``sink``; links and directories are skipped.

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


PARSERS = {".pk3": unpack_zip, ".wz": unpack_zip, ".zip": unpack_zip, ".rcc": unpack_rcc, ".cat": unpack_cat}


def unpack(package_dir: pathlib.Path, out_dir: pathlib.Path, limits: Limits | None = None) -> int:
    """Unpacks every archive of ``package_dir`` into ``out_dir/<archive path>/``; returns how many files were written.

    ``out_dir`` appears whole or not at all, and a call that finds it does nothing. Only audio and small text is kept.

    Raises:
      DataError: an archive is damaged, names a file outside its folder or is larger than ``limits``.
    """
    if out_dir.exists():
        return 0
    found = (path for path in package_dir.rglob("*") if path.suffix.lower() in PARSERS)
    with whole_folder(out_dir) as made:
        sink = Sink(made, limits or Limits(), KEEP)
        for container in sorted(path for path in found if path.is_file() and not path.is_symlink()):
            sink.prefix = container.relative_to(package_dir).as_posix()
            try:
                PARSERS[container.suffix.lower()](container, sink)
            except DataError as error:
                raise DataError(f"{container}: {error}") from None
    return sink.files
