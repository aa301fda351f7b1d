"""FSD50K (Fonseca et al. 2022): Freesound clips with several of 200 sound classes each.

Published as ``FSD50K.ground_truth/dev.csv`` (``fname, labels, mids, split``, the latter train or val) and ``eval.csv``
(``fname, labels, mids``), audio as ``FSD50K.{dev,eval}_audio/<fname>.wav``.
"""

import pathlib
from collections.abc import Sequence

from alp_jax.core.clip import Clip
from alp_jax.core.errors import UserError
from alp_jax.corpora import tables
from alp_jax.corpora.audio_files import AudioFiles
from alp_jax.corpora.corpus import SPLIT_WORDS, Clips, Corpus
from alp_jax.corpora.rows import BadRow, tags, to_clips

SOURCE = "fsd50k"
_VOCABULARY = "vocabulary.csv"  # published beside the tables; it names no clip


def clips(metadata: Sequence[pathlib.Path], audio: pathlib.Path | None = None, split: str | None = None) -> Clips:
    """The clips of each table; their classes are tags.

    Raises:
      UserError: a table has neither form.
    """
    files = AudioFiles(audio)
    for path in metadata:
        if path.name == _VOCABULARY:
            continue
        develops = "split" in tables.csv_header(path)
        if not develops and "eval" not in path.name:
            raise UserError(
                f"{path}: no column 'split' and no eval in its name; give the published dev.csv and eval.csv"
            )
        rows = tables.csv_rows(path, ("fname", "labels"), ("split",))
        yield from to_clips(f"{path} line", rows, _clip, files, develops)


def _clip(row: tuple[str, ...], files: AudioFiles, develops: bool) -> Clip:
    name, labels, split = row
    if not name.isdecimal():
        raise BadRow("bad_id", f"fname is {name!r}, not a Freesound id")
    clip_split = SPLIT_WORDS.get(split) if develops else "test"
    if clip_split is None or (develops and clip_split == "test"):
        raise BadRow("bad_record", f"split is {split!r}, not train or val")
    classes = tags(labels.split(","), "labels")
    if not classes:
        raise BadRow("bad_record", "labels is empty")
    recording = f"freesound:{name}"
    return Clip(
        id=f"{SOURCE}:{name}",
        source=SOURCE,
        recording=recording,
        audio_path=files.path([name]),
        tags=classes,
        split=clip_split,
        group=recording,
        recording_start_s=0.0,
    )


CORPUS = Corpus(
    name="fsd50k",
    title="FSD50K: Freesound clips of 200 classes, official train, validation and evaluation",
    read=clips,
    metadata="FSD50K.ground_truth with dev.csv and eval.csv",
    audio="FSD50K.dev_audio and FSD50K.eval_audio, files by fname",
    suffixes=(".csv",),
    official_split="fsd50k has official splits in dev.csv and eval.csv",
)
