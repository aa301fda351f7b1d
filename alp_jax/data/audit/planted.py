"""Plants leaks among the training clips of a data set and counts which of them an audit finds."""

import io
import itertools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import soundfile
import soxr

from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.data.audio.elastic import elastic
from alp_jax.data.audio.fingerprint import find_peaks, fingerprint
from alp_jax.data.audit import columns
from alp_jax.data.audit.audit import Audit, compare
from alp_jax.data.audit.columns import ALWAYS, Columns, Ragged, caption_hashes
from alp_jax.data.audit.kinds import LEAK_KINDS
from alp_jax.data.audit.sets import of_rows
from alp_jax.data.building.shard import audio_hash
from alp_jax.data.store.dataset import Dataset

WAYS = ("renamed", "re_encoded", "trimmed", "gain", "caption")
# container, encoding, sample rate, compression level of libsndfile (0: least): 24 to 64 kbit/s, and telephone rate
CODECS = (
    ("MP3", "MPEG_LAYER_III", 44_100, 0.89),
    ("OGG", "VORBIS", 22_050, 0.8),
    ("MP3", "MPEG_LAYER_III", 16_000, 0.89),
    ("OGG", "OPUS", 48_000, 0.9),
    ("FLAC", "PCM_16", 8_000, 0.5),
)
TRIMMED, GAIN_DB = (0.3, 0.5), (-12.0, 6.0)
LONG_S = 1.0  # clips of at least this many seconds are also counted separately: shorter ones have few landmarks
_CHUNK = 4096  # frames; libsndfile's encoders fail on long buffers


def re_encode(sound: np.ndarray, codec: tuple[str, str, int, float]) -> np.ndarray:
    """int16[n] at 16 kHz through one of CODECS and back; lossy encoders may add some milliseconds."""
    container, encoding, rate, level = codec
    wave = soxr.resample(sound.astype(np.float32) / 32768, SAMPLE_RATE, rate)
    options = {} if container == "FLAC" else {"compression_level": level}
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, 1, format=container, subtype=encoding, **options) as file:
        for start in range(0, len(wave), _CHUNK):
            file.write(wave[start : start + _CHUNK])
    buffer.seek(0)
    wave, rate = soundfile.read(buffer, dtype="float32")
    return _to_int16(soxr.resample(wave, rate, SAMPLE_RATE))


