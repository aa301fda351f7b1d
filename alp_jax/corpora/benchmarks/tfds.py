"""Audio data sets of TensorFlow Datasets (TFDS) with labels, as clips for probes: nsynth, crema_d, gtzan, voxceleb, ...

Reads what ``tfds build NAME --file_format=array_record`` prepared, without TensorFlow: the version folder
(``.../nsynth/full/2.3.3``) is the metadata and holds the audio. Every class label becomes the label of a task:
``label`` that of the task named like the data set, any other that of ``<data set>_<feature>``, except for two tasks
of the paper.
"""

import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from alp_jax.core.clip import Clip, Rejected
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.corpora.corpus import SPLIT_WORDS, Clips, Corpus, Option
from alp_jax.corpora.rows import BadRow, check_utf8

if TYPE_CHECKING:
    from alp_jax.data.audio import array_records

_VIDEO = ("youtube_id",)  # voxceleb
# the names of these tasks in the paper's protocol; TFDS's voxceleb is VoxCeleb1, split for identification
_TASKS = {"voxceleb": "voxceleb1", "nsynth_instrument_family": "nsynth_instrument"}


def clips(
    metadata: Sequence[pathlib.Path],
    audio: pathlib.Path | None = None,
    split: str | None = None,
    labels: str = "",
    group: str = "",
) -> Clips:
    """One clip per record; every record is read once, for its labels.

    Args:
      audio: unused, since the records hold the audio.
      labels: names of class labels, separated by commas; "" for all.
      group: a feature whose value groups clips (a speaker); "" makes every clip a group of its own.

    Raises:
      UserError: not a prepared data set, another file format, shards missing, or unknown features.
    """
    from alp_jax.data.audio import array_records  # imported late: it takes a second to load

    del audio
    for folder in metadata:
        info = array_records.read_info(folder)
        names = [choose(name, info.classes, f"label of {info.name}") for name in labels.split(",") if name]
        if group:
            choose(group, info.scalars, f"feature of {info.name}")
        for tfds_split, shards in info.splits.items():
            clip_split = split or SPLIT_WORDS.get(tfds_split)
            if clip_split is None:
                raise UserError(f"{folder}: split {tfds_split!r} is not train, validation or test; give --split")
            records = {path: array_records.scalars(path, info, count) for path, count in shards.items()}
            yield from _split(info, tfds_split, records, clip_split, names or list(info.classes), group)


def _split(
    info: "array_records.Info", name: str, shards: Mapping[str, Iterator], split: str, labels: list[str], group: str
) -> Iterator[Clip | Rejected]:
    number = 0
    for path, records in shards.items():
        for record, values in enumerate(records):
            try:
                yield _clip(info, f"{name}-{number}", path, record, values, split, labels, group)
            except BadRow as error:
                yield Rejected(f"{path} record {record}", error.reason, error.detail)
            number += 1


def _clip(
    info: "array_records.Info",
    own: str,
    path: str,
    record: int,
    values: Mapping[str, int | float | str],
    split: str,
    labels: list[str],
    group: str,
) -> Clip:
    task_labels = {}
    for label in labels:
        classes, value = info.classes[label], values.get(label)
        if not isinstance(value, int) or not 0 <= value < classes.count:
            raise BadRow("bad_record", f"{label} is {value!r}, not a class number below {classes.count}")
        task = info.name if label == "label" else f"{info.name}_{re.sub(r'[^A-Za-z0-9]+', '_', label)}"
        task_labels[_TASKS.get(task, task)] = classes.names[value] if classes.names else str(value)
    video = next((values[name] for name in _VIDEO if name in values), "")
    for text in (*task_labels.values(), str(video), str(values.get(group, ""))):
        check_utf8(text, "record")
    recording = f"voxceleb:{video}" if video and info.name == "voxceleb" else f"{info.name}:{own}"
    return Clip(
        id=f"{info.name}:{own}",
        source=info.name,
        recording=recording,
        audio_path=path,
        labels=task_labels,
        split=split,
        group=f"{info.name}:{values[group]}" if group in values else recording,
        member=str(record),
        recording_start_s=None if recording.startswith("voxceleb:") else 0.0,
    )


CORPUS = Corpus(
    name="tfds",
    title="any TFDS audio data set with class labels, prepared as array_record",
    read=clips,
    metadata="version folders as tfds build writes them (dataset_info.json, features.json, shards)",
    audio="",
    options={
        "labels": Option("class labels to take, separated by commas (default: all)"),
        "group": Option("feature that groups clips, such as speaker_id (default: every clip on its own)"),
    },
)
