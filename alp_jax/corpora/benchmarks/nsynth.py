"""NSynth (Engel et al. 2017): four-second notes of eleven families of instruments.

Published as folders ``nsynth-{train,valid,test}`` with ``examples.json`` (note -> its qualities) and ``audio``. No
instrument of the training split is in validation or test; those two share instruments, as published.
"""

import pathlib
from collections.abc import Sequence

from alp_jax.core.clip import Clip
from alp_jax.core.errors import UserError
from alp_jax.corpora.audio_files import AudioFiles
from alp_jax.corpora.corpus import Clips, Corpus, split_words
from alp_jax.corpora.json_stream import json_members
from alp_jax.corpora.rows import check_utf8, field, to_clips

SOURCE, TASK = "nsynth", "nsynth_instrument"
_SECONDS = 4.0
_FILE = "examples.json"


def clips(metadata: Sequence[pathlib.Path], audio: pathlib.Path | None = None, split: str | None = None) -> Clips:
    """The notes of each folder in the order of its file.

    Raises:
      UserError: a folder whose name tells no split, or that lacks ``examples.json``.
    """
    for folder in metadata:
        path = folder / _FILE if folder.is_dir() else folder
        splits = split_words(path.parent.name)
        if len(splits) != 1 or not path.is_file():
            raise UserError(f"{folder}: give the folders nsynth-train, nsynth-valid, nsynth-test with their {_FILE}")
        folder_split = splits.pop()
        files = AudioFiles(None if audio is None else audio / path.parent.name)
        rows = json_members(path, ("instrument_str", "instrument_family_str"))
        yield from to_clips(f"{path} record", rows, _clip, folder_split, files)


def _clip(row: tuple[str, dict], split: str, files: AudioFiles) -> Clip:
    note, record = row
    family, instrument = field(record, "instrument_family_str"), field(record, "instrument_str")
    for name, text in (("note", note), ("instrument_family_str", family), ("instrument_str", instrument)):
        check_utf8(text, name)
    shared = " (validation)" if split == "valid" else ""
    return Clip(
        id=f"{SOURCE}:{note}",
        source=SOURCE,
        recording=f"{SOURCE}:{note}",
        audio_path=files.path([note]),
        labels={TASK: family},
        split=split,
        group=f"{SOURCE}:{instrument}{shared}",
        recording_start_s=0.0,
        stated_s=_SECONDS,
    )


CORPUS = Corpus(
    name="nsynth",
    title="NSynth: notes of eleven families of instruments, official train, validation and test",
    read=clips,
    metadata="the folders nsynth-train, nsynth-valid and nsynth-test",
    audio="the folder that holds these folders",
    official_split="nsynth is split by its folders",
)
