"""``alp bench``: measure this machine; every action ends with one JSON line."""

import argparse
import dataclasses
import functools
import json
import pathlib
import tempfile

from alp_jax.cli import bench_loss, bench_step
from alp_jax.cli.parsers import add_action
from alp_jax.config.data_settings import data_settings
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError

EXAMPLE = "alp bench data --data data/mini --step_seconds 0.25"
_ROUNDS = 3  # of a comparison, taken in turns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    action = functools.partial(add_action, actions)
    data = action("data", "clips per second and core in every stage of reading, and cores that a step needs", EXAMPLE)
    _shared(data)
    data.add_argument("--clips", type=int, default=1000, metavar="N", help="clips to read (default: 1000)")
    data.add_argument("--step_seconds", type=float, default=0.25, metavar="S", help="time of a step (default: 0.25)")
    data.add_argument("--batch", type=int, default=0, metavar="N", help="clips in a step (default: the batches' mean)")
    data.add_argument("--against", choices=("torch",), help="also time a PyTorch DataLoader over the same FLAC files")
    index = action(
        "index",
        "what an index of any size costs: opening, planning, look-ups, memory; clips share the records of a small set",
        "alp bench index --data data/mini --clips 10m --batches 20000",
    )
    _shared(index)
    index.add_argument("--clips", default="10m", metavar="N", help="size of the index (default: 10m)")
    index.add_argument("--out", metavar="DIR", help="folder for it, kept (default: a temporary one)")
    index.add_argument("--lookups", type=int, default=1000, metavar="N", help="random batches to look up (1000)")
    index.add_argument("--batches", type=int, default=0, metavar="N", help="read while memory is watched (default: 0)")
    bench_loss.add_arguments(action("loss", bench_loss.HELP, bench_loss.EXAMPLE))
    bench_step.add_arguments(action("step", bench_step.HELP, bench_step.EXAMPLE))


def _shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DIR", help="data set")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="data settings of a run, as in config.data")


def run(args: argparse.Namespace) -> dict:
    result = {"data": _data, "index": _index, "loss": bench_loss.run, "step": bench_step.run}[args.action](args)
    if not args.json:
        print(json.dumps(result, sort_keys=True))
    return result


def _positive(args: argparse.Namespace, *names: str) -> None:
    for name in names:
        if not getattr(args, name) > 0:
            raise UserError(f"--{name} {getattr(args, name)}: must be above 0")


def _data(args: argparse.Namespace) -> dict:
    from alp_jax.bench import loader
    from alp_jax.config.schema import DataConfig
    from alp_jax.core.cores import usable_cores
    from alp_jax.data.store.dataset import open_dataset
    from alp_jax.data.text.open import open_tokenizer, tokenizer_path

    _positive(args, "clips", "step_seconds")
    if args.batch < 0:
        raise UserError(f"--batch {args.batch}: must not be negative")
    dataset = open_dataset(args.data)
    config = data_settings(args.settings, DataConfig(path=args.data))
    if args.against and dataset.info["codec"] != "flac":
        raise UserError(f"--against {args.against} compares decoding of FLAC; {args.data} is stored as pcm")
    tokenizer = open_tokenizer(tokenizer_path(dataset.path, config))
    found = loader.stages(dataset, config, tokenizer, args.clips)
    batch = args.batch or loader.clips_per_step(dataset, config)
    found["cores"] = len(usable_cores())
    found["step"] = {"seconds": args.step_seconds, "clips": round(batch, 2)}
    found["step"]["cores_needed"] = round(batch * found["ms"] / 1e3 / args.step_seconds, 2)
    child = functools.partial(_in_child, loader.loader, dataset, config, tokenizer, args.clips)
    if not args.against:
        return {"path": args.data, "read": config.read} | found | {"loader": child()}
    with tempfile.TemporaryDirectory() as folder:
        files = loader.write_flac(dataset, config, pathlib.Path(folder))
        rival = functools.partial(_in_child, _torch, files, tokenizer, round(batch), config, args.clips)
        turns = [(child(), rival()) for _ in range(_ROUNDS)]
    ours, theirs = (sorted(turn, key=lambda t: t["clips_per_s"])[_ROUNDS // 2] for turn in zip(*turns, strict=True))
    ratio = {
        "audio_s_per_s": round(ours["audio_s_per_s"] / theirs["audio_s_per_s"], 3),
        "audio_s_per_processor_s": round(_per_processor(ours) / _per_processor(theirs), 3),
    }
    return {"path": args.data, "read": config.read} | found | {"loader": ours, "torch": theirs, "times_torch": ratio}


def _per_processor(found: dict) -> float:
    """Seconds of audio for a second of processor time."""
    return found["audio_s_per_s"] / found["clips_per_s"] / found["processor_ms"]


def _torch(files, tokenizer, batch: int, config, clips: int) -> dict:
    from alp_jax.bench import torch_loader
    from alp_jax.core.cores import usable_cores

    longest = round(SAMPLE_RATE * (config.bucket_seconds[-1] if config.bucket_seconds else config.crop_seconds))
    workers = config.workers or len(usable_cores())
    return torch_loader.loader(files, tokenizer, batch=batch, workers=workers, max_samples=longest, clips=clips)


def _in_child(function, *args):
    """``function(*args)`` in a fresh process, so that measurements do not see what was done before."""
    import concurrent.futures
    import multiprocessing

    from alp_jax.core.processes import quiet_tracker

    quiet_tracker()  # which the child shares
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def _index(args: argparse.Namespace) -> dict:
    from alp_jax.bench import index, synthetic
    from alp_jax.config.arguments import parse_count
    from alp_jax.config.schema import DataConfig
    from alp_jax.data.store.dataset import open_dataset

    _positive(args, "lookups")
    if args.batches < 0:
        raise UserError(f"--batches {args.batches}: must not be negative")
    if not pathlib.Path("/proc/self/smaps_rollup").exists():
        raise UserError("alp bench index measures memory with /proc, which this system does not have")
    clips = parse_count(args.clips)
    base, config = open_dataset(args.data), data_settings(args.settings, DataConfig(bucket_seconds=()))
    weights = ",".join(f"{name}={weight}" for name, weight in synthetic.WEIGHTS.items())
    config = config if config.mixture else dataclasses.replace(config, mixture=weights)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(args.out or temporary)
        synthetic.make(base, folder, clips)
        measure = functools.partial(index.measure, str(folder), temporary, config)
        measure = functools.partial(measure, lookups=args.lookups, batches=args.batches)
        return _in_child(functools.partial(measure, steps=100, hosts=(1, 2, 4, 1)))
