"""Clips as standard ``tf.train.Example`` records, which TensorFlow and TFDS read unchanged; neither runs here."""

import dataclasses
import io

import numpy as np
import soundfile
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_generated_pb2

from alp_jax.core.clip import Clip, Event
from alp_jax.core.errors import DataError

SAMPLE_RATE = 16_000
CODECS = ("flac", "pcm")
_LABEL = "labels/"


@dataclasses.dataclass(frozen=True)
class Record:
    """One stored clip. ``audio`` is int16[num_samples], 16 kHz mono, or None when it was not asked for."""

    id: str
    source: str
    recording: str
    audio: np.ndarray | None
    num_samples: int
    captions: tuple[str, ...]
    tags: tuple[str, ...]
    labels: dict[str, str]
    events: tuple[Event, ...]
    split: str
    group: str
    license: str


def encode_audio(audio: np.ndarray, codec: str) -> bytes:
    """int16[n] at 16 kHz as FLAC (lossless, about half the size) or little-endian PCM."""
    if codec == "pcm":
        return audio.astype("<i2").tobytes()
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def decode_audio(data: bytes, codec: str) -> np.ndarray:
    """The int16[n] that ``encode_audio`` was given."""
    if codec == "pcm":
        return np.frombuffer(data, "<i2").astype(np.int16)
    return soundfile.read(io.BytesIO(data), dtype="int16")[0]


def encode(clip: Clip, audio: np.ndarray, codec: str) -> bytes:
    """Serialises ``clip`` with its decoded ``audio`` (int16[n], 16 kHz mono); equal input gives equal bytes."""
    example = tf_example_generated_pb2.Example()
    feature = example.features.feature

    def put(name: str, *values: str | bytes):
        feature[name].bytes_list.value.extend(v.encode() if isinstance(v, str) else v for v in values)

    for name in ("id", "source", "recording", "split", "group", "license"):
        put(name, getattr(clip, name))
    put("audio", encode_audio(audio, codec))
    put("codec", codec)
    put("captions", *clip.captions)
    put("tags", *clip.tags)
    for task, label in clip.labels.items():
        put(_LABEL + task, label)
    put("events/label", *(event.label for event in clip.events))
    feature["events/onset"].float_list.value.extend(event.onset_s for event in clip.events)
    feature["events/offset"].float_list.value.extend(event.offset_s for event in clip.events)
    feature["num_samples"].int64_list.value.append(len(audio))
    return example.SerializeToString(deterministic=True)


def decode(data: bytes, where: str, audio: bool = True) -> Record:
    """Inverse of ``encode``; ``where`` names the record in errors and ``audio=False`` skips decoding the sound.

    Raises:
      DataError: ``data`` is not such a record, or its audio has another length than it says.
    """
    try:
        feature = tf_example_generated_pb2.Example.FromString(data).features.feature

        def texts(name: str) -> tuple[str, ...]:
            return tuple(v.decode() for v in feature[name].bytes_list.value)

        (num_samples,) = feature["num_samples"].int64_list.value
        single = {name: texts(name)[0] for name in ("id", "source", "recording", "split", "group", "license", "codec")}
        codec = single.pop("codec")
        sound = decode_audio(feature["audio"].bytes_list.value[0], codec) if audio else None
        onsets, offsets = feature["events/onset"].float_list.value, feature["events/offset"].float_list.value
        record = Record(
            **single,
            audio=sound,
            num_samples=num_samples,
            captions=texts("captions"),
            tags=texts("tags"),
            labels={name[len(_LABEL) :]: texts(name)[0] for name in sorted(feature) if name.startswith(_LABEL)},
            events=tuple(Event(*event) for event in zip(onsets, offsets, texts("events/label"), strict=True)),
        )
    except (DecodeError, ValueError, IndexError, soundfile.LibsndfileError) as error:
        raise DataError(f"{where}: not a record of this project: {error}") from None
    if sound is not None and len(sound) != num_samples:
        raise DataError(f"{where}: holds {len(sound)} samples and says {num_samples}")
    return record
