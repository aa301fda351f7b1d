"""AudioSetCaps (Bai et al. 2024): 6 million ten-second clips of AudioSet, VGGSound and YouTube-8M, captioned by models.

Published as three CSV files with the columns ``id, caption``. The form of the id identifies the source: ``Y<video>``
(AudioSet), ``<video>_<start, 6 digits>`` (VGGSound), ``<video>_<start>_<duration>`` (YouTube-8M). Sources are mixed and
counted as ``audiosetcaps_<source>``. It contains evaluation clips of AudioCaps and VGGSound, so
audit it.
"""

import pathlib
import re
from collections.abc import Sequence

from alp_jax.core.clip import Clip
from alp_jax.corpora import tables, youtube
from alp_jax.corpora.audio_files import AudioFiles
from alp_jax.corpora.corpus import Clips, Corpus
from alp_jax.corpora.rows import BadRow, captions, to_clips

_ID = re.compile(
    r"Y(?P<audioset>[A-Za-z0-9_-]{11})"
    r"|(?P<vggsound>[A-Za-z0-9_-]{11})_(?P<six>\d{6})"
    r"|(?P<youtube8m>[A-Za-z0-9_-]{11})_(?P<start>\d+(\.\d+)?)_(?P<duration>\d+(\.\d+)?)"
)

_SECONDS = 10.0  # length of clips whose id does not state it
_SOURCES = ("audioset", "vggsound", "youtube8m")


def clips(metadata: Sequence[pathlib.Path], audio: pathlib.Path | str | None = None, split: str | None = None) -> Clips:
    """One clip per row, all ``train`` unless a split is given; UserError for unexpected columns."""
    files = AudioFiles(audio)
    for path in metadata:
        rows = tables.csv_rows(path, ("id", "caption"))
        yield from to_clips(f"{path} line", rows, _clip, split or "train", files)


def _clip(row: tuple[str, ...], split: str, files: AudioFiles) -> Clip:
    name, caption = row
    match = _ID.fullmatch(name.removesuffix(".wav"))
    if match is None:
        raise BadRow("bad_id", f"{name!r} is not Y<video>, <video>_<6 digits> or <video>_<start>_<duration>")
    source = next(source for source in _SOURCES if match[source])
    video, start = match[source], match["start"] or match["six"]
    recording = f"youtube:{video}"
    return Clip(
        id=f"audiosetcaps:{match[0]}",
        source=f"audiosetcaps_{source}",
        recording=recording,
        audio_path=files.path((match[0], *youtube.names(video, float(start) if start else None))),
        captions=captions([caption]),
        split=split,
        group=recording,
        recording_start_s=float(start) if start else None,
        stated_s=float(match["duration"] or _SECONDS) or None,
    )


CORPUS = Corpus(
    name="audiosetcaps",
    title="AudioSetCaps: 6 M clips of AudioSet, VGGSound and YouTube-8M captioned by models",
    read=clips,
    metadata="AudioSetCaps_caption.csv, VGGSound_AudioSetCaps_caption.csv, YouTube-8M_AudioSetCaps_caption.csv",
    audio=f"one file per clip, named by its published id or {youtube.PATTERNS}",
    suffixes=("_caption.csv",),
    remote_audio=True,
)
