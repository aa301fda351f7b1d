"""MagnaTagATune (Law et al. 2009): 29 s cuts of songs with tags that players of a game agreed on.

Published as ``annotations_final.csv`` (tabs: ``clip_id``, 188 tags with 0 or 1, ``mp3_path``) and sixteen folders of
MP3s, ``0`` to ``f``. As everywhere in the literature: the 50 most frequent tags, folders 0 to b for training, c for
validation, d to f for the test.
"""

import collections
import pathlib
import re
from collections.abc import Callable, Sequence

from alp_jax.core.clip import Clip, Rejected
from alp_jax.core.errors import UserError
from alp_jax.corpora import tables
from alp_jax.corpora.audio_files import below
from alp_jax.corpora.corpus import Clips, Corpus
from alp_jax.corpora.rows import BadRow, stated_seconds, to_clips

SOURCE = "magnatagatune"
TOP = 50
_SPLITS = dict.fromkeys("0123456789ab", "train") | {"c": "valid"} | dict.fromkeys("def", "test")
_PATH = re.compile(r"([0-9a-f])/(.+)-(\d+)-(\d+)\.mp3")


def clips(metadata: Sequence[pathlib.Path], audio: pathlib.Path | None = None, split: str | None = None) -> Clips:
    """The clips in the order of the table, which is read twice: once to count its tags. Clips without a tag stay.

    Raises:
      UserError: several tables, or a table of another form.
    """
    tables_here = [path for path in metadata if "annotations" in path.name]
    if len(tables_here) != 1:
        raise UserError(f"magnatagatune has one annotations_final.csv, but {len(tables_here)} are given")
    (path,) = tables_here
    counts: collections.Counter = collections.Counter()
    for row in _rows(path):
        if not isinstance(row, Rejected):
            counts.update(_tags(row[1]))
    top = {tag for tag, _ in counts.most_common(TOP)}
    yield from to_clips(f"{path} line", _rows(path), _clip, audio, top)


def _rows(path: pathlib.Path):
    def pick_of(header: list[str]) -> Callable[[list[str]], dict]:
        if "mp3_path" not in header or len(header) < 3:
            raise UserError(f"{path}: no tab-separated column 'mp3_path'; give annotations_final.csv as published")
        return lambda cells: dict(zip(header, cells, strict=True))

    return tables.csv_table(path, pick_of, "\t")


def _tags(cells: dict[str, str]) -> list[str]:
    return [tag for tag, cell in cells.items() if cell == "1" and tag not in ("clip_id", "mp3_path")]


def _clip(cells: dict[str, str], root: pathlib.Path | None, top: set[str]) -> Clip:
    match = _PATH.fullmatch(cells["mp3_path"])
    if match is None:
        raise BadRow("bad_id", f"mp3_path is {cells['mp3_path']!r}, not like 0/song-0-29.mp3")
    folder, song, start, end = match.groups()
    recording = f"magnatune:{song}"
    return Clip(
        id=f"{SOURCE}:{song}-{start}",
        source=SOURCE,
        recording=recording,
        audio_path=below(root, cells["mp3_path"]),
        tags=tuple(tag for tag in _tags(cells) if tag in top),
        split=_SPLITS[folder],
        group=recording,
        recording_start_s=float(start),
        stated_s=stated_seconds(float(end) - float(start)),
    )


CORPUS = Corpus(
    name="magnatagatune",
    title="MagnaTagATune: 29 s of songs with the 50 most frequent tags, split 12:1:3 by folder",
    read=clips,
    metadata="annotations_final.csv",
    audio="the unpacked folders 0 to f",
    suffixes=(".csv",),
    official_split="magnatagatune is split by its folders 0 to f",
)
