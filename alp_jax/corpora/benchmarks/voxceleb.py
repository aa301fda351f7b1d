"""VoxCeleb1 and 2 (Nagrani et al. 2017, Chung et al. 2018): celebrities in YouTube videos, for identifying speakers.

VoxCeleb1 publishes the split of its identification task as ``iden_split.txt``, lines of ``1 id10001/<video>/00001.wav``
with 1 for train, 2 for validation and 3 for test. VoxCeleb2 has no official split: it
needs a list of the same form, like that of any paper that reports a number.
"""

import os
import pathlib
import re
from collections.abc import Sequence

from alp_jax.core.clip import Clip
from alp_jax.corpora import tables
from alp_jax.corpora.audio_files import below
from alp_jax.corpora.corpus import Clips, Corpus, Option
from alp_jax.corpora.rows import BadRow, to_clips

_SPLITS = {"1": "train", "2": "valid", "3": "test"}
_UTTERANCE = re.compile(r"(id\d{5})/([A-Za-z0-9_-]{11})/(\d+)(\.\w+)?")
_EXTENSIONS = (".wav", ".ogg", ".flac", ".m4a")
_FOLDERS = ("", "wav", "aac", "vox1_dev_wav/wav", "vox1_test_wav/wav", "dev/aac", "dev/wav")


def clips(
    metadata: Sequence[pathlib.Path], audio: pathlib.Path | None = None, split: str | None = None, version: str = "1"
) -> Clips:
    """The utterances in the order of the list; videos in the test split are in no other split."""
    tested: dict[str, bool] = {}  # video -> whether it is in the test split
    for path in metadata:
        rows = tables.csv_rows(path, ("part", "file"), separator=" ", header=False)
        yield from to_clips(f"{path} line", rows, _clip, audio, f"voxceleb{version}", tested)


def _clip(row: tuple[str, ...], root: pathlib.Path | None, source: str, tested: dict[str, bool]) -> Clip:
    part, name = row
    match = _UTTERANCE.fullmatch(name)
    if match is None:
        raise BadRow("bad_id", f"{name!r} is not of the form id10001/<video>/00001.wav")
    if part not in _SPLITS:
        raise BadRow("bad_record", f"part is {part!r}, not 1, 2 or 3")
    speaker, video, number, _ = match.groups()
    split = _SPLITS[part]
    if tested.setdefault(video, split == "test") != (split == "test"):
        raise BadRow("group_in_two_splits", f"video {video} is both in the test set and outside it")
    return Clip(
        id=f"{source}:{speaker}/{video}/{number}",
        source=source,
        recording=f"voxceleb:{video}",
        audio_path=_audio(root, f"{speaker}/{video}/{number}"),
        labels={source: speaker},
        split=split,
        # one video may be in training and validation, as published
        group=f"voxceleb:{video}" if split != "valid" else f"voxceleb:{video} (validation)",
    )


def _audio(root: pathlib.Path | None, name: str) -> str:
    """The file of an utterance in one of the published folders; if there is none, where it should be."""
    if root is None:
        return ""
    for folder in _FOLDERS:
        for extension in _EXTENSIONS:
            path = below(root, os.path.join(folder, name + extension))
            if os.path.exists(path):
                return path
    return below(root, name + ".wav")


CORPUS = Corpus(
    name="voxceleb",
    title="VoxCeleb1 (official iden_split.txt) or 2 (a list of that form): who is speaking",
    read=clips,
    metadata="iden_split.txt, or a list of '1|2|3 id10001/<video>/00001.wav' for train, validation and test",
    audio="the published folders, as wav, ogg, flac or m4a",
    suffixes=(".txt",),
    options={"version": Option("version of VoxCeleb", "1", ("1", "2"))},
    official_split="the list states the split of every utterance",
)
