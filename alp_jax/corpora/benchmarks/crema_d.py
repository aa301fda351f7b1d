"""CREMA-D (Cao et al. 2014): 91 actors say twelve sentences in six emotions.

Published without a split, as ``AudioWAV/1001_DFA_ANG_XX.wav``: actor, sentence, emotion, level. Papers split by actor;
this reads a table of ``file, split`` that states how, and refuses one with an actor in two splits. The split of
TensorFlow Datasets (TFDS), also by actor, comes with the ``tfds`` corpus.
"""

import pathlib
import re
from collections.abc import Sequence

from alp_jax.core.clip import Clip
from alp_jax.core.errors import UserError
from alp_jax.corpora import tables
from alp_jax.corpora.audio_files import AudioFiles
from alp_jax.corpora.corpus import SPLIT_WORDS, Clips, Corpus
from alp_jax.corpora.rows import BadRow, to_clips

SOURCE = "crema_d"
EMOTIONS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
_NAME = re.compile(r"(\d{4})_[A-Z]{3}_([A-Z]{3})_[A-Z]{2}(?:\.\w+)?")


def clips(metadata: Sequence[pathlib.Path], audio: pathlib.Path | None = None, split: str | None = None) -> Clips:
    """The clips in the order of the tables.

    Raises:
      UserError: an actor is in two splits.
    """
    files, split_of = AudioFiles(audio), {}
    for path in metadata:
        rows = tables.csv_rows(path, ("file", "split"))
        yield from to_clips(f"{path} line", rows, _clip, path, files, split_of)


def _clip(row: tuple[str, ...], path: pathlib.Path, files: AudioFiles, split_of: dict[str, str]) -> Clip:
    name = row[0].rpartition("/")[2]
    match = _NAME.fullmatch(name)
    if match is None or match[2] not in EMOTIONS:
        raise BadRow("bad_id", f"file is {row[0]!r}, not like 1001_DFA_ANG_XX.wav")
    actor, emotion = match.groups()
    split = SPLIT_WORDS.get(row[1].strip().lower())
    if split is None:
        raise BadRow("bad_record", f"split is {row[1]!r}, not train, valid or test")
    if split_of.setdefault(actor, split) != split:
        raise UserError(
            f"{path}: actor {actor} is in {split_of[actor]} and in {split}; CREMA-D is split by actor, never at random"
        )
    stem = name.partition(".")[0]
    return Clip(
        id=f"{SOURCE}:{stem}",
        source=SOURCE,
        recording=f"{SOURCE}:{stem}",
        audio_path=files.path([stem]),
        labels={SOURCE: EMOTIONS[emotion]},
        split=split,
        group=f"{SOURCE}:{actor}",
        recording_start_s=0.0,
    )


CORPUS = Corpus(
    name="crema_d",
    title="CREMA-D: emotions of actors, split by actor as a table says",
    read=clips,
    metadata="CSV with the columns file,split (or TFDS's crema_d through the corpus tfds)",
    audio="AudioWAV, files by name",
    suffixes=(".csv",),
    official_split="crema_d is split by actor in a table of file,split",
)
