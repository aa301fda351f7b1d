"""TFDS data sets in array_record: tiny ones, written here as ``tfds build`` writes them."""

import io
import json

import numpy as np
import pytest
import soundfile
from array_record.python import array_record_module
from tensorflow_datasets.proto import tf_example_generated_pb2

from alp_jax.core.clip import Rejected
from alp_jax.core.errors import UserError
from alp_jax.corpora import registry
from alp_jax.data.audio import containers
from alp_jax.data.audio.errors import BadAudio

PACKAGE = "tensorflow_datasets.core.features."
LABEL = {"pythonClassName": f"{PACKAGE}class_label_feature.ClassLabel", "classLabel": {"numClasses": "3"}}
TEXT = {"pythonClassName": f"{PACKAGE}text_feature.Text", "text": {}}


def audio_feature(**settings):
    audio = {"dtype": "int64", "encoding": "NONE", "sampleRate": "8000", "shape": {"dimensions": ["-1"]}} | settings
    return {"pythonClassName": f"{PACKAGE}audio_feature.Audio", "audio": audio}


def dictionary(**features):
    name = f"{PACKAGE}features_dict.FeaturesDict"
    return {"pythonClassName": name, "featuresDict": {"features": features}}


def example(**values):
    record = tf_example_generated_pb2.Example()
    for name, value in values.items():
        feature = record.features.feature[name.replace("__", "/")]
        if isinstance(value, (str, bytes)):
            feature.bytes_list.value.append(value.encode() if isinstance(value, str) else value)
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            part = feature.int64_list if np.asarray(value).dtype.kind == "i" else feature.float_list
            part.value.extend(np.asarray(value).ravel().tolist())
    return record.SerializeToString()


def prepare(folder, features, splits, labels, name="toy", **info):
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for split, shards in splits.items():
        for number, records in enumerate(shards):
            file = folder / f"{name}-{split}.array_record-{number:05d}-of-{len(shards):05d}"
            writer = array_record_module.ArrayRecordWriter(str(file), "group_size:1")
            for record in records:
                writer.write(record)
            writer.close()
        lengths = [str(len(records)) for records in shards]
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        entries.append({"name": split, "shardLengths": lengths, "filepathTemplate": template})
    data = {"name": name, "fileFormat": "array_record", "splits": entries, "version": "1.0.0"} | info
    (folder / "dataset_info.json").write_text(json.dumps(data))
    (folder / "features.json").write_text(json.dumps(dictionary(**features)))
    for file, names in labels.items():
        (folder / f"{file}.labels.txt").write_text("\n".join(names) + "\n")
    return folder


def read(folder, **settings):
    rows = list(registry.read("tfds", [folder], **settings))
    bad = [(row.where.rpartition("/")[2], row.reason) for row in rows if isinstance(row, Rejected)]
    return [row for row in rows if not isinstance(row, Rejected)], bad


SOUND = (np.arange(-4, 4) * 4000).tolist()


@pytest.fixture
def instruments(tmp_path):
    features = {
        "audio": audio_feature(),
        "label": LABEL,
        "pitch": LABEL,
        "speaker_id": TEXT,
        "instrument": dictionary(family=LABEL),
        "audio/filename": TEXT,
    }
    values = {"audio": SOUND, "pitch": 1, "audio__filename": "x.wav"}
    train = [
        [example(**values, label=0, speaker_id="s1", instrument__family=2)],
        [
            example(**values, label=2, speaker_id="s2", instrument__family=0),
            example(**values, label=3, speaker_id="s2", instrument__family=0),
        ],
    ]
    test = [[example(**values, label=1, speaker_id="s3", instrument__family=1)]]
    labels = {"label": ["a b", "c", "d"], "instrument-family": ["bass", "brass", "flute"]}
    return prepare(tmp_path / "toy" / "1.0.0", features, {"train": train, "test": test}, labels)


def test_every_class_label_becomes_the_label_of_a_task(instruments):
    clips, bad = read(instruments)
    assert [clip.labels for clip in clips] == [
        {"toy": "a b", "toy_pitch": "1", "toy_instrument_family": "flute"},
        {"toy": "d", "toy_pitch": "1", "toy_instrument_family": "bass"},
        {"toy": "c", "toy_pitch": "1", "toy_instrument_family": "brass"},
    ]
    assert [(clip.id, clip.split, clip.member) for clip in clips] == [
        ("toy:train-0", "train", "0"),
        ("toy:train-1", "train", "0"),
        ("toy:test-0", "test", "0"),
    ]
    assert clips[1].audio_path == str(instruments / "toy-train.array_record-00001-of-00002")
    assert (clips[0].recording, clips[0].group, clips[0].captions) == ("toy:train-0", "toy:train-0", ())
    assert bad == [("toy-train.array_record-00001-of-00002 record 1", "bad_record")]


