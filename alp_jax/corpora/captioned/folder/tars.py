"""Samples of webdataset shards, read where they lie: nothing is unpacked, and audio is found again by its offset.

A sample consists of consecutive files whose names agree up to the first dot of the last part: ``0.flac``, ``0.json``.
In a sample ``.json`` holds columns (LAION's audio-dataset: ``text``, a text or a list, ``tag``, and ``original_data``,
which is ignored), ``.txt`` a caption, and ``.cls`` a label of the task ``cls``.
"""

import json
import os
import pathlib
import tarfile
from collections.abc import Iterator

from alp_jax.core.clip import AUDIO_EXTENSIONS, OTHER_EXTENSIONS, Rejected
from alp_jax.core.errors import UserError
from alp_jax.corpora import tables
from alp_jax.corpora.captioned.folder.columns import AUDIO, CAPTION, LABEL, Column, Columns
from alp_jax.corpora.captioned.folder.tables import Rows, row_of
from alp_jax.corpora.rows import BadRow, check_utf8

# audio formats, including those that the decoder refuses: the build then reports each file
_SOUNDS = AUDIO_EXTENSIONS | OTHER_EXTENSIONS
_SIDES = {".json", ".txt", ".cls"}
_ASIDE = ("original_data",)
_LARGEST_TEXT = 1 << 20  # bytes of a member other than audio
_MOST_MEMBERS = 64  # of one sample
_PADDING = 1 << 20  # bytes after the end that are examined


def rows(path: pathlib.Path, known: Columns) -> Rows:
    """The samples of a shard in their order.

    Raises:
      UserError: it is not a tar file, is damaged, continues after its end, or has unknown columns.
    """
    try:
        with tarfile.open(path, "r:", errorlevel=1) as archive:
            sample: list[tarfile.TarInfo] = []
            size = path.stat().st_size
            for member in _members(archive, path, size):
                if sample and _key(member) != _key(sample[0]):
                    yield _sample(path, archive, sample, known)
                    sample = []
                if len(sample) == _MOST_MEMBERS:
                    raise UserError(f"{path}: more than {_MOST_MEMBERS} files named {_key(member)!a}")
                sample.append(member)
            if sample:
                yield _sample(path, archive, sample, known)
            _check_end(path, archive.offset)
    except (tarfile.TarError, OSError, EOFError) as error:
        problem = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"{path} cannot be read as a tar file: {problem}") from None


def _members(archive: tarfile.TarFile, path: pathlib.Path, size: int) -> Iterator[tarfile.TarInfo]:
    """The plain files of an archive, one at a time in memory."""
    while (member := archive.next()) is not None:
        archive.members = []
        if member.isreg() and not member.issparse() and not os.path.basename(member.name).startswith("."):
            if member.offset_data + member.size > size:
                raise UserError(f"{path} is cut short: {member.name!a} is incomplete")
            yield member


def _check_end(path: pathlib.Path, end: int) -> None:
    """Raises UserError if more than padding follows the end of an archive: a second one there would be missed."""
    with open(path, "rb") as file:
        file.seek(end)
        if file.read(_PADDING).strip(b"\0"):
            raise UserError(f"{path} continues after its end (joined archives?): unpack it and pack it again")


def _key(member: tarfile.TarInfo) -> str:
    folder, _, name = member.name.rpartition("/")
    return f"{folder}/{name.partition('.')[0]}" if folder else name.partition(".")[0]


def _extension(member: tarfile.TarInfo) -> str:
    return os.path.splitext(member.name)[1].lower()


def _sample(path: pathlib.Path, archive: tarfile.TarFile, sample: list[tarfile.TarInfo], known: Columns):
    key = _key(sample[0])
    where = f"{path} sample {key if key.isprintable() else ascii(key)}"
    try:
        check_utf8(key, "name")
        sounds = [member for member in sample if _extension(member) in _SOUNDS]
        if len(sounds) != 1:
            names = ", ".join(member.name for member in sample)
            raise BadRow("ambiguous_audio" if sounds else "no_audio", f"among {names}")
        texts = {}
        for member in sample:
            if _extension(member) in _SIDES:
                texts[_extension(member)] = _text(archive, member)
        others = {_extension(member): "" for member in sample if _extension(member) not in _SOUNDS | _SIDES}
        record = _record(texts.get(".json", "{}")) | others
        audio_at = {"container": str(path.absolute()), "member": str(sounds[0].offset_data), "name": key}
        used = known.of(tuple(record), str(path.with_name("*.tar")), where, inside=AUDIO, aside=_ASIDE)
        pairs = [(column.name, column) for column in used if column.meaning != AUDIO]
        for extension, column in ((".txt", Column(".txt", CAPTION)), (".cls", Column(".cls", LABEL, "cls"))):
            if extension in texts:
                record[extension] = texts[extension].strip()
                pairs.append((extension, column))
        return row_of(where, record, pairs, **audio_at)
    except BadRow as error:
        return Rejected(where, error.reason, error.detail)


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.size > _LARGEST_TEXT:
        raise BadRow("bad_record", f"{member.name} has {member.size} bytes")
    try:
        return archive.extractfile(member).read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise BadRow("not_utf8", f"{member.name}: byte 0x{byte:02X} is not UTF-8") from None


def _record(text: str) -> dict:
    try:
        record = json.loads(text, object_pairs_hook=tables.once)
    except (ValueError, RecursionError) as error:
        raise BadRow("bad_json", str(error)) from None
    if isinstance(record, tables.Repeated):
        raise BadRow("bad_json", f"the key {record!s} appears twice")
    if not isinstance(record, dict):
        raise BadRow("bad_json", "not a JSON object")
    return record
