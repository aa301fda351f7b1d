"""How many altered copies an audit recognises by sound, how many strangers it takes for copies, and what that costs.

    python -m alp_jax.bench.near_duplicates --data data/mini            # the table in data/audit/reach.py
    python -m alp_jax.bench.near_duplicates --matching 10000000,10000   # the cost of a large set

The first alters clips of a data set, that of ``alp quickstart`` for the table; the second makes landmarks up.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable

import numpy as np
import scipy.signal
import soxr

from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.data.audio import elastic, fingerprint
from alp_jax.data.audit.columns import Ragged
from alp_jax.data.audit.near import Landmarks
from alp_jax.data.audit.planted import re_encode
from alp_jax.data.audit.stretched import Stretched
from alp_jax.data.store.dataset import Dataset, open_dataset

HOST_S = 30.0  # length of the clips into which stretches are laid
STRETCHES_S = (1.0, 2.0, 4.0)
_LONG_S, _INSIDE = 3.0, 3  # of clips that give stretches; one in this many does
_MOST_S = 20.0  # that all clips are cut to
_BLOCK = 50_000


def _int16(wave: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(wave), -32768, 32767).astype(np.int16)


def speed(sound: np.ndarray, factor: float) -> np.ndarray:
    """Plays int16[n] ``factor`` times as fast: shorter, and higher by the same factor."""
    return _int16(soxr.resample(sound.astype(np.float32), SAMPLE_RATE * factor, SAMPLE_RATE))


def noise(sound: np.ndarray, rng: np.random.Generator, below_db: float = 20.0) -> np.ndarray:
    """Adds white noise, ``below_db`` under the level of int16[n]."""
    wave = sound.astype(np.float64)
    return _int16(wave + rng.standard_normal(len(wave)) * np.sqrt(np.mean(wave**2)) * 10 ** (-below_db / 20))


def reverberation(sound: np.ndarray, rng: np.random.Generator, seconds: float = 0.5) -> np.ndarray:
    """Puts int16[n] in a room: a tail as loud as the sound itself, which falls by 60 dB in ``seconds``."""
    n = int(seconds * SAMPLE_RATE)
    room = rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    room /= np.sqrt(np.sum(room**2))
    room[0] = 1.0
    wave = scipy.signal.fftconvolve(sound.astype(np.float64), room)[: len(sound)]
    return _int16(wave * min(1.0, 32767 / max(1.0, np.abs(wave).max())))


WAYS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "unchanged": lambda sound, rng: sound,
    "noise 20 dB below": noise,
    "MP3 at 8 kHz": lambda sound, rng: re_encode(sound, ("MP3", "MPEG_LAYER_III", 8000, 0.5)),
    "speed x1.03": lambda sound, rng: speed(sound, 1.03),
    "speed x0.95": lambda sound, rng: speed(sound, 0.95),
    "reverberation of 0.5 s": reverberation,
}


def measure_recall(dataset: Dataset, clips: int, seed: int = 0) -> dict:
    """Alters test clips in every one of WAYS, lays stretches of long ones into training clips, and looks for them.

    Returns:
      {"recall": way -> {"planted", "found" (by either kind of landmarks), "plain", "elastic"}, "strangers": {"pairs"
      compared, "plain", "elastic": pairs of training clip and test clip that were found}, "clip_s": mean length,
      "ms": processor time per clip for "peaks", "plain", "elastic"}.

    Raises:
      UserError: fewer test or training clips than ``clips``, or no long ones.
    """
    rng = np.random.default_rng(seed)
    test, train = dataset.rows("test"), dataset.rows("train")
    long = test[dataset.num_samples[test] >= _LONG_S * SAMPLE_RATE]
    inside = max(1, clips // _INSIDE)
    if min(len(test), len(train)) < clips or len(long) < inside:
        raise UserError(
            f"{dataset.path} has {len(test)} test clips, {len(long)} of them of {_LONG_S:g} s and more, and "
            f"{len(train)} training clips; {clips} of each and {inside} long ones are needed"
        )
    held = (
        _read(dataset, rng.choice(test, clips, replace=False)),
        _read(dataset, rng.choice(long, inside, replace=False)),
    )
    others = _read(dataset, rng.choice(train, min(len(train), 4 * clips), replace=False))
    ms = dict.fromkeys(("peaks", "plain", "elastic"), 0.0)
    plain, bent = _prints([*held[0], *held[1]], ms)
    ms = {name: 1e3 * total / (clips + inside) for name, total in ms.items()}
    sides = Landmarks(plain.values, plain.bounds), Stretched(bent.values, bent.bounds)
    altered = {way: ([alter(sound, rng) for sound in held[0]], 0) for way, alter in WAYS.items()}
    for seconds in STRETCHES_S:
        laid = [_laid_into(_host(others, rng), sound, seconds, rng) for sound in held[1]]
        altered[f"{seconds:g} s of it inside {HOST_S:g} s"] = laid, clips
    recall = {way: _found(sides, sounds, first) for way, (sounds, first) in altered.items()}
    matched = [side.match(one.values, one.bounds) for side, one in zip(sides, _prints(others), strict=True)]
    strangers = {"pairs": len(others) * (clips + inside)}
    strangers |= {name: len(pairs.query) for name, pairs in zip(("plain", "elastic"), matched, strict=True)}
    clip_s = float(np.mean([len(sound) for part in held for sound in part]) / SAMPLE_RATE)
    return {"recall": recall, "strangers": strangers, "clip_s": clip_s, "ms": ms}


def _read(dataset: Dataset, rows: np.ndarray) -> list[np.ndarray]:
    return [dataset.read(int(row)).audio[: int(_MOST_S * SAMPLE_RATE)] for row in rows]


def _host(others: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    order = rng.permutation(len(others))
    return np.resize(np.concatenate([others[i] for i in order[: int(HOST_S)]]), int(HOST_S * SAMPLE_RATE))


def _laid_into(host: np.ndarray, sound: np.ndarray, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """``host`` with a stretch of ``sound`` at a random place in the place of its own sound there."""
    n = min(int(seconds * SAMPLE_RATE), len(sound))
    start, at = int(rng.integers(len(sound) - n + 1)), int(rng.integers(len(host) - n + 1))
    host = host.copy()
    host[at : at + n] = sound[start : start + n]
    return host


def _prints(sounds: Iterable[np.ndarray], spent: dict[str, float] | None = None) -> tuple[Ragged, Ragged]:
    """Both kinds of landmarks; ``spent`` gains the seconds of processor time for each step."""
    spent = dict.fromkeys(("peaks", "plain", "elastic"), 0.0) if spent is None else spent
    plain, bent = [], []
    for sound in sounds:
        times = [time.process_time()]
        peaks = fingerprint.find_peaks(sound)
        times.append(time.process_time())
        plain.append(fingerprint.fingerprint(peaks).tolist())
        times.append(time.process_time())
        bent.append(elastic.elastic(peaks).tolist())
        times.append(time.process_time())
        for name, seconds in zip(spent, np.diff(times), strict=True):
            spent[name] += float(seconds)
    return Ragged.of(plain, np.uint32), Ragged.of(bent, np.uint64)


def _found(sides: tuple[Landmarks, Stretched], sounds: list[np.ndarray], first: int) -> dict[str, int]:
    hits = []
    for side, one in zip(sides, _prints(sounds), strict=True):
        pairs = side.match(one.values, one.bounds)
        hits.append(np.isin(np.arange(len(sounds)), pairs.query[pairs.indexed == pairs.query + first]))
    plain, bent = hits
    found = int((plain | bent).sum())
    return {"planted": len(sounds), "found": found, "plain": int(plain.sum()), "elastic": int(bent.sum())}


def measure_matching(clips: int, evaluation: int, landmarks: int = 100, seed: int = 0) -> dict[str, float]:
    """Matches made-up elastic landmarks of ``clips`` training clips, made in blocks, with ``evaluation`` clips.

    Returns:
      {"index_s", "match_s" (processor time, without that to make them up), "pairs" found by chance}.
    """
    rng = np.random.default_rng(seed)
    values, bounds = _made_up(rng, evaluation, landmarks)
    start = time.process_time()
    side = Stretched(values, bounds)
    index_s, match_s, pairs = time.process_time() - start, 0.0, 0
    for first in range(0, clips, _BLOCK):
        values, bounds = _made_up(rng, min(_BLOCK, clips - first), landmarks)
        start = time.process_time()
        pairs += len(side.match(values, bounds).query)
        match_s += time.process_time() - start
    return {"index_s": index_s, "match_s": match_s, "pairs": pairs}


def _made_up(rng: np.random.Generator, clips: int, landmarks: int) -> tuple[np.ndarray, np.ndarray]:
    """Uniform hashes, pitches over three octaves, times over 10 s."""
    shape = clips * landmarks
    values = rng.integers(1 << elastic.KEY_BITS, size=shape) << elastic.PITCH_BITS
    values = (values | rng.integers(3 * elastic.PITCHES, size=shape)) << elastic.CLOCK_BITS | rng.integers(
        625, size=shape
    )
    return values.astype(np.uint64), np.arange(clips + 1) * landmarks


def main() -> None:
    """Parses the command line and prints what was measured: lines for ``data.audit.reach.RECALL``, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measured = parser.add_mutually_exclusive_group(required=True)
    measured.add_argument("--data", help="data set whose test clips are altered")
    measured.add_argument("--matching", help="CLIPS,EVALUATION: numbers of training and of evaluation clips")
    parser.add_argument("--clips", type=int, default=180, help="test clips that are altered (default: 180)")
    args = parser.parse_args()
    if args.matching:
        print(json.dumps(measure_matching(*map(int, args.matching.split(","))), sort_keys=True))
        return
    result = measure_recall(open_dataset(args.data), args.clips)
    for way, counts in result["recall"].items():
        print(f'    "{way}": ({counts["found"]}, {counts["planted"]}),')
    print(json.dumps(result, sort_keys=True))


if __name__ == "__main__":
    main()
