"""TensorFlow Datasets (TFDS) prepared as array_record, read without TensorFlow, which TFDS itself needs for audio.

Follows what ``tfds build`` writes: ``dataset_info.json`` (splits and their shards), ``features.json``, one
``<feature>.labels.txt`` per class label, and ``tf.train.Example`` records.
"""

import dataclasses
import functools
import io
import os
import pathlib
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
import soundfile
from array_record.python import array_record_module
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_generated_pb2

from alp_jax.core import files
from alp_jax.core.errors import UserError

_BATCH = 16  # records read at a time


@dataclasses.dataclass(frozen=True)
class Classes:
    """A class label: the number of classes, and their names where the data set has them."""

    count: int
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Sound:
    """How the audio of a record is stored: samples of ``dtype`` at ``rate`` Hz, or an encoded file."""

    feature: str
    rate: int
    dtype: str
    encoding: str  # none, bytes, zlib
    channels: int
    encoded_file: str  # extension of a file stored unchanged (lazy_decode); "" for samples


@dataclasses.dataclass(frozen=True)
class Info:
    """A prepared data set.

    Attributes:
      name: of the data set.
      splits: split -> shard path -> number of records.
      classes: feature (``instrument/family`` when nested) -> its classes.
      scalars: features with one text or number per record, class labels among them.
      sound: the audio.
    """

    name: str
    splits: Mapping[str, Mapping[str, int]]
    classes: Mapping[str, Classes]
    scalars: tuple[str, ...]
    sound: Sound


def read_info(folder: str | os.PathLike) -> Info:
    """Reads what the version folder of a data set says about it.

    Raises:
      UserError: not such a folder, a file format other than array_record, no audio, or a missing shard.
    """
    folder = pathlib.Path(folder)
    info = files.read_json(folder / "dataset_info.json", "TFDS data set")
    try:
        name, form = info["name"], info.get("fileFormat")
        if form != "array_record":
            raise UserError(
                f"{folder} holds {form} files; prepare it with: tfds build {name} --file_format=array_record"
            )
        splits = {entry["name"]: _shards(folder, name, entry) for entry in info["splits"]}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{folder / 'dataset_info.json'} does not have the form that TFDS writes: {error!r}") from None
    features = dict(_features(_read_features(folder)))
    classes = {
        feature: Classes(int(part["classLabel"].get("numClasses", 0)), _names(folder, feature))
        for feature, part in features.items()
        if "classLabel" in part
    }
    scalars = tuple(
        feature
        for feature, part in features.items()
        if part.keys() & {"classLabel", "text"}
        or ("tensor" in part and not part["tensor"].get("shape", {}).get("dimensions"))
    )
    return Info(name, splits, classes, scalars, _sound(folder, features))


def _shards(folder: pathlib.Path, name: str, entry: Mapping) -> dict[str, int]:
    lengths = [int(length) for length in entry.get("shardLengths", [])]
    records_of = {}
    for shard, length in enumerate(lengths):
        values = {
            "{DATASET}": name,
            "{SPLIT}": entry["name"],
            "{FILEFORMAT}": "array_record",
            "{SHARD_X_OF_Y}": f"{shard:05d}-of-{len(lengths):05d}",
        }
        file = entry.get("filepathTemplate") or "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        for mark, value in values.items():
            file = file.replace(mark, value)
        if "/" in file or not (folder / file).is_file():
            raise UserError(f"{folder}: shard {file} is missing; prepare the data set again")
        records_of[str((folder / file).absolute())] = length
    return records_of


@functools.lru_cache(maxsize=16)
def _read_features(folder: pathlib.Path) -> Mapping:
    return files.read_json(folder / "features.json", "TFDS features")


def _features(part: Mapping, prefix: str = "") -> Iterator[tuple[str, Mapping]]:
    """(name in the records, description) of every feature that is not a dictionary."""
    if not isinstance(part, dict):
        raise UserError("features.json does not have the form that TFDS writes")
    inner = part.get("featuresDict", {}).get("features")
    if inner is None:
        yield prefix, part
        return
    for name, child in inner.items():
        yield from _features(child, f"{prefix}/{name}" if prefix else name)


def _names(folder: pathlib.Path, feature: str) -> tuple[str, ...]:
    # TFDS joins the names of nested features with -, and writes / in one name as .
    for name in (feature.replace("/", "-"), feature.replace("/", ".")):
        path = folder / f"{name}.labels.txt"
        if path.is_file():
            lines = (line.strip() for line in path.read_text(encoding="utf-8").split("\n"))
            return tuple(line for line in lines if line)
    return ()


