"""Fits a probe to made-up features of a set's true size on disk, and says what memory that took.

    python -m alp_jax.bench.probe_fit --folder DIR --set voxceleb2 --epochs 1 --penalties 1
    python -m alp_jax.bench.probe_fit --folder DIR --set voxceleb2 --probe attention --share 0.02

The features (means over frames, or frames where the probe is the attention probe) lie around one centre per class.
They are written into DIR once and read as those of an encoder are; a fit that is stopped goes on when it is started
again. ``anonymous`` is the memory that the process holds, ``mapped`` the pages of files in it, which the system takes
back when it needs them.
"""

import argparse
import json
import pathlib
import threading
import time

import numpy as np

from alp_jax.config.schema import EvalConfig
from alp_jax.core.accelerators import GIB
from alp_jax.core.progress import Progress, say
from alp_jax.evaluation.budget import MemoryBudget
from alp_jax.evaluation.features import FRAMES_FILE, Features, open_features
from alp_jax.evaluation.probes.attention_probe import attention_probe
from alp_jax.evaluation.probes.data import ProbeData, in_chunks, score
from alp_jax.evaluation.probes.linear_probe import PENALTIES, linear_probe
from alp_jax.evaluation.probes.sizes import SIZES
from alp_jax.evaluation.probes.streamed_linear import fit_streamed

WIDTH, FRAMES_EACH = 512, 64
SPREAD = 1.6  # deviation of a class's centre, where that of its clips is 8: neighbours overlap
PART = 8192  # clips written at a time


class Watch:
    """The largest resident memory while it runs, in bytes: what the process holds, and pages of mapped files."""

    def __init__(self) -> None:
        self.peak = {"RssAnon": 0, "RssFile": 0}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            for line in pathlib.Path("/proc/self/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in self.peak:
                    self.peak[name] = max(self.peak[name], 1024 * int(value.split()[0]))
            if self._ended.wait(0.2):
                return


def make(folder: pathlib.Path, clips: int, classes: int, *, frames: bool) -> tuple[Features, np.ndarray]:
    """Features of ``clips`` clips on disk, and their classes."""
    target = np.random.default_rng(0).integers(classes, size=clips).astype(np.int32)
    index = folder / "index-00000.npz"
    each = FRAMES_EACH if frames else 1
    if not index.exists():
        folder.mkdir(parents=True, exist_ok=True)
        centres = (SPREAD * np.random.default_rng(1).standard_normal((classes, WIDTH))).astype(np.float32)
        name, kind = (FRAMES_FILE, "<f2") if frames else ("mean.bin", "<f4")
        with (folder / name).open("wb") as file, Progress("write features", clips, "clips") as progress:
            for first in range(0, clips, PART):
                some = target[first : first + PART]
                rng = np.random.default_rng([2, first])
                for part in np.array_split(some, each):
                    noise = 8 * rng.standard_normal((len(part), each, WIDTH), dtype=np.float32)
                    file.write((centres[part][:, None] + noise).astype(kind).tobytes())
                progress.update(len(some))
        np.savez(folder / "index.npz", row=np.arange(clips), length=np.full(clips, each, np.int32), widths=[WIDTH, 0])
        (folder / "index.npz").replace(index)

    def elsewhere(*given):
        raise AssertionError("made-up features are complete, so none are asked of a model")

    return open_features(folder, 1, elsewhere, f"made-up {clips} {classes} {frames}"), target


def measure(args: argparse.Namespace) -> dict:
    """Makes the features if they are not there, fits, and returns sizes, times, memory and the score."""
    size = SIZES[args.set]
    train, test = round(size.train * args.share), round(size.test * args.share)
    attention = args.probe == "attention"
    folder = args.folder / f"{args.set}-{args.probe}-{args.share:g}" / "frames"
    features, target = make(folder, train + test, size.classes, frames=attention)
    config, held = EvalConfig(), np.arange(train) >= train - round(size.held * args.share)

    def read(at: np.ndarray):
        return features.frames(at, FRAMES_EACH) if attention else features.mean(at)

    data = ProbeData(read, target[:train], held, lambda at: read(train + at), test, size.classes)
    given = {"epochs": args.epochs, "budget": MemoryBudget.of(config), "saves": features.saves(args.set)}
    say(f"fit {args.probe}: {train} training clips, {test} test clips, {size.classes} classes")
    began = time.monotonic()
    with Watch() as watch:
        if attention:
            found, selected = attention_probe(data, least=config.attention_steps, **given)
        elif args.penalties < len(PENALTIES):
            fitted, selected = fit_streamed(data, PENALTIES[: args.penalties], **given)
            found = np.concatenate([fitted.logits(data.test(at)).argmax(1) for at in in_chunks(np.arange(test), 4096)])
        else:
            found, selected = linear_probe(data, **given)
    seconds = time.monotonic() - began
    held_gib, mapped_gib = (round(watch.peak[name] / GIB, 2) for name in ("RssAnon", "RssFile"))
    rows = np.atleast_2d(found)
    return {
        "set": args.set,
        "probe": args.probe,
        "clips": [train, test],
        "classes": size.classes,
        "features_gib": round(sum(path.stat().st_size for path in folder.iterdir()) / GIB, 2),
        "seconds": round(seconds, 1),
        "anonymous_gib": held_gib,
        "mapped_gib": mapped_gib,
        "accuracy": [round(score(row, target[train:]), 4) for row in rows],
        "selected": selected,
    }


def main() -> None:
    """Parses the command line and prints the measurement as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="where features and states lie")
    single = [name for name, size in SIZES.items() if not size.multi]
    parser.add_argument("--set", choices=single, default="voxceleb2")
    parser.add_argument("--probe", choices=("mean", "attention"), default="mean")
    parser.add_argument("--share", type=float, default=1.0, help="of the clips (default: all)")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--penalties", type=int, default=len(PENALTIES), help="only the first N (default: all)")
    result = measure(parser.parse_args())
    print(json.dumps(result, sort_keys=True))


if __name__ == "__main__":
    main()
