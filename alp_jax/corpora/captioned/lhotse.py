"""Lhotse CutSets as JSON lines (``.jsonl``, ``.jsonl.gz``), as the authors' toolbox and UTS publish them.

A cut is ``{id, start, duration, channel, recording: {id, sources: [{type, channels, source}]}, supervisions:
[{start, duration, custom: {caption, original_caption, audio_tag}}]}``; caption and original_caption are a text or a
list of texts. By default ``caption`` is used: in UTS the new, detailed one; option ``captions`` selects the original
ones, or both.

A cut whose only supervision covers all of it, or states no times, is one clip. Otherwise each stretch is a clip with
the captions of its supervisions. A channel of a recording with several counts as a recording of its own, in the group
of the whole one. Cuts whose sound Lhotse would change on loading (speed, volume, reverberation) are refused by the name
of the change.

UTS puts the name of the data set in place of the audio path ("audioset"). Such a name becomes the clip's source,
and the file is looked up by the cut's id below the audio folder. A relative path is taken below the audio folder; an
absolute path is taken as it is when it lies below that folder (``--audio /``: any), else its file name is looked up.
"""

import math
import os
import pathlib
import re
from collections.abc import Iterator, Sequence

from alp_jax.core.clip import AUDIO_EXTENSIONS, SAMPLE_RATE, Clip, Rejected
from alp_jax.corpora import tables
from alp_jax.corpora.audio_files import AudioFiles, Spelt, below
from alp_jax.corpora.corpus import Clips, Corpus, Option, split_of
from alp_jax.corpora.rows import BadRow, check_utf8, field, plain, seconds, tags, texts

_CHOICES = {"new": ("caption",), "original": ("original_caption",), "both": ("caption", "original_caption")}
_ROUNDING_S = 1e-3
_EDGE_S = 0.1  # by how much the only supervision of a cut may miss its ends and still cover all of it
_AUDIOSET = re.compile(r"Y([A-Za-z0-9_-]{11})")


def clips(
    metadata: Sequence[pathlib.Path],
    audio: pathlib.Path | None = None,
    split: str | None = None,
    captions: str = "new",
    source: str = "",
) -> Clips:
    """The clips of the cuts in their order; the split is what the file name says, else ``train``.

    Args:
      captions: ``new``, ``original`` or ``both``.
      source: the source of all clips; "": the data set's name if the cut states one, else ``lhotse``.
    """
    reader = _Cuts(audio, _CHOICES[captions], source)
    for path in metadata:
        file_split = split_of(path, split, "train")
        for row in tables.jsonl_rows(path, ("id", "duration", "supervisions")):
            if isinstance(row, Rejected):
                yield row
                continue
            yield from reader.clips(row[1], file_split, f"{path} line {row[0]}")


