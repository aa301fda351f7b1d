"""Clotho v2.1 (Drossos et al. 2020): Freesound recordings of 15 to 30 s with five human captions.

Published as ``clotho_captions_<split>.csv`` (``file_name, caption_1 .. caption_5``), with an optional second table
``clotho_metadata_<split>.csv`` (``file_name, keywords, sound_id, sound_link, start_end_samples, manufacturer,
license``) that says which Freesound recording a clip was cut from; without it, leaks into other Freesound corpora show
only in the audio. Splits are development (train), validation and evaluation (test). A few names occur in two splits,
so audio folders named after another split are not searched.

The published metadata table is Latin-1 in places; rows that are not UTF-8 are read as Latin-1.
"""

import pathlib
import re
from collections.abc import Sequence

from alp_jax.core.clip import Clip, Rejected
from alp_jax.core.errors import UserError
from alp_jax.corpora import tables
from alp_jax.corpora.audio_files import AudioFiles
from alp_jax.corpora.corpus import SPLIT_WORDS, Clips, Corpus, split_of
from alp_jax.corpora.rows import BadRow, captions, stated_seconds, to_clips

_CAPTIONS = tuple(f"caption_{n}" for n in range(1, 6))
_METADATA = ("file_name", "keywords", "sound_id", "start_end_samples", "license")
_RATE = 44_100
_WORDS = {"development": "train", "dev": "train"}


def clips(metadata: Sequence[pathlib.Path], audio: pathlib.Path | str | None = None, split: str | None = None) -> Clips:
    """The clips of each captions table; metadata tables are joined by split and file name.

    Raises:
      UserError: a table has neither form, or there is no captions table.
    """
    tables_of_captions, facts = [], {}
    for path in metadata:
        file_split = split_of(path, split, None, _WORDS)
        if "sound_id" in tables.csv_header(path):
            for row in tables.csv_rows(path, _METADATA, fallback="latin-1"):
                if isinstance(row, Rejected):
                    yield row
                else:
                    name, *rest = row[1]
                    facts[file_split, name] = rest
        else:
            tables_of_captions.append((path, file_split))
    if not tables_of_captions:
        raise UserError(f"{metadata[0]}: no table of captions among the metadata; give clotho_captions_*.csv too")
    for path, file_split in tables_of_captions:
        words = SPLIT_WORDS | _WORDS
        files = AudioFiles(
            audio,
            leave_out=[w for w in words if words[w] != file_split],
            keep=[w for w in words if words[w] == file_split],
        )
        rows = tables.csv_rows(path, ("file_name", *_CAPTIONS))
        yield from to_clips(f"{path} line", rows, _clip, file_split, files, facts)


def _clip(row: tuple[str, ...], split: str, files: AudioFiles, facts: dict) -> Clip:
    name, *texts = row  # names may begin with a space, as those of the files do
    stem = name.removesuffix(".wav")
    if not stem.strip() or "/" in name or "\0" in name:
        raise BadRow("bad_id", f"file_name is {name!r}")
    keywords, sound_id, samples, licence = facts.get((split, name), ("", "", "", ""))
    known = sound_id.strip().isdecimal()  # the published table has "Not found" for a few
    recording = f"freesound:{int(sound_id)}" if known else f"clotho:{split}/{name}"
    stretch = re.fullmatch(r"\[(\d+), *(\d+)\]", samples.strip())
    return Clip(
        id=f"clotho:{split}/{name}",
        source="clotho",
        recording=recording,
        audio_path=files.path([stem]),
        captions=captions(texts),
        tags=tuple(dict.fromkeys(filter(None, (word.strip() for word in keywords.split(";"))))),
        split=split,
        group=recording,
        license=licence.strip(),
        recording_start_s=int(stretch[1]) / _RATE if known and stretch else None,
        stated_s=stated_seconds((int(stretch[2]) - int(stretch[1])) / _RATE) if stretch else None,
    )


CORPUS = Corpus(
    name="clotho",
    title="Clotho v2.1: Freesound recordings with five human captions each",
    read=clips,
    metadata="clotho_captions_*.csv, and clotho_metadata_*.csv for Freesound ids, tags and licences",
    audio="the published wav files by file_name (folders may be named development, validation, evaluation)",
    suffixes=(".csv",),
    remote_audio=True,
)
