"""``alp data plan``: what a run will see of its data, before it starts."""

import argparse
import dataclasses
import math
from collections.abc import Callable

from alp_jax.cli.configuration import HELP, load_config
from alp_jax.config import RunConfig, to_dict
from alp_jax.config.arguments import parse_count
from alp_jax.config.resolve import from_dict
from alp_jax.config.schema import DataConfig
from alp_jax.core.errors import UserError

AUTO = "auto"  # bucket_seconds that are chosen


def add(action: Callable[..., argparse.ArgumentParser]) -> None:
    plan = action(
        "plan",
        "pairs, hours, epochs and repeats of every source and rung, buckets and padding, before training",
        "alp data plan data/mine batch_seconds=64\n"
        "  alp data plan data/all batch_seconds=640 mixture=audiocaps=2,clotho=1\n"
        "  alp data plan data/captionstew --config=configs/paper.py:pairs=all --config.data.bucket_seconds='()'",
    )
    plan.add_argument("path", metavar="DIR")
    plan.add_argument(
        "settings",
        nargs="*",
        metavar="KEY=VALUE",
        help="data settings of a run, as in config.data; bucket_seconds=auto chooses the buckets",
    )
    plan.add_argument("--config", metavar="FILE[:ARGS]", help=HELP)
    plan.add_argument("--steps", type=int, default=0, metavar="N", help="length of the run (default: the config's)")
    plan.add_argument("--devices", type=int, default=1, metavar="N", help="devices that share batches (default: 1)")


def run(args: argparse.Namespace) -> dict:
    from alp_jax.data.order.forecast import forecast, rungs_of
    from alp_jax.data.store.dataset import open_dataset

    config = load_config(args.config, args.overrides) if args.config else RunConfig()
    if args.overrides and not args.config:
        raise UserError(f"{args.overrides[0]} needs --config=FILE")
    for knob in ("steps", "devices"):
        if getattr(args, knob) < 0:
            raise UserError(f"--{knob} {getattr(args, knob)}: must not be negative")
    dataset = open_dataset(args.path)
    data = settings(args.settings, dataclasses.replace(config.data, path=args.path))
    steps = args.steps or config.train.steps
    rungs = {}
    for name, pairs in rungs_of(dataset, data).items():
        chosen = dataclasses.replace(data, pairs=pairs)
        rungs[name] = forecast(dataset, chosen, seed=config.seed, steps=steps, devices=args.devices or 1)
    if not args.json:
        print(f"{args.path}: {steps} steps, read {data.read}, seed {config.seed}")
        for name, rung in rungs.items():
            _print_rung(name, rung)
    return {"path": args.path, "steps": steps, "rungs": rungs}


def settings(items: list[str], data: DataConfig) -> DataConfig:
    """``data`` with ``KEY=VALUE`` items; ConfigError or UserError names the nearest key or the value."""
    values = to_dict(data)
    for item in items:
        key, equals, text = item.partition("=")
        if not equals:
            raise UserError(f"{item!r} is not KEY=VALUE")
        values[key] = _value(key, text, values.get(key))
    return from_dict(DataConfig, values, "config.data")


def _value(key: str, text: str, like):
    if key == "pairs":
        return parse_count(text)
    try:
        if isinstance(like, list):
            return [] if text == AUTO else [_finite(part) for part in text.strip("()").split(",") if part.strip()]
        if isinstance(like, float):
            return _finite(text)
        return int(text) if isinstance(like, int) else text
    except ValueError:
        raise UserError(f"config.data.{key} = {text!r} is not a number") from None


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _print_rung(name: str, rung: dict) -> None:
    per_epoch = rung["batches_per_epoch"]
    print(
        f"\n{name}: {rung['pairs']:,} pairs, {rung['clips']:,} clips, {rung['hours']:,.1f} h; an epoch is "
        f"{per_epoch:,.1f} steps, the run {rung['steps'] / per_epoch:,.2f} epochs"
    )
    print(f"  padding {rung['padding']:.1%}, cropped {rung['cropped']:.2%}, order {rung['fingerprint']}")
    if len(rung["stages"]) > 1:
        print(f"  stages of the mixture start at steps {', '.join(f'{start:,}' for start in rung['stages'])}")
    head = ("pairs", 12), ("hours", 11), ("of rung", 9), ("drawn", 9), ("epochs", 9), ("repeats", 9), ("runs out", 14)
    print(f"  {'source':<24}" + "".join(f"{name:>{width}}" for name, width in head))
    for source, row in rung["sources"].items():
        out = "not in run" if row["runs_out"] is None else f"step {row['runs_out']:,}"
        print(
            f"  {source:<24}{row['pairs']:>12,}{row['hours']:>11,.1f}{row['share']:>9.2%}{row['drawn']:>9.2%}"
            f"{row['epochs']:>9.2f}{row['repeats']:>9}{out:>14}"
        )
    print(f"  {'bucket':<24}{'clips':>12}{'batch':>11}{'of steps':>9}{'padding':>9}{'MB':>9}")
    for row in rung["buckets"]:
        print(
            f"  {row['seconds']:<24g}{row['clips']:>12,}{row['batch']:>11}{row['steps_share']:>9.2%}"
            f"{row['padding']:>9.1%}{row['megabytes']:>9.1f}"
        )