def test_labels_and_groups_by_choice(instruments):
    clips, _ = read(instruments, labels="instrument/family", group="speaker_id", split="valid")
    assert [(clip.labels, clip.group, clip.split) for clip in clips[:2]] == [
        ({"toy_instrument_family": "flute"}, "toy:s1", "valid"),
        ({"toy_instrument_family": "bass"}, "toy:s2", "valid"),
    ]
    with pytest.raises(UserError, match="unknown label of toy 'family'"):
        read(instruments, labels="family")
    with pytest.raises(UserError, match="unknown feature of toy 'speaker'"):
        read(instruments, group="speaker")


def test_voxceleb_recordings_are_those_of_other_corpora(tmp_path):
    features = {"audio": audio_feature(), "label": LABEL, "youtube_id": TEXT}
    record = example(audio=SOUND, label=1, youtube_id="21Uxsk56VDQ")
    folder = prepare(tmp_path / "v", features, {"train": [[record]]}, {}, name="voxceleb")
    (clip,), _ = read(folder)
    assert (clip.recording, clip.recording_start_s) == ("voxceleb:21Uxsk56VDQ", None)
    assert clip.labels == {"voxceleb1": "1"}


def stored(tmp_path, feature, **values):
    folder = prepare(tmp_path / "t", {"audio": feature, "label": LABEL}, {"train": [[example(label=0, **values)]]}, {})
    (clip,), _ = read(folder)
    data, extension = containers.read_member(clip.audio_path, clip.member, 1 << 20)
    assert extension == ".wav"
    return soundfile.read(io.BytesIO(data), dtype="float64")


@pytest.mark.parametrize(
    ("feature", "samples", "full_scale"),
    [
        ({}, [0, 16384, -32768, 32767], 32768),
        ({}, [0, 1 << 30, -(1 << 31)], 1 << 31),
        ({"dtype": "float32", "sampleRate": "16000"}, [0.0, 0.5, -0.25], 1),
    ],
)
def test_samples_come_back_as_wav(tmp_path, feature, samples, full_scale):
    sound, rate = stored(tmp_path, audio_feature(**feature), audio=samples)
    assert rate == int(feature.get("sampleRate", 8000))
    np.testing.assert_array_equal(sound, np.array(samples) / full_scale)


def test_stereo_compressed_and_encoded_audio(tmp_path):
    import zlib

    wide = np.array([[1, 2], [3, 4], [5, 6]], np.int16)
    stereo = {"shape": {"dimensions": ["-1", "2"]}, "dtype": "int16"}
    sound, _ = stored(tmp_path / "a", audio_feature(**stereo), audio=wide.astype(np.int64))
    np.testing.assert_array_equal(sound * 32768, wide)
    packed = zlib.compress(wide.tobytes())
    sound, _ = stored(tmp_path / "b", audio_feature(**stereo, encoding="ZLIB"), audio=packed)
    np.testing.assert_array_equal(sound * 32768, wide)
    file = io.BytesIO()
    soundfile.write(file, wide, 44100, format="WAV")
    lazy = audio_feature(**stereo, lazyDecode=True, fileFormat="wav")
    sound, rate = stored(tmp_path / "c", lazy, audio=file.getvalue())
    assert rate == 44100


def test_members_that_cannot_be_read(instruments):
    shard = instruments / "toy-test.array_record-00000-of-00001"
    for member, reason in (("1", "corrupt"), ("x", "missing"), ("", "missing")):
        with pytest.raises(BadAudio) as caught:
            containers.read_member(str(shard), member, 1 << 20)
        assert caught.value.reason == reason
    with pytest.raises(BadAudio, match="too_large"):
        containers.read_member(str(shard), "0", 10)
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(BadAudio, match="corrupt"):
        containers.read_member(str(shard), "0", 1 << 20)


def test_data_sets_that_cannot_be_read(instruments, tmp_path):
    def fails(match, folder=instruments):
        with pytest.raises(UserError, match=match) as caught:
            read(folder)
        assert "\n" not in str(caught.value)

    fails("TFDS data set .* does not exist", tmp_path)
    train = [[example(audio=SOUND, label=0)]]
    form = {"audio": audio_feature(), "label": LABEL}
    fails(
        "holds tfrecord files; prepare it with: tfds build toy --file_format=array_record",
        prepare(tmp_path / "a", form, {"train": train}, {}, fileFormat="tfrecord"),
    )
    fails(
        "has no feature of class Audio; it has label", prepare(tmp_path / "b", {"label": LABEL}, {"train": train}, {})
    )
    silent = {"audio": audio_feature(sampleRate=None)}
    fails("does not state the sample rate of 'audio'", prepare(tmp_path / "c", silent, {"train": train}, {}))
    fails("split 'extra' is not train, validation or test", prepare(tmp_path / "d", form, {"extra": train}, {}))
    edited = prepare(tmp_path / "e", form, {"train": train}, {})
    (edited / "dataset_info.json").write_text('{"name": "toy", "fileFormat": "array_record", "splits": [{}]}')
    fails("does not have the form that TFDS writes", edited)
    (instruments / "toy-train.array_record-00001-of-00002").unlink()
    fails("shard toy-train.array_record-00001-of-00002 is missing")
