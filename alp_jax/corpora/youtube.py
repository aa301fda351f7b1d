"""Clips of YouTube videos: the form of ids, and the usual names of files."""

import os
import re
from collections.abc import Iterator

from alp_jax.core.clip import AUDIO_EXTENSIONS
from alp_jax.corpora.rows import BadRow, plain

PATTERNS = (
    "{id}_{start}, Y{id}_{start}, {id}_{start}_{end}, Y{id}_{start}_{end}, {id}_{start, 6 digits}, "
    "{id}_{start ms}_{end ms}, Y{id}_{start.000}_{end.000}, [{id}]-[{start}-{end}], {id}, Y{id}"
)
_ID = re.compile(r"[A-Za-z0-9_-]{11}")


def video(text: str) -> str:
    """Returns ``text`` if it is a YouTube id; BadRow otherwise."""
    if not _ID.fullmatch(text):
        raise BadRow("bad_id", f"{text!r} is not a YouTube id of 11 letters, digits, - and _")
    return text


def audioset(name: str) -> str:
    """The YouTube id of an AudioSet file name: ``Y<id>``, ``<id>``, with or without the extension of an audio file."""
    stem, extension = os.path.splitext(name)
    if extension.lower() not in AUDIO_EXTENSIONS:
        stem = name
    return video(stem[1:] if len(stem) == 12 and stem[0] == "Y" else stem)


def names(video_id: str, start: float | None = None, duration: float = 10.0) -> Iterator[str]:
    """Stems (``PATTERNS``) that the file of a clip may have, those that state the time first."""
    if start is not None:
        first, last = plain(start), plain(start + duration)
        yield f"{video_id}_{first}"
        yield f"Y{video_id}_{first}"
        yield f"{video_id}_{first}_{last}"
        yield f"Y{video_id}_{first}_{last}"
        if start == int(start):
            yield f"{video_id}_{int(start):06d}"
        yield f"{video_id}_{round(start * 1000)}_{round((start + duration) * 1000)}"
        yield f"Y{video_id}_{start:.3f}_{start + duration:.3f}"
        yield f"[{video_id}]-[{first}-{last}]"
    yield video_id
    yield f"Y{video_id}"
