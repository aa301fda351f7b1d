"""``alp bench``: measure this machine; every action ends with one JSON line."""

import argparse
import functools
import json

from alp_jax.cli.parsers import add_action, add_config_argument
from alp_jax.config.arguments import parse_count
from alp_jax.config.flags import load_config
from alp_jax.core.errors import UserError

EXAMPLE = "alp bench data --data data/mini --step_seconds 0.25"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    action = functools.partial(add_action, actions)
    data = action("data", "clips per second and core in every stage of reading, and cores that a step needs", EXAMPLE)
    _add_data(data)
    data.add_argument("--clips", type=int, default=1000, metavar="N", help="clips to read (default: 1000)")
    data.add_argument("--step_seconds", type=float, default=0.25, metavar="S", help="time of a step (default: 0.25)")
    data.add_argument("--batch", type=int, default=0, metavar="N", help="clips in a step (default: the batches' mean)")
    data.add_argument("--against", choices=("torch",), help="also time a PyTorch DataLoader over the same FLAC files")
    index = action(
        "index",
        "what an index of any size costs: opening, planning, look-ups, memory; clips share the records of a small set",
        "alp bench index --data data/mini --clips 10m --batches 20000",
    )
    _add_data(index)
    index.add_argument("--clips", default="10m", metavar="N", help="size of the index (default: 10m)")
    index.add_argument("--out", metavar="DIR", help="folder for it, kept (default: a temporary one)")
    index.add_argument("--lookups", type=int, default=1000, metavar="N", help="random batches to look up (1000)")
    index.add_argument("--batches", type=int, default=0, metavar="N", help="read while memory is watched (default: 0)")
    loss = action(
        "loss",
        "memory and time of the contrastive loss and its gradients, also for more devices than this machine has",
        "alp bench loss --pairs 4096,32768 --devices 8 --rounds 0",
    )
    loss.add_argument("--pairs", default="4096", metavar="N,...", help="sizes of the global batch (default: 4096)")
    loss.add_argument("--width", type=int, default=512, metavar="D", help="of the embeddings (default: 512)")
    loss.add_argument("--loss", default="info_nce", metavar="NAME", help="info_nce (default) or siglip, with a bias")
    loss.add_argument("--chunk", type=int, metavar="N", help="columns at a time (default: config.objective.chunk)")
    loss.add_argument("--devices", type=int, metavar="N", help="to split over (default: all); a CPU is split into N")
    loss.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="timed runs (default: 5); 0 compiles and runs nothing"
    )
    loss.add_argument("--against", choices=("dense",), help="also the loss over the whole matrix, in turns with ours")
    step = action(
        "step",
        "time, bytes and compilation of the training step, on made-up clips, beside other forms of it",
        "alp bench step --clips 64 --seconds 10 --against plain,unregularised --config=configs/pretrain.py "
        "--config.model.compute_dtype=bfloat16",
    )
    step.add_argument("--clips", type=int, default=64, metavar="N", help="in the global batch (default: 64)")
    step.add_argument("--seconds", type=float, default=10.0, metavar="S", help="of each clip (default: 10)")
    step.add_argument("--rounds", type=int, default=5, metavar="N", help="of all variants in turns (default: 5)")
    step.add_argument("--steps", type=int, default=5, metavar="N", help="in a round (default: 5)")
    step.add_argument(
        "--against",
        default="",
        metavar="NAME,...",
        help="plain (convolutions and attention as jax.lax has them), unregularised, remat, adamw",
    )
    step.add_argument(
        "--fresh_cache", action="store_true", help="compile with an empty cache, and once more from the filled one"
    )
    add_config_argument(step)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DIR", help="data set")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="data settings of a run, as in config.data")


def run(args: argparse.Namespace) -> dict:
    result = {"data": _data, "index": _index, "loss": _loss, "step": _step}[args.action](args)
    if not args.json:
        print(json.dumps(result, sort_keys=True))
    return result


def _positive(args: argparse.Namespace, *names: str) -> None:
    for name in names:
        if not getattr(args, name) > 0:
            raise UserError(f"--{name} {getattr(args, name)}: must be above 0")


def _data(args: argparse.Namespace) -> dict:
    from alp_jax.bench.loader import measure_loader

    _positive(args, "clips", "step_seconds")
    sizes = {"clips": args.clips, "step_seconds": args.step_seconds, "batch": args.batch}
    return measure_loader(args.data, args.settings, **sizes, against_torch=args.against == "torch")


def _index(args: argparse.Namespace) -> dict:
    from alp_jax.bench.index import measure_grown

    _positive(args, "lookups")
    clips = parse_count(args.clips)
    return measure_grown(args.data, args.settings, clips, args.out, lookups=args.lookups, batches=args.batches)


def _loss(args: argparse.Namespace) -> dict:
    sizes = [parse_count(text) for text in args.pairs.split(",")]
    if args.rounds < 0 or args.width < 1 or (args.chunk is not None and args.chunk < 1):
        raise UserError(f"--rounds {args.rounds} --width {args.width} --chunk {args.chunk}: must be positive")
    from alp_jax.bench.contrastive_loss import measure_sizes

    settings = {name: getattr(args, name) for name in ("loss", "chunk", "devices", "rounds")}
    return measure_sizes(sizes, args.width, **settings, dense=args.against == "dense")


def _step(args: argparse.Namespace) -> dict:
    if args.clips < 1 or args.seconds <= 0 or args.rounds < 1 or args.steps < 1:
        raise UserError(
            f"--clips {args.clips} --seconds {args.seconds:g} --rounds {args.rounds} --steps {args.steps}: "
            "all must be above 0"
        )
    from alp_jax.bench.train_step import measure_run

    config, against = load_config(args.config, args.overrides), tuple(filter(None, args.against.split(",")))
    turns = {"rounds": args.rounds, "steps": args.steps}
    return measure_run(config, args.clips, args.seconds, **turns, against=against, fresh_cache=args.fresh_cache)