def _sound(folder: pathlib.Path, features: Mapping[str, Mapping]) -> Sound:
    audio_names = [name for name, part in features.items() if part.get("pythonClassName", "").endswith(".Audio")]
    if not audio_names:
        raise UserError(f"{folder} has no feature of class Audio; it has {', '.join(sorted(features))}")
    if len(audio_names) > 1:
        raise UserError(f"{folder} has several audio features, {', '.join(audio_names)}; only one can be read")
    audio = features[audio_names[0]].get("audio", {})
    rate = int(audio.get("sampleRate") or 0)
    if rate <= 0:
        raise UserError(f"{folder / 'features.json'} does not state the sample rate of {audio_names[0]!r}")
    shape = audio.get("shape", {}).get("dimensions", ["-1"])
    encoding = str(audio.get("encoding") or "none").lower()
    lazy = f".{audio.get('fileFormat') or 'wav'}" if audio.get("lazyDecode") else ""
    channels = int(shape[1]) if len(shape) > 1 else 1
    if channels < 1 or encoding not in ("none", "bytes", "zlib"):
        raise UserError(f"{folder}: audio of shape {shape} and encoding {encoding!r} cannot be read")
    return Sound(audio_names[0], rate, str(audio.get("dtype") or "int64"), encoding, channels, lazy)


@functools.lru_cache(maxsize=4)
def _reader(path: str, size: int, changed: int):
    del size, changed  # part of the cache key alone: a changed file gets a new reader
    return array_record_module.ArrayRecordReader(path)


def _examples(path: str, first: int, last: int) -> list:
    """The Example records ``first`` to ``last`` - 1; ValueError when they cannot be read."""
    try:
        status = os.stat(path)
        records = _reader(path, status.st_size, status.st_mtime_ns).read(list(range(first, last)))
        # The proto rather than TFDS' parser (core.example_parser.ExampleParserNp): the parser runs without TensorFlow,
        # but only FeaturesDict.from_config makes its specs from features.json, and that imports TensorFlow.
        return [tf_example_generated_pb2.Example.FromString(record) for record in records]
    except (RuntimeError, OSError, DecodeError, IndexError) as error:
        raise ValueError(f"{path} records {first} to {last - 1} cannot be read: {error}") from None


def scalars(path: str, info: Info, count: int) -> Iterator[dict[str, int | float | str]]:
    """The scalar features of ``count`` records of a shard.

    Raises:
      UserError: fewer or damaged records.
    """
    wanted = set(info.scalars)
    for first in range(0, count, _BATCH):
        try:
            examples = _examples(path, first, min(first + _BATCH, count))
        except ValueError as error:
            raise UserError(f"{error}; prepare the data set again") from None
        for example in examples:
            feature = example.features.feature
            yield {name: value for name in wanted & set(feature) if (value := _single(feature[name])) is not None}


def _single(feature) -> int | float | str | None:
    kind = feature.WhichOneof("kind")
    values = getattr(feature, kind).value if kind else ()
    if len(values) != 1:
        return None
    return values[0].decode(errors="surrogateescape") if kind == "bytes_list" else values[0]


def read_audio(path: str, record: int) -> tuple[bytes, str]:
    """The audio of one record as the bytes of a file, and its extension.

    Integer samples become 16-bit WAV, or 32-bit if one does not fit; float samples become 32-bit float WAV.

    Raises:
      ValueError: no such record, or it lacks the audio that features.json describes.
      UserError: see ``read_info``.
    """
    folder = pathlib.Path(path).parent
    sound = _sound(folder, dict(_features(_read_features(folder))))
    (example,) = _examples(path, record, record + 1)
    feature = example.features.feature[sound.feature]
    kind = feature.WhichOneof("kind")
    if kind is None:
        raise ValueError(f"no {sound.feature!r}")
    values = getattr(feature, kind).value
    if sound.encoded_file:
        return values[0], sound.encoded_file
    if kind == "bytes_list":
        try:
            data = zlib.decompress(values[0]) if sound.encoding == "zlib" else values[0]
        except zlib.error as error:
            raise ValueError(str(error)) from None
        samples = np.frombuffer(data, np.dtype(sound.dtype).newbyteorder("<"))
    else:
        samples = np.array(values, np.float32 if kind == "float_list" else np.int64)
    return _wav(samples, sound), ".wav"


def _wav(samples: np.ndarray, sound: Sound) -> bytes:
    if samples.size % sound.channels:
        raise ValueError(f"{samples.size} samples do not make a whole number of {sound.channels}-channel frames")
    subtype = "FLOAT"
    if samples.dtype.kind in "iu":
        wide = samples.size and (samples.max() > 32767 or samples.min() < -32768)
        samples, subtype = samples.astype(np.int32 if wide else np.int16), "PCM_32" if wide else "PCM_16"
    elif samples.dtype.kind == "f":
        samples = samples.astype(np.float32)
    else:
        raise ValueError(f"samples of type {samples.dtype}")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples.reshape(-1, sound.channels), sound.rate, format="WAV", subtype=subtype)
    return buffer.getvalue()
