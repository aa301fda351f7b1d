"""FusionAudio-1.2M (Chen et al. 2025): AudioSet clips with captions that models wrote from several modalities.

Published as a JSON list of instruction records ``{audio_id, instruction, input, dataset, task, output}`` (also read as
JSON lines). Records whose task has "caption" in its name are captions, ``output`` the text; the others are counted as
``other_task``. ``audio_id`` is a path whose stem is the AudioSet video.
"""

import pathlib
import re
from collections.abc import Sequence

from alp_jax.core.clip import Clip
from alp_jax.corpora import json_stream, tables, youtube
from alp_jax.corpora.audio_files import AudioFiles
from alp_jax.corpora.corpus import Clips, Corpus
from alp_jax.corpora.rows import BadRow, captions, field, to_clips

_SECONDS = 10.0  # of an AudioSet clip
_REQUIRED = ("audio_id", "task", "output")


def clips(metadata: Sequence[pathlib.Path], audio: pathlib.Path | str | None = None, split: str | None = None) -> Clips:
    """One clip per caption record, all ``train`` unless a split is given; UserError for an unexpected structure."""
    files = AudioFiles(audio)
    for path in metadata:
        lines = path.suffix in (".jsonl", ".ndjson")
        rows = tables.jsonl_rows(path, _REQUIRED) if lines else json_stream.json_rows(path, "", _REQUIRED)
        where = f"{path} line" if lines else f"{path} record"
        yield from to_clips(where, rows, _clip, split or "train", files)


def _clip(record: dict, split: str, files: AudioFiles) -> Clip:
    task = field(record, "task")
    if "caption" not in task.lower():
        raise BadRow("other_task", task)
    name = re.split(r"[/\\]", field(record, "audio_id"))[-1]
    video = youtube.audioset(re.sub(r"\.[A-Za-z0-9]{2,4}$", "", name))
    recording = f"youtube:{video}"
    return Clip(
        id=f"fusionaudio:{video}",
        source="fusionaudio",
        recording=recording,
        audio_path=files.path(youtube.names(video)),
        captions=captions([record.get("output")], "output"),
        split=split,
        group=recording,
        stated_s=_SECONDS,
    )


CORPUS = Corpus(
    name="fusionaudio",
    title="FusionAudio-1.2M: AudioSet clips captioned by models from several modalities",
    read=clips,
    metadata="the JSON list of instruction records",
    audio="one file per clip, named {id} or Y{id}",
    suffixes=(".json", ".jsonl"),
    remote_audio=True,
)
