"""CaptionStew at its true number of rows: made-up metadata in the published forms, planned whole, a share carried out.

    python -m tests.data.collection.rehearsal DIR                  # 10.7 M rows; about 10 GB in DIR, half an hour
    python -m tests.data.collection.rehearsal DIR --share 0.01     # of the rows, to try it

It times the plans, a part of 1 % of the shards that is killed half way, and the same part resumed; and it measures the
peak memory of the process that plans and hands out work. Sounds are one of a few tiny files (0.2 s), so seconds of
decoding are not those of real audio, and folders of ten million files are not searched.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pyarrow as pa
import pyarrow.parquet as pq

from alp_jax.core.hashing import hash64
from alp_jax.corpora import captionstew, registry
from alp_jax.data.building.build import engine_of, write_part
from alp_jax.data.building.part import WHOLE_BUILD, BuildPart
from alp_jax.data.building.settings import BuildSettings
from alp_jax.data.collection.forecast import Load, cost_forecast, cost_lines
from alp_jax.data.collection.member import plan_member
from tests.corpora.stew import put, sound, table
from tests.data.sounds import coded

ROWS = {  # of each corpus; JamendoMaxCaps, which publishes no count of captions, has what is left to 10.7 M
    "audiocaps": 49_838,
    "clotho": 3_839,
    "musiccaps": 5_521,
    "wavcaps": 403_050,
    "audiosetcaps": 6_117_099,
    "fusionaudio": 1_200_000,
    "jamendomaxcaps": 1_852_763,
    "paraspeechcaps": 1_067_890,
}
WORDS = "A person speaks while rain falls on a metal roof and soft music plays in the background"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
SOUNDS = 16
PART = "1/100"


def video(corpus: str, number: int) -> str:
    """A YouTube id of its own for every row."""
    value = hash64(7, f"{corpus} {number}")
    return "".join(LETTERS[value >> shift & 63] for shift in range(0, 60, 6)) + LETTERS[number & 63]


def make(root: pathlib.Path, share: float) -> None:
    """Writes metadata of ``share`` of the rows below ``root``, and the sounds."""
    count = {name: max(1, round(rows * share)) for name, rows in ROWS.items()}
    text = [f"{WORDS}, take {number}" for number in range(1000)]

    def rows(name):
        return ((n, video(name, n), text[n % 1000]) for n in range(count[name]))

    table(
        root / "audiocaps" / "train.csv",
        ("audiocap_id", "youtube_id", "start_time", "caption"),
        [(n, one, 30, words) for n, one, words in rows("audiocaps")],
    )
    clotho = [(f"{n}.wav", *([words] * 5)) for n, _, words in rows("clotho")]
    table(
        root / "clotho" / "clotho_captions_development.csv",
        ("file_name", *(f"caption_{k}" for k in range(1, 6))),
        clotho,
    )
    head = (
        "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,is_audioset_eval"
    )
    music = [(one, 0, 10, "/m/1", "['slow']", words, 1, "False", "False") for _, one, words in rows("musiccaps")]
    table(root / "musiccaps" / "musiccaps-public.csv", head.split(","), music)
    data = [{"id": str(n), "caption": words, "duration": 67.6} for n, _, words in rows("wavcaps")]
    put(root / "wavcaps" / "json_files" / "fsd_final.json", json.dumps({"num_captions_per_audio": 1, "data": data}))
    ids = ((f"{one}_{n % 300}_10", words) for n, one, words in rows("audiosetcaps"))
    with lines(root / "audiosetcaps" / "YouTube-8M_AudioSetCaps_caption.csv", "id,caption\n") as write:
        write(f'{own},"{words}"\n' for own, words in ids)
    with lines(root / "fusionaudio" / "fusion.jsonl") as write:
        write(
            f'{{"audio_id": "/x/Y{one}.wav", "task": "audio captioning", "output": "{words}"}}\n'
            for _, one, words in rows("fusionaudio")
        )
    with lines(root / "jamendomaxcaps" / "final_caption30sec.jsonl") as write:
        write(
            f'{{"id": "{n // 5}", "caption": "{words}", "start_time": {n % 5 * 30}, "end_time": {n % 5 * 30 + 30}}}\n'
            for n, _, words in rows("jamendomaxcaps")
        )
    paths = [f"EN/EN_B00000_S{n:07}_W000001.mp3" for n in range(count["paraspeechcaps"])]
    columns = {"source": ["emilia"] * len(paths), "relative_audio_path": paths}
    columns |= {"text_description": [[text[n % 1000]] for n in range(len(paths))], "speakerid": ["1"] * len(paths)}
    home = root / "paraspeechcaps"
    home.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), home / "train_scaled-00000-of-00001.parquet")
    for n in range(SOUNDS):
        put(root / "sounds" / f"{n}.flac", coded(sound(n, 0.2), form="FLAC"))


@contextlib.contextmanager
def lines(path: pathlib.Path, head: str = ""):
    """A function that writes lines to a new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        file.write(head)
        yield file.writelines


