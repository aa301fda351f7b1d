"""JamendoMaxCaps (Roy et al. 2025): instrumental music tracks, each 30 s of them captioned by a model.

Published as ``final_caption30sec.jsonl`` (``{id, caption, start_time, end_time}``: a stretch of a track), dated files
of JSON lines with metadata of tracks (optional here: tags and licences, kept in memory), and the audio as mp3 bytes in
parquet files with an ``audio`` column (``bytes`` and ``path``, ``<id>.mp3``). Clips are cut out of whole tracks. A row
of parquet is read together with its row group, some hundred MB; a track that was also saved as a file is read from
there.
"""

import os
import pathlib
from collections.abc import Sequence

from alp_jax.core.clip import Clip, Rejected
from alp_jax.core.errors import UserError
from alp_jax.corpora import tables
from alp_jax.corpora.audio_files import AudioFiles
from alp_jax.corpora.corpus import Clips, Corpus
from alp_jax.corpora.rows import captions, identifier, plain, stretch, tags, to_clips

_REQUIRED = ("id", "caption", "start_time", "end_time")


def clips(metadata: Sequence[pathlib.Path], audio: pathlib.Path | None = None, split: str | None = None) -> Clips:
    """One clip per captioned stretch, all ``train`` unless a split is given.

    Raises:
      UserError: there is no captions file, or parquet files have another schema.
    """
    captioned, facts = [], {}
    for path in metadata:
        if not _is_tracks(path):
            captioned.append(path)
            continue
        for row in to_clips(f"{path} line", tables.jsonl_rows(path), _facts):
            if isinstance(row, Rejected):
                yield row
            else:
                facts[row[0]] = row[1:]
    if not captioned:
        raise UserError(f"{metadata[0]}: no file of captions among the metadata; give final_caption30sec.jsonl too")
    tracks = _Tracks(audio)
    for path in captioned:
        rows = tables.jsonl_rows(path, _REQUIRED)
        yield from to_clips(f"{path} line", rows, _clip, split or "train", tracks, facts)


def _is_tracks(path: pathlib.Path) -> bool:
    for row in tables.jsonl_rows(path):
        if not isinstance(row, Rejected):
            return "musicinfo" in row[1] and "caption" not in row[1]
    return False


def _facts(record: dict) -> tuple[str, tuple[str, ...], str]:
    """Id, tags and licence of a track."""
    info = record.get("musicinfo")
    kinds = info.get("tags") if isinstance(info, dict) else None
    lists = [value for value in kinds.values() if isinstance(value, list)] if isinstance(kinds, dict) else []
    licence = record.get("license_ccurl")
    words = tags([tag for some in lists for tag in some])
    return identifier(record), words, licence if isinstance(licence, str) else ""


class _Tracks:
    """Where the audio of a track is: a file named after it, else a row of a parquet file."""

    def __init__(self, audio: pathlib.Path | None):
        self._files, self._rows, self._paths = AudioFiles(audio), None, []

    def find(self, track: str) -> tuple[str, str]:
        """(path, member) of a track."""
        saved = self._files.find(track)
        if not saved and self._rows is None:
            self._index()
        if not saved and track in self._rows:
            table, row = self._rows[track]
            return self._paths[table], str(row)
        return saved or self._files.path([track]), ""

    def _index(self) -> None:
        self._rows = {}
        for table, path in enumerate(self._files.containers(".parquet")):
            self._paths.append(os.path.abspath(path))
            with tables.open_parquet(path) as file:
                columns = {column.path for column in map(file.schema.column, range(len(file.schema)))}
                if not {"audio.bytes", "audio.path"} <= columns:
                    raise UserError(f"{path}: no column 'audio' with bytes and path, only {', '.join(sorted(columns))}")
                rows = tables.batches(path, file, ["audio.path"])
                names = (name for batch in rows for name in batch.column(0).field("path").to_pylist())
                for row, name in enumerate(names):
                    self._rows.setdefault(os.path.splitext(os.path.basename(name or ""))[0], (table, row))


def _clip(record: dict, split: str, tracks: _Tracks, facts: dict) -> Clip:
    track = identifier(record)
    start, duration = stretch(record.get("start_time"), record.get("end_time"), ("start_time", "end_time"))
    path, member = tracks.find(track)
    words, licence = facts.get(track, ((), ""))
    return Clip(
        id=f"jamendomaxcaps:{track}-{plain(start)}",
        source="jamendomaxcaps",
        recording=f"jamendo:{track}",
        audio_path=path,
        start_s=start,
        duration_s=duration,
        captions=captions([record.get("caption")]),
        tags=words,
        split=split,
        group=f"jamendo:{track}",
        license=licence,
        member=member,
        recording_start_s=start,
    )


CORPUS = Corpus(
    name="jamendomaxcaps",
    title="JamendoMaxCaps: music tracks with a model's caption for each 30 s",
    read=clips,
    metadata="final_caption30sec.jsonl, and the dated track files for tags and licences",
    audio="the published parquet files, or one file per track named {id}",
    suffixes=(".jsonl",),
)
