"""Lhotse CutSets as JSON lines (``.jsonl``, ``.jsonl.gz``), as the authors' toolbox and UTS publish them.

A cut is ``{id, start, duration, recording: {id, sources: [{type, source}]}, supervisions: [{custom: {caption,
original_caption, audio_tag}}]}``; caption and original_caption are a text or a list of texts. By default ``caption``
is used: in UTS the new, detailed one; option ``captions`` takes the original ones, or both.

UTS puts the name of the data set in the place of the audio path ("audioset"). Such a name becomes the clip's source,
and the file is looked up by the cut's id below the audio folder. A relative path is taken below the audio folder; an
absolute path is taken as it is when it lies below that folder (``--audio /``: any), else its file name is looked up.
"""

import os
import pathlib
import re
from collections.abc import Sequence

from alp_jax.core.clip import AUDIO_EXTENSIONS, Clip
from alp_jax.corpora import tables
from alp_jax.corpora.adapter import Adapter, Clips, Option, split_of
from alp_jax.corpora.audio_files import AudioFiles, below
from alp_jax.corpora.rows import BadRow, check_utf8, field, seconds, tags, texts, to_clips

_CHOICES = {"new": ("caption",), "original": ("original_caption",), "both": ("caption", "original_caption")}
_AUDIOSET = re.compile(r"Y([A-Za-z0-9_-]{11})")


def clips(
    metadata: Sequence[pathlib.Path],
    audio: pathlib.Path | None = None,
    split: str | None = None,
    captions: str = "new",
    source: str = "",
) -> Clips:
    """One clip per cut; the split is what the file name says, else ``train``.

    Args:
      captions: ``new``, ``original`` or ``both``.
      source: the source of all clips; "": the data set's name where the cut states one, else ``lhotse``.
    """
    reader = _Cuts(audio, _CHOICES[captions], source)
    for path in metadata:
        here = split_of(path, split, "train")
        rows = tables.jsonl_rows(path, ("id", "duration", "supervisions"))
        yield from to_clips(f"{path} line", rows, lambda cut, here=here: reader.clip(cut, here))


class _Cuts:
    def __init__(self, audio: pathlib.Path | None, keys: tuple[str, ...], source: str):
        self._root, self._files, self._keys, self._source = audio, AudioFiles(audio), keys, source

    def clip(self, cut: dict, split: str) -> Clip:
        kind = cut.get("type", "MonoCut")
        if kind not in ("MonoCut", "MultiCut"):
            raise BadRow("bad_record", f"a {kind}; only cuts of one recording can be read")
        own = field(cut, "id")
        check_utf8(own, "id")
        if not own:
            raise BadRow("bad_id", "id is empty")
        start, duration = seconds(cut.get("start", 0.0), "start"), seconds(cut.get("duration"), "duration")
        if duration == 0:
            raise BadRow("bad_time", "duration is 0")
        recording = field(cut, "recording", dict)
        recording_id = recording.get("id") or own
        file = _source(recording)
        data_set = "" if "/" in file or os.path.splitext(file)[1].lower() in AUDIO_EXTENSIONS else file
        source = self._source or data_set or "lhotse"
        video = _AUDIOSET.fullmatch(str(recording_id)) if data_set == "audioset" else None
        found = f"youtube:{video[1]}" if video else f"{source}:{recording_id}"
        custom = self._custom(cut)
        return Clip(
            id=f"{source}:{own}",
            source=source,
            recording=found,
            audio_path=self._path(file, own) if not data_set else self._files.path([own]),
            start_s=start,
            duration_s=duration,
            captions=self._captions(custom),
            tags=tags(_listed(custom.get("audio_tag")), "audio_tag"),
            split=split,
            group=found,
            recording_start_s=None if video else start,  # AudioSet files are cuts of the video
        )

    def _path(self, file: str, own: str) -> str:
        if self._root is None:
            return ""
        if not os.path.isabs(file) or os.path.normpath(file).startswith(os.path.join(os.path.abspath(self._root), "")):
            return below(self._root, file)
        return self._files.path([os.path.splitext(os.path.basename(file))[0]])

    @staticmethod
    def _custom(cut: dict) -> dict:
        supervisions = field(cut, "supervisions", list)
        if not supervisions or not isinstance(supervisions[0], dict):
            raise BadRow("bad_record", "no supervision")
        return field(supervisions[0], "custom", dict)

    def _captions(self, custom: dict) -> tuple[str, ...]:
        found = texts([text for key in self._keys for text in _listed(custom.get(key))], "caption")
        if not found:
            raise BadRow("empty_caption", f"no {' or '.join(self._keys)}")
        return found


def _listed(value: object) -> list:
    return value if isinstance(value, list) else [value]


def _source(recording: dict) -> str:
    """The path of the recording's file."""
    sources = field(recording, "sources", list)
    if not sources or not isinstance(sources[0], dict):
        raise BadRow("bad_record", "recording without sources")
    kind = sources[0].get("type", "file")
    if kind != "file":
        raise BadRow("bad_record", f"a recording of type {kind!r}; only files can be read")
    return field(sources[0], "source")


ADAPTER = Adapter(
    read=clips,
    help="Lhotse CutSet manifests, also UTS (captions and tags of CaptionStew 400K)",
    metadata="cuts as .jsonl or .jsonl.gz",
    audio="the paths of the cuts are below it; else files are found by name (UTS: by the cut's id)",
    suffixes=(".jsonl", ".jsonl.gz"),
    options={
        "captions": Option("a cut's caption, its original_caption, or both", "new", tuple(_CHOICES)),
        "source": Option("the source that all clips are counted under (default: the data set's name, else lhotse)"),
    },
)
