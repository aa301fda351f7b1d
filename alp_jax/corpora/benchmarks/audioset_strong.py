"""AudioSet-Strong (Hershey et al. 2021): ten-second cuts of YouTube videos with onsets and offsets of their sounds.

Published as ``audioset_train_strong.tsv`` and ``audioset_eval_strong.tsv`` (``segment_id, start_time_seconds,
end_time_seconds, label``; a segment is a YouTube id and the start in milliseconds, a label a machine id) and
``mid_to_display_name.tsv``, without which classes keep their machine ids.
"""

import pathlib
from collections.abc import Sequence

from alp_jax.core.clip import Clip, Event, Rejected
from alp_jax.corpora import tables, youtube
from alp_jax.corpora.audio_files import AudioFiles
from alp_jax.corpora.corpus import Clips, Corpus, split_of
from alp_jax.corpora.rows import BadRow, stretch, to_clips

SOURCE = "audioset_strong"
_NAMES = "mid_to_display_name.tsv"
_COLUMNS = ("segment_id", "start_time_seconds", "end_time_seconds", "label")
_SECONDS = 10.0


def clips(metadata: Sequence[pathlib.Path], audio: pathlib.Path | None = None, split: str | None = None) -> Clips:
    """The clips of each table in the order of their first rows; one table is in memory at a time.

    Raises:
      UserError: a file name that tells no split, or unexpected columns.
    """
    files, names = AudioFiles(audio), {}
    for path in metadata:
        if path.name == _NAMES:
            rows = tables.csv_rows(path, ("mid", "name"), separator="\t", header=False)
            names = dict(row[1] for row in rows if not isinstance(row, Rejected))
    for path in metadata:
        if path.name == _NAMES:
            continue
        file_split = split_of(path, None, None)
        segments: dict[str, tuple[int, list[Event]]] = {}
        for row in tables.csv_rows(path, _COLUMNS, separator="\t"):
            if isinstance(row, Rejected):
                yield row
                continue
            number, (segment, start, end, label) = row
            try:
                onset, seconds = stretch(start, end, _COLUMNS[1:3])
                if not label:
                    raise BadRow("bad_record", "label is empty")
            except BadRow as error:
                yield Rejected(f"{path} line {number}", error.reason, error.detail)
                continue
            event = Event(onset, onset + seconds, names.get(label, label))
            segments.setdefault(segment, (number, []))[1].append(event)
        rows = ((number, (segment, events)) for segment, (number, events) in segments.items())
        yield from to_clips(f"{path} line", rows, _clip, file_split, files)


def _clip(row: tuple[str, list[Event]], split: str, files: AudioFiles) -> Clip:
    segment, events = row
    video, _, start = segment.rpartition("_")
    if not start.isdecimal():
        raise BadRow("bad_id", f"segment_id is {segment!r}, not a YouTube id and milliseconds")
    recording, begin = f"youtube:{youtube.video(video)}", int(start) / 1000
    return Clip(
        id=f"{SOURCE}:{segment}",
        source=SOURCE,
        recording=recording,
        audio_path=files.path([segment, *youtube.names(video, begin, _SECONDS)]),
        events=tuple(sorted(events, key=lambda event: (event.onset_s, event.offset_s, event.label))),
        split=split,
        group=recording,
        recording_start_s=begin,
        stated_s=_SECONDS,
    )


CORPUS = Corpus(
    name="audioset_strong",
    title="AudioSet-Strong: 10 s cuts of YouTube videos with the times of their sounds, official train and eval",
    read=clips,
    metadata="audioset_train_strong.tsv, audioset_eval_strong.tsv, and mid_to_display_name.tsv for names of classes",
    audio=f"one file per clip, named by segment_id or {youtube.PATTERNS}",
    suffixes=(".tsv",),
    official_split="audioset_strong has official tables for train and eval",
)
