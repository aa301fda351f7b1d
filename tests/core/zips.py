"""Zip archives for tests, also split into volumes as ``zip -s`` does it."""

import io
import struct
import zipfile


def packed(files, method=zipfile.ZIP_DEFLATED):
    """The bytes of an archive of ``files`` (name -> content)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def split(folder, stem, data, volume):
    """Writes an archive in volumes of ``volume`` bytes; the path of the last, ``stem.zip``."""
    data = bytearray(data)
    end = data.rindex(b"PK\5\6")
    count, size, directory = struct.unpack_from("<HLL", data, end + 10)
    at = directory
    for _ in range(count):
        name, extra, comment = struct.unpack_from("<HHH", data, at + 28)
        (offset,) = struct.unpack_from("<L", data, at + 42)
        struct.pack_into("<H", data, at + 34, offset // volume)
        struct.pack_into("<L", data, at + 42, offset % volume)
        at += 46 + name + extra + comment
    last = (end - 1) // volume
    struct.pack_into("<HHHHLL", data, end + 4, last, directory // volume, count, count, size, directory % volume)
    parts = [data[first : first + volume] for first in range(0, last * volume, volume)] + [data[last * volume :]]
    for number, part in enumerate(parts[:-1], 1):
        (folder / f"{stem}.z{number:02}").write_bytes(part)
    (folder / f"{stem}.zip").write_bytes(parts[-1])
    return folder / f"{stem}.zip"
