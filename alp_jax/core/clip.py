"""The record that corpora hand to the shard builder."""

import dataclasses
from collections.abc import Mapping

SAMPLE_RATE = 16_000  # Hz, of all audio that is stored, trained on and evaluated
SPLITS = ("train", "valid", "test")
TAKEN_LAST = frozenset(
    {".aifc", ".w64", ".rf64", ".caf", ".sph", ".snd", ".mp2"}
    | {".m4a", ".mp4", ".m4b", ".mov", ".3gp", ".webm", ".weba", ".mka", ".mkv", ".aac"}
)  # used unless a file with another extension has the same name
AUDIO_EXTENSIONS = TAKEN_LAST | {
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".g722", ".gsm"),
}  # formats that the decoder reads, in lower case
OTHER_EXTENSIONS = frozenset(
    {".wma", ".asf", ".amr", ".awb", ".ape", ".wv", ".tta", ".mpc", ".ra", ".rm", ".ac3", ".eac3", ".dts", ".spx"}
    | {".avi", ".flv", ".mpg", ".mpeg", ".ts", ".wmv", ".ogv", ".dsf", ".dff", ".shn"}
)  # extensions of audio that is refused by name, so that its files do not count as missing
REJECTIONS = {
    "wrong_columns": "a row with more or fewer cells than the header",
    "bad_csv": "quotes that do not pair up",
    "not_utf8": "bytes that are not UTF-8",
    "bad_json": "a line that is not a JSON object",
    "bad_record": "a field that is missing or not of the published type",
    "unsupported_cut": "a cut whose form, transforms or channels cannot be read",
    "bad_id": "an id that does not have the published form",
    "bad_time": "a start, end or duration that is not a number of seconds, 0 or more",
    "empty_caption": "no caption",
    "other_task": "a record of a task other than captioning",
    "ambiguous_audio": "several audio files of that name, in different folders",
    "no_audio": "a container's sample that has no audio file",
    "contradiction": "a row that contradicts an earlier row of the same clip",
    "outside_folder": "a path that leaves the audio folder",
    "group_in_two_splits": "a group that an earlier row put into another split",
}


@dataclasses.dataclass(frozen=True)
class Event:
    """A labelled span of a clip; ``onset_s`` and ``offset_s`` are seconds from the start of the clip."""

    onset_s: float
    offset_s: float
    label: str


@dataclasses.dataclass(frozen=True)
class Clip:
    """One span of one audio file with everything that is known about it.

    Attributes:
      id: unique over all sources, qualified by the source: ``audiocaps:1a2b3c-30``.
      source: name of the corpus or of the part of it that is mixed and counted on its own.
      recording: the key for finding leaks, ``<namespace>:<id>``; clips cut from one recording share it.
      audio_path: absolute path of a file the decoder can read; "" when no audio was asked for.
      start_s: where the clip starts in the file, seconds.
      duration_s: length in seconds; None means to the end of the file.
      captions: texts that describe the clip; training needs at least one.
      tags: words or short phrases, in the source's order.
      labels: task name -> class name, for probes.
      events: labelled spans with onset and offset.
      split: one of ``train``, ``valid``, ``test``; decided by group, never by clip.
      group: what splits never divide (package, kit, persona, track).
      license: short licence name of the source.
      member: which record of ``audio_path`` holds the audio when that file is a container: a row number for .parquet,
        a record number for .array_record, the byte where the file begins for .tar, ``start:length`` for .zip (see
        ``core/split_zip.py``); "" for a plain audio file.
      recording_start_s: where the clip starts in ``recording``, seconds; None when that is not known. It differs from
        ``start_s`` when the file itself was cut out of the recording.
      channel: which channel of the file is the clip, from 0; None mixes all of them down.
      stated_s: the length in seconds that the metadata states where the clip is the whole file (``duration_s`` None).
        Nothing is cut by it; it serves for estimates before a build and for audits of metadata.
    """

    id: str
    source: str
    recording: str
    audio_path: str
    start_s: float = 0.0
    duration_s: float | None = None
    captions: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    events: tuple[Event, ...] = ()
    split: str = "train"
    group: str = ""
    license: str = ""
    member: str = ""
    recording_start_s: float | None = None
    channel: int | None = None
    stated_s: float | None = None

    @property
    def known_s(self) -> float | None:
        """The length in seconds as far as the metadata tells it."""
        return self.stated_s if self.duration_s is None else self.duration_s

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"clip {self.id}: split {self.split!r} is not one of {', '.join(SPLITS)}")
        if not self.id or not self.source or not self.recording:
            raise ValueError(f"clip {self.id!r}: id, source and recording must not be empty")


@dataclasses.dataclass(frozen=True)
class Rejected:
    """A row of published metadata that cannot become a clip.

    Attributes:
      where: file and row, record or line: ``captions.csv row 12``.
      reason: a key of REJECTIONS, by which rejections are counted.
      detail: what is wrong with this row, for people.
    """

    where: str
    reason: str
    detail: str = ""

    def __post_init__(self) -> None:
        if self.reason not in REJECTIONS:
            raise ValueError(f"{self.where}: reason {self.reason!r} is not one of {', '.join(REJECTIONS)}")
