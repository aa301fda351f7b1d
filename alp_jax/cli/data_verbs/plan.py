"""``alp data plan``: what a run will see of its data, before it starts."""

import argparse
import dataclasses
from collections.abc import Callable

from alp_jax.cli.parsers import CONFIG_HELP
from alp_jax.config import RunConfig
from alp_jax.config.data_settings import data_settings
from alp_jax.config.flags import given_config


def add(action: Callable[..., argparse.ArgumentParser]) -> None:
    plan = action(
        "plan",
        "pairs, hours, epochs and repeats of every source and rung, buckets, padding, memory and cores to read with",
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
    plan.add_argument("--config", metavar="FILE[:ARGS]", help=CONFIG_HELP)
    plan.add_argument("--steps", type=int, default=0, metavar="N", help="length of the run (default: the config's)")
    plan.add_argument("--devices", type=int, default=1, metavar="N", help="devices that share batches (default: 1)")


def run(args: argparse.Namespace) -> dict:
    from alp_jax.data.order.forecast import forecasts
    from alp_jax.data.order.forecast_report import forecast_lines
    from alp_jax.data.reading import ahead_line, measure_reading, reading_lines
    from alp_jax.data.store.dataset import open_dataset

    config = given_config(args.config, args.overrides) or RunConfig()
    dataset = open_dataset(args.path)
    data = data_settings(args.settings, dataclasses.replace(config.data, path=args.path))
    steps = args.steps or config.train.steps
    rungs = forecasts(dataset, data, seed=config.seed, steps=steps, devices=args.devices or 1)
    if args.config:  # without it nothing says what the batches are for
        from alp_jax.objectives.registry import check_batches

        batches = [(bucket["batch"], bucket["seconds"]) for rung in rungs.values() for bucket in rung["buckets"]]
        check_batches(dataclasses.replace(config, data=data), batches)
    reading = measure_reading(dataset)
    if not args.json:
        print(f"{args.path}: {steps} steps, read {data.read}, seed {config.seed}")
        for name, rung in rungs.items():
            print(*forecast_lines(name, rung), sep="\n")
        print("", ahead_line(data, rungs), *reading_lines(reading), sep="\n")
    return {"path": args.path, "steps": steps, "rungs": rungs, "reading": reading}