class _Cuts:
    def __init__(self, audio: pathlib.Path | None, keys: tuple[str, ...], source: str):
        self._root, self._files, self._keys, self._source = audio, AudioFiles(audio), keys, source
        self._spelt = Spelt()

    def clips(self, cut: dict, split: str, where: str) -> Iterator[Clip | Rejected]:
        """The clips of a cut, and a Rejected for each of its stretches (or the cut) that cannot be read."""
        try:
            stretches = self._stretches(cut)
        except BadRow as error:
            yield Rejected(where, error.reason, error.detail)
            return
        for stretch, supervisions in stretches.items():
            try:
                yield self._clip(cut, stretch, supervisions, split, alone=len(stretches) == 1)
            except BadRow as error:
                yield Rejected(where, error.reason, error.detail)

    def _stretches(self, cut: dict) -> "dict[_Stretch, list[dict]]":
        kind = cut.get("type", "MonoCut")
        if kind not in ("MonoCut", "MultiCut"):
            raise BadRow("unsupported_cut", f"a {kind}; only cuts of one recording can be read")
        own = field(cut, "id")
        check_utf8(own, "id")
        if not own:
            raise BadRow("bad_id", "id is empty")
        start, duration = seconds(cut.get("start", 0.0), "start"), seconds(cut.get("duration"), "duration")
        if duration == 0:
            raise BadRow("bad_time", "duration is 0")
        if cut.get("recording") is None and cut.get("features") is not None:
            raise BadRow("unsupported_cut", "features without a recording; only sound can be read")
        _refuse_transforms(field(cut, "recording", dict))
        return _stretches(field(cut, "supervisions", list), start, duration, cut.get("channel"))

    def _clip(self, cut: dict, stretch: "_Stretch", supervisions: list[dict], split: str, alone: bool) -> Clip:
        start, duration, channels = stretch
        own, recording = cut["id"], cut["recording"]
        recording_id = recording.get("id") or own
        file, channel, side = _source(recording, channels)
        data_set = "" if "/" in file or os.path.splitext(file)[1].lower() in AUDIO_EXTENSIONS else file
        source = self._source or data_set or "lhotse"
        video = _AUDIOSET.fullmatch(str(recording_id)) if data_set == "audioset" else None
        whole = f"youtube:{video[1]}" if video else f"{source}:{recording_id}"
        custom = [field(supervision, "custom", dict) for supervision in supervisions]
        words = [word for one in custom for word in _listed(one.get("audio_tag"))]
        part = "" if alone else f"#{plain(start)}-{plain(start + duration)}{side}"
        return Clip(
            id=f"{source}:{own}{part}",
            source=source,
            recording=whole + side,
            audio_path=self._path(file, own) if not data_set else self._files.path([own]),
            start_s=start,
            duration_s=duration,
            captions=self._captions(custom),
            tags=tags(words, "audio_tag"),
            split=split,
            group=whole,
            recording_start_s=None if video else start,  # AudioSet files are cuts of the video
            channel=channel,
        )

    def _path(self, file: str, own: str) -> str:
        if self._root is None:
            return ""
        if not os.path.isabs(file) or os.path.normpath(file).startswith(os.path.join(os.path.abspath(self._root), "")):
            path = below(self._root, file)
            top = os.path.abspath(self._root)
            return os.path.join(top, self._spelt.on_disk(top, os.path.relpath(path, top)))
        return self._files.path([os.path.splitext(os.path.basename(file))[0]])

    def _captions(self, custom: list[dict]) -> tuple[str, ...]:
        captions = texts([text for one in custom for key in self._keys for text in _listed(one.get(key))], "caption")
        if not captions:
            raise BadRow("empty_caption", f"no {' or '.join(self._keys)}")
        return captions


def _listed(value: object) -> list:
    return value if isinstance(value, list) else [value]


def _refuse_transforms(recording: dict) -> None:
    """Raises BadRow for a recording that Lhotse would change on loading, except by resampling that loses nothing."""
    for transform in recording.get("transforms") or ():
        name = transform.get("name") if isinstance(transform, dict) else transform
        known = transform.get("kwargs") if isinstance(transform, dict) else None
        known = known if isinstance(known, dict) else {}
        rate = known.get("target_sampling_rate")
        if name == "Resample" and isinstance(rate, int) and rate >= SAMPLE_RATE:  # loses nothing of what is stored
            continue
        how = ", ".join(f"{key}={value}" for key, value in known.items())
        raise BadRow("unsupported_cut", f"the transform {name}({how}) of its recording; store that sound as a file")


_Stretch = tuple[float, float, tuple[int, ...] | None]  # start and length in the recording, its channels