def trim(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cuts 30 to 50 % off int16[n], divided at random between both ends."""
    away = int(len(sound) * rng.uniform(*TRIMMED))
    first = int(rng.integers(0, away + 1))
    return sound[first : len(sound) - (away - first)]


def change_gain(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Changes the gain of int16[n] by -12 to +6 dB, clipping at full scale."""
    return _to_int16(sound.astype(np.float32) / 32768 * 10 ** (rng.uniform(*GAIN_DB) / 20))


def _to_int16(wave: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(wave * 32768.0), -32768, 32767).astype(np.int16)


def audit_planted(dataset: Dataset, count: int, seed: int = 0) -> dict:
    """Plants ``count`` leaks of the test split, the same number in each of WAYS, and audits the training split.

    A copied caption comes with the sound of a training clip; the other leaks come with captions of their own.

    Returns:
      {"planted": way -> {"clips", "found" (by any kind), "right" (matched with the clip it was made from), the number
      found by each kind, and "long" and "long_found" for clips of at least LONG_S}, "others": {"clips", "found", and
      the number by each kind} for the training clips themselves, "warnings": those of the audit}.

    Raises:
      UserError: fewer test or training clips than are needed.
    """
    each = count // len(WAYS)
    test, train = dataset.rows("test"), dataset.rows("train")
    captioned = test[dataset.num_captions[test] > 0]
    if not 1 <= each <= min(len(train), len(captioned), len(test) // len(WAYS)):
        raise UserError(
            f"{count} planted leaks: {dataset.path} has {len(train)} training and {len(test)} test clips "
            f"({len(captioned)} with captions); at least {len(WAYS)} leaks are planted, each of a different test clip"
        )
    rng = np.random.default_rng(seed)
    evaluation = of_rows("test", dataset, test)
    copied = rng.choice(captioned, each, replace=False)
    used = rng.permutation(np.setdiff1d(test, copied))[: each * (len(WAYS) - 1)]
    origin = np.append(used, copied)
    sounds = [_sound(dataset, int(row), i // each, i % each, rng) for i, row in enumerate(used)]
    sounds += [dataset.read(int(row)).audio for row in rng.choice(train, each, replace=False)]
    texts = [(f"planted {i}",) for i in range(len(used))]
    texts += [dataset.read(int(row), audio=False).captions for row in copied]
    block = _block(sounds, texts, len(dataset))
    blocks = itertools.chain(columns.of_dataset(dataset, train), [block])
    audited = compare(blocks, [evaluation], total=len(train) + len(block))
    long = dataset.num_samples[origin] >= LONG_S * SAMPLE_RATE
    return recall(audited, WAYS, len(dataset), np.searchsorted(evaluation.clips.row, origin), long=long)


def _sound(dataset: Dataset, row: int, way: int, number: int, rng: np.random.Generator) -> np.ndarray:
    sound = dataset.read(row).audio
    if WAYS[way] == "re_encoded":
        return re_encode(sound, CODECS[number % len(CODECS)])
    return {"renamed": lambda a, _: a, "trimmed": trim, "gain": change_gain}[WAYS[way]](sound, rng)


def _block(sounds: Sequence[np.ndarray], texts: Sequence[Sequence[str]], first: int) -> Columns:
    names, peaks = pa.array([f"planted:{i}" for i in range(len(sounds))]), [find_peaks(sound) for sound in sounds]
    return Columns(
        row=first + np.arange(len(sounds)),
        id=names,
        recording=names,
        source=np.zeros(len(sounds), np.int32),
        sources=("planted",),
        begin_s=np.zeros(len(sounds)),
        end_s=np.full(len(sounds), ALWAYS),
        placed=np.zeros(len(sounds), bool),
        part=np.zeros(len(sounds), np.uint64),
        whole=np.zeros(len(sounds), bool),
        has_audio=np.ones(len(sounds), bool),
        audio_hash=np.array([audio_hash(sound) for sound in sounds], np.uint64),
        caption=caption_hashes(texts),
        fingerprint=Ragged.of([fingerprint(one).tolist() for one in peaks], np.uint32),
        elastic=Ragged.of([elastic(one).tolist() for one in peaks], np.uint64),
        stored_elastic=np.ones(len(sounds), bool),
    )


def recall(
    audited: Audit,
    ways: Sequence[str],
    first: int,
    origin: np.ndarray,
    *,
    same: np.ndarray | None = None,
    long: np.ndarray | None = None,
) -> dict[str, dict]:
    """How many planted leaks were found, as ``audit_planted`` returns it.

    Args:
      ways: the ways of planting, with equally many leaks each, one way after another.
      first: row of the first planted leak; they have the source ``planted``.
      origin: int64[n], number in ``audited.evaluation`` of the clip that each leak was made from.
      same: int[E], evaluation clips with equal numbers count as one; None: none do.
      long: bool[n], the leaks to count separately as well.
    """
    by_kind, others = {}, {}
    same = np.arange(len(audited.evaluation.clips)) if same is None else same
    right = np.zeros(len(origin), bool)
    for kind in LEAK_KINDS:
        row, eval_clip = (audited.matches[kind][name].to_numpy() for name in ("row", "eval_clip"))
        planted = row >= first
        by_kind[kind] = np.isin(first + np.arange(len(origin)), row)
        right[row[planted] - first] |= same[eval_clip[planted]] == same[origin[row[planted] - first]]
        others[kind] = int((~planted).sum())
    each, result = len(origin) // len(ways), {}
    for number, way in enumerate(ways):
        part = slice(number * each, (number + 1) * each)
        some = np.any([hits[part] for hits in by_kind.values()], axis=0)
        result[way] = {"clips": each, "found": int(some.sum()), "right": int(right[part].sum())}
        if long is not None:
            result[way] |= {"long": int(long[part].sum()), "long_found": int((some & long[part]).sum())}
        result[way] |= {kind: int(hits[part].sum()) for kind, hits in by_kind.items()}
    rows = np.unique(np.concatenate([table["row"].to_numpy() for table in audited.matches.values()]))
    clips = sum(n for source, n in audited.clips.items() if source != "planted")
    left = {"clips": clips, "found": int((rows < first).sum())} | others
    return {"planted": result, "others": left, "warnings": list(audited.warnings)}
