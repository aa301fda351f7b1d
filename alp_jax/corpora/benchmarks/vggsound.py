"""VGGSound (Chen et al. 2020): ten-second cuts of YouTube videos, one of 309 classes each.

Published as ``vggsound.csv`` without a header: YouTube id, start in seconds, class, train or test. There is no
validation split: settings are selected on groups of training clips.
"""

import pathlib
from collections.abc import Sequence

from alp_jax.core.clip import Clip
from alp_jax.corpora import tables, youtube
from alp_jax.corpora.audio_files import AudioFiles
from alp_jax.corpora.corpus import Clips, Corpus
from alp_jax.corpora.rows import BadRow, plain, seconds, texts, to_clips

SOURCE = "vggsound"
_SECONDS = 10.0


def clips(metadata: Sequence[pathlib.Path], audio: pathlib.Path | None = None, split: str | None = None) -> Clips:
    """The clips in the order of the table.

    Raises:
      UserError: an unexpected number of columns.
    """
    files = AudioFiles(audio)
    for path in metadata:
        rows = tables.csv_rows(path, ("id", "start", "class", "split"), header=False)
        yield from to_clips(f"{path} line", rows, _clip, files)


def _clip(row: tuple[str, ...], files: AudioFiles) -> Clip:
    video, start, label, split = youtube.video(row[0]), seconds(row[1], "start"), texts([row[2]], "class"), row[3]
    if split not in ("train", "test"):
        raise BadRow("bad_record", f"split is {split!r}, not train or test")
    if not label:
        raise BadRow("bad_record", "class is empty")
    recording = f"youtube:{video}"
    return Clip(
        id=f"{SOURCE}:{video}-{plain(start)}",
        source=SOURCE,
        recording=recording,
        audio_path=files.path(youtube.names(video, start, _SECONDS)),
        labels={SOURCE: label[0]},
        split=split,
        group=recording,
        recording_start_s=start,
        stated_s=_SECONDS,
    )


CORPUS = Corpus(
    name="vggsound",
    title="VGGSound: 10 s cuts of YouTube videos of 309 classes, official train and test",
    read=clips,
    metadata="vggsound.csv",
    audio=f"one file per clip, named {youtube.PATTERNS}",
    suffixes=(".csv",),
    official_split="vggsound.csv states the official split of every clip",
)
