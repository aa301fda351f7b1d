"""AudioCaps (Kim et al. 2019), versions 1 and 2: ten-second cuts of AudioSet videos with human captions.

Published as ``train.csv``, ``val.csv`` and ``test.csv`` with the columns ``audiocap_id, youtube_id, start_time,
caption``; the rows of one clip become one clip with several captions. Version 2 has more training captions: its clips
get the source ``audiocaps_v2``, so that a data set always shows which version it holds.
"""

import pathlib
from collections.abc import Sequence

from alp_jax.core.clip import Clip, Rejected
from alp_jax.core.errors import UserError
from alp_jax.corpora import tables, youtube
from alp_jax.corpora.audio_files import AudioFiles
from alp_jax.corpora.corpus import Clips, Corpus, Option, split_of
from alp_jax.corpora.rows import BadRow, captions, plain, seconds, to_clips

_SECONDS = 10.0
_TRAIN_ROWS_V1 = 49_838


def clips(
    metadata: Sequence[pathlib.Path],
    audio: pathlib.Path | str | None = None,
    split: str | None = None,
    version: str = "1",
    names: str = "youtube",
) -> Clips:
    """The clips of each file in the order of their first rows; one file is in memory at a time.

    Args:
      version: ``1`` or ``2``.
      names: how audio files are named: by ``youtube`` id and start, or by the ``audiocap_id`` of any of their rows.

    Raises:
      UserError: unexpected columns, or a training file of version 2 given as version 1.
    """
    files = AudioFiles(audio)
    source = "audiocaps" if version == "1" else "audiocaps_v2"
    for path in metadata:
        file_split = split_of(path, split, None)
        groups: dict[tuple[str, float], tuple[int, list[str], list[str]]] = {}
        rows = 0
        for row in tables.csv_rows(path, ("youtube_id", "start_time", "caption"), ("audiocap_id",)):
            if isinstance(row, Rejected):
                yield row
                continue
            rows += 1
            number, (video, start, caption, row_id) = row
            try:
                key = (youtube.video(video), seconds(start, "start_time"))
                (text,) = captions([caption])
            except BadRow as error:
                yield Rejected(f"{path} line {number}", error.reason, error.detail)
                continue
            _, texts, row_ids = groups.setdefault(key, (number, [], []))
            texts.append(text)
            row_ids.append(row_id)
        if version == "1" and file_split == "train" and rows > _TRAIN_ROWS_V1:
            raise UserError(
                f"{path} has {rows} rows, but AudioCaps v1 has {_TRAIN_ROWS_V1}: give --option version=2 if it is v2"
            )
        grouped = ((number, (*key, texts, row_ids)) for key, (number, texts, row_ids) in groups.items())
        yield from to_clips(f"{path} line", grouped, _clip, files, source, file_split, names)


def _clip(row: tuple, files: AudioFiles, source: str, split: str, names: str) -> Clip:
    video, start, texts, row_ids = row
    return Clip(
        id=f"{source}:{video}-{plain(start)}",
        source=source,
        recording=f"youtube:{video}",
        audio_path=files.path(youtube.names(video, start, _SECONDS) if names == "youtube" else row_ids),
        captions=tuple(texts),
        split=split,
        group=f"youtube:{video}",
        recording_start_s=start,
        stated_s=_SECONDS,
    )


CORPUS = Corpus(
    name="audiocaps",
    title="AudioCaps v1 or v2: 10 s cuts of AudioSet videos with human captions",
    read=clips,
    metadata="train.csv, val.csv, test.csv (audiocap_id,youtube_id,start_time,caption)",
    audio=f"one file per clip, named {youtube.PATTERNS}",
    suffixes=(".csv",),
    options={
        "version": Option("version of AudioCaps", "1", ("1", "2")),
        "names": Option("what the audio files are named after", "youtube", ("youtube", "audiocap_id")),
    },
    remote_audio=True,
)
