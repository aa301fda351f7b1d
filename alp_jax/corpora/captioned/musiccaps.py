"""MusicCaps (Agostinelli et al. 2023): ten-second cuts of AudioSet music videos with captions by musicians.

Published as one CSV (``ytid, start_s, end_s, audioset_positive_labels, aspect_list, caption, author_id,
is_balanced_subset, is_audioset_eval``). Clips of AudioSet's evaluation part (2,858) are the split ``test``, all others
``train``; ``--split`` overrides that.
"""

import ast
import pathlib
from collections.abc import Sequence

from alp_jax.core.clip import Clip
from alp_jax.corpora import tables, youtube
from alp_jax.corpora.audio_files import AudioFiles
from alp_jax.corpora.corpus import Clips, Corpus
from alp_jax.corpora.rows import BadRow, captions, plain, stretch, tags, to_clips

_REQUIRED = ("ytid", "start_s", "end_s", "aspect_list", "caption", "is_audioset_eval")
_LONGEST_LIST = 10_000


def clips(metadata: Sequence[pathlib.Path], audio: pathlib.Path | str | None = None, split: str | None = None) -> Clips:
    """One clip per row; UserError for unexpected columns."""
    files = AudioFiles(audio)
    for path in metadata:
        rows = tables.csv_rows(path, _REQUIRED)
        yield from to_clips(f"{path} line", rows, _clip, split, files)


def _clip(row: tuple[str, ...], split: str | None, files: AudioFiles) -> Clip:
    ytid, start_s, end_s, aspects, caption, is_eval = row
    video = youtube.video(ytid)
    start, duration = stretch(start_s, end_s, ("start_s", "end_s"))
    if is_eval not in ("True", "False"):
        raise BadRow("bad_record", f"is_audioset_eval is {is_eval!r}, not True or False")
    return Clip(
        id=f"musiccaps:{video}-{plain(start)}",
        source="musiccaps",
        recording=f"youtube:{video}",
        audio_path=files.path(youtube.names(video, start, duration)),
        captions=captions([caption]),
        tags=_aspects(aspects),
        split=split or ("test" if is_eval == "True" else "train"),
        group=f"youtube:{video}",
        recording_start_s=start,
        stated_s=duration,
    )


def _aspects(text: str) -> tuple[str, ...]:
    """The texts of a list printed by Python."""
    try:
        value = ast.literal_eval(text) if text.strip() and len(text) < _LONGEST_LIST else []
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        value = None
    if not isinstance(value, list):
        raise BadRow("bad_record", "aspect_list is not a list of texts")
    return tags(value, "aspect_list")


CORPUS = Corpus(
    name="musiccaps",
    title="MusicCaps: 10 s of AudioSet music videos with captions by musicians",
    read=clips,
    metadata="musiccaps-public.csv",
    audio=f"one file per clip, named {youtube.PATTERNS}",
    suffixes=(".csv",),
    remote_audio=True,
)