def _stretches(supervisions: list, start: float, duration: float, channel: object) -> dict[_Stretch, list[dict]]:
    """The supervisions of a cut by the stretch they describe: the whole cut when the only one is of it.

    Raises:
      BadRow: there is none, one lies outside the cut, or a time or channel is invalid.
    """
    if not supervisions or not all(isinstance(one, dict) for one in supervisions):
        raise BadRow("bad_record", "no supervision")
    channels = _channels(channel)
    if len(supervisions) == 1 and _covers(supervisions[0], duration):
        return {(start, duration, channels): supervisions}
    by_stretch: dict[_Stretch, list[dict]] = {}
    for one in supervisions:
        first = _number(one.get("start"), "start")  # from the start of the cut, negative if it began earlier
        last = min(first + _number(one.get("duration"), "duration"), duration)
        first = max(first, 0.0)
        if last - first < _ROUNDING_S:
            raise BadRow("bad_time", f"supervision {one.get('id')!r} has no time inside the cut")
        whole = first < _ROUNDING_S and duration - last < _ROUNDING_S
        times = (start, duration) if whole else (start + first, last - first)
        own = channels if not isinstance(channel, list) or one.get("channel") is None else _channels(one["channel"])
        by_stretch.setdefault((*(round(number, 6) for number in times), own), []).append(one)
    return by_stretch


def _covers(supervision: dict, duration: float) -> bool:
    """Whether it covers a whole cut of ``duration`` seconds: it states no times, or nearly those of the cut."""
    if supervision.get("start") is None or supervision.get("duration") is None:
        return True
    first = _number(supervision["start"], "start")
    return first < _EDGE_S and first + _number(supervision["duration"], "duration") > duration - _EDGE_S


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadRow("bad_time", f"{name} of a supervision is {value!r}, not a number of seconds")
    return float(value)


def _channels(value: object) -> tuple[int, ...] | None:
    """The channels that a cut, supervision or source names, in its order; None when it names none."""
    if value is None:
        return None
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in _listed(value)) or not _listed(value):
        raise BadRow("bad_record", f"channel is {value!r}, not a number or a list of them")
    return tuple(dict.fromkeys(_listed(value)))


def _source(recording: dict, channels: tuple[int, ...] | None) -> tuple[str, int | None, str]:
    """The file that holds ``channels``, which of its channels they are (None: all, mixed down), and a suffix for the
    name of the recording when it has others too."""
    sources = field(recording, "sources", list)
    if not sources or not all(isinstance(one, dict) for one in sources):
        raise BadRow("bad_record", "recording without sources")
    kept = [_channels(one.get("channels", recording.get("channel_ids"))) for one in sources]
    chosen = [n for n, own in enumerate(kept) if channels is None or own is None or set(own) & set(channels)]
    if not chosen:
        raise BadRow("bad_record", f"channel {_listing(channels)} is not among those of the recording")
    if len(chosen) > 1:
        raise BadRow("unsupported_cut", f"channels of {len(chosen)} files; a clip is read from one file")
    source, own = sources[chosen[0]], kept[chosen[0]]
    kind = source.get("type", "file")
    if kind != "file":
        raise BadRow("unsupported_cut", f"a recording of type {kind!r}; only files can be read")
    file = field(source, "source")
    others = {one for some in kept for one in some or ()} - set(channels or ())
    side = f"#channel_{_listing(channels)}" if channels and others else ""
    if not channels or own is None or set(own) <= set(channels):
        return file, None, side
    if len(channels) > 1:
        raise BadRow(
            "unsupported_cut", f"channels {_listing(channels)} of {len(own)}; only one or all of them can be read"
        )
    return file, own.index(channels[0]), side


def _listing(channels: tuple[int, ...] | None) -> str:
    return ",".join(map(str, channels or ()))


CORPUS = Corpus(
    name="lhotse",
    title="Lhotse CutSet manifests, also UTS (captions and tags of CaptionStew 400K)",
    read=clips,
    metadata="cuts as .jsonl or .jsonl.gz",
    audio="folder below which the paths of the cuts lie; otherwise files are found by name (UTS: by the cut's id)",
    suffixes=(".jsonl", ".jsonl.gz"),
    options={
        "captions": Option("a cut's caption, its original_caption, or both", "new", tuple(_CHOICES)),
        "source": Option("the source that all clips are counted under (default: the data set's name, else lhotse)"),
    },
)