@dataclasses.dataclass(frozen=True)
class Heard:
    """A corpus whose clips all have one of the sounds."""

    found: captionstew.Found
    sounds: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.found.name

    @property
    def cost(self) -> float:
        return self.found.cost

    def clips(self):
        for number, clip in enumerate(registry.read(self.name, self.found.metadata)):
            whole = {"start_s": 0.0, "duration_s": None, "stated_s": clip.known_s}
            yield dataclasses.replace(clip, audio_path=self.sounds[number % SOUNDS], **whole)

    def state(self) -> str:
        return self.found.state()


def work(root: pathlib.Path, part: str) -> dict:
    """Plans all corpora, and writes the shards of ``part`` unless it is ""; the seconds that each took."""
    corpora = [
        Heard(one, tuple(str(p) for p in sorted((root / "sounds").iterdir()))) for one in captionstew.find(root)[0]
    ]
    chosen, begin = BuildSettings(), time.monotonic()
    which = BuildPart.parse(part) if part else WHOLE_BUILD
    plans = {one.name: plan_member(one, str(root / "out"), chosen, which) for one in corpora}
    told = {"plan_s": round(time.monotonic() - begin, 1), "clips": sum(sum(p.counts) for p in plans.values())}
    loads = {one.name: Load.of(plans[one.name].lengths, one.cost) for one in corpora}
    print(*cost_lines(cost_forecast(loads, "flac"), 16, 8, None), sep="\n")
    if part:
        begin = time.monotonic()
        run = engine_of("pool", 0, (), {})
        parts = [write_part(plan, chosen, run, which) for plan in plans.values()]
        told |= {key: sum(one[key] for one in parts) for key in ("shards", "written", "left")}
        told["part_s"] = round(time.monotonic() - begin, 1)
    return told


def timed(label: str, argv: list[str], stop=None) -> None:
    """Runs this script with ``argv`` and prints what it took; ``stop()`` true ends it by SIGKILL."""
    begin = time.monotonic()
    child = subprocess.Popen([sys.executable, "-m", "tests.data.collection.rehearsal", *argv])
    done = threading.Event()

    def watch():
        while not done.wait(0.5):
            if stop():
                child.send_signal(signal.SIGKILL)
                return

    if stop:
        threading.Thread(target=watch).start()
    _, status, usage = os.wait4(child.pid, 0)
    done.set()
    peak, seconds = usage.ru_maxrss / 1e6, time.monotonic() - begin
    code = os.waitstatus_to_exitcode(status)
    busy = usage.ru_utime + usage.ru_stime
    print(f"{label}: {seconds:.1f} s, {busy:.1f} s of processor, peak {peak:.2f} GB, exit {code}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--step", choices=("make", "work"))
    parser.add_argument("--part", default="")
    args = parser.parse_args()
    if args.step == "make":
        make(args.root, args.share)
    elif args.step == "work":
        print(json.dumps(work(args.root, args.part)))
    else:
        shards = sum(min(1024, -(-round(rows * args.share) // 256)) for rows in ROWS.values())

        def half():
            return 200 * sum(1 for _ in (args.root / "out").rglob("*.index")) > shards

        where = [str(args.root)]
        timed("metadata made", [*where, "--step", "make", "--share", str(args.share)])
        timed("planned", [*where, "--step", "work"])
        timed("planned again", [*where, "--step", "work"])
        timed(f"part {PART}, killed half way", [*where, "--step", "work", "--part", PART], half)
        timed(f"part {PART}, resumed", [*where, "--step", "work", "--part", PART])
        size = sum(path.stat().st_size for path in args.root.rglob("*") if path.is_file())
        print(f"{args.root}: {size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
