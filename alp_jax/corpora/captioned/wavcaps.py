"""WavCaps (Mei et al. 2023): web sounds with captions that a language model wrote from their descriptions.

Published as one JSON file per source: ``as_final.json`` (AudioSet, strongly labelled part), ``bbc_final.json``,
``fsd_final.json`` (FreeSound) and ``sb_final.json`` (SoundBible), each
``{"num_captions_per_audio": 1, "data": [{id, caption, duration, audio, ...}]}``; ``audio`` and ``download_link`` are
not used. The tree ``json_files`` has a folder for each source, and of FreeSound a second file, ``fsd_final_2s.json``,
with the sounds of 2 s and more: it is read only if the first is not given. The audio is one flac file per id, in zip
archives of several volumes (``FreeSound.z01``, ..., ``FreeSound.zip``), which are read where they lie, or unpacked,
below folders such as ``AudioSet_SL_flac``. Ids of FreeSound and SoundBible are numbers that collide, so folders and
archives named after another source are not searched. The sources are mixed and counted as ``wavcaps_<source>``.
"""

import dataclasses
import pathlib
import re
from collections.abc import Sequence

from alp_jax.core.clip import Clip
from alp_jax.core.errors import UserError
from alp_jax.core.progress import say
from alp_jax.corpora import json_stream, youtube
from alp_jax.corpora.archived import ArchivedFiles
from alp_jax.corpora.audio_files import AudioFiles
from alp_jax.corpora.corpus import Clips, Corpus, Option
from alp_jax.corpora.rows import BadRow, captions, identifier, stated_seconds, tags, to_clips


@dataclasses.dataclass(frozen=True)
class _Part:
    recording: str  # namespace
    words: tuple[str, ...]  # in names of files and folders
    form: str  # of its ids


_PARTS = {
    "audioset": _Part("youtube", ("audioset", "as"), r".+"),
    "bbc": _Part("bbc", ("bbc",), r"[A-Za-z0-9_.-]+"),
    "freesound": _Part("freesound", ("freesound", "fsd"), r"\d+"),
    "soundbible": _Part("soundbible", ("soundbible", "sb"), r"\d+"),
}

_NAMES = ("_final.json", "_final_2s.json")
_FREESOUND, _LONGER = "fsd_final.json", "fsd_final_2s.json"


def clips(
    metadata: Sequence[pathlib.Path], audio: pathlib.Path | str | None = None, split: str | None = None, part: str = ""
) -> Clips:
    """One clip per record; the split is ``train`` unless one is given.

    Raises:
      UserError: a file has another structure, or a name that does not tell the source.
    """
    for path in _files(metadata):
        name = part or _part_of(path)
        others = [word for other in _PARTS for word in _PARTS[other].words if other != name]
        files = ArchivedFiles(AudioFiles(audio, leave_out=others, keep=_PARTS[name].words))
        rows = json_stream.json_rows(path, "data", ("id", "caption"))
        yield from to_clips(f"{path} record", rows, _clip, name, split or "train", files)


def _files(metadata: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """The caption files, including those below folders, without any that repeats another.

    Raises:
      UserError: a folder has none.
    """
    files: list[pathlib.Path] = []
    for path in metadata:
        inside = [path]
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*.json") if file.name.endswith(_NAMES))
        if not inside:
            raise UserError(f"metadata folder {path} holds no {' or '.join(_NAMES)} file")
        files += inside
    if any(path.name == _FREESOUND for path in files):
        for path in files:
            if path.name == _LONGER:
                say(f"{path}: ignored, since {_FREESOUND} has all its sounds")
        files = [path for path in files if path.name != _LONGER]
    return files


def _part_of(path: pathlib.Path) -> str:
    words = re.findall("[a-z]+", path.name.lower())
    parts = {name for name, part in _PARTS.items() if set(words) & set(part.words)}
    if len(parts) != 1:
        raise UserError(f"{path}: the name does not tell the source; give --option part={'|'.join(_PARTS)}")
    return parts.pop()


def _clip(record: dict, name: str, split: str, files: ArchivedFiles) -> Clip:
    part, own = _PARTS[name], identifier(record)
    start = 0.0  # the files are whole recordings, except those of AudioSet
    if name == "audioset":
        own, start = youtube.audioset(own), None
    elif not re.fullmatch(part.form, own):
        raise BadRow("bad_id", f"{own!r} is not an id of {name}")
    recording = f"{part.recording}:{own}"
    path, member = files.locate([*youtube.names(own)] if name == "audioset" else [own])
    return Clip(
        id=f"wavcaps_{name}:{own}",
        source=f"wavcaps_{name}",
        recording=recording,
        audio_path=path,
        captions=captions([record.get("caption")]),
        tags=tags(record.get("tags")),
        split=split,
        group=recording,
        member=member,
        recording_start_s=start,
        stated_s=stated_seconds(record.get("duration")),
    )


CORPUS = Corpus(
    name="wavcaps",
    title="WavCaps: AudioSet, BBC, FreeSound and SoundBible with captions by a language model",
    read=clips,
    metadata="as_final.json, bbc_final.json, fsd_final.json, sb_final.json, or the folder json_files with them",
    audio="one file per id, {id}.flac (AudioSet: Y{id} or {id}); the published zip archives, or unpacked",
    options={"part": Option("the source, when the file name does not tell it", "", tuple(_PARTS))},
    remote_audio=True,
)
