"""``alp data verify``: read every byte of a data set."""

import argparse
from collections.abc import Callable


def add(action: Callable[..., argparse.ArgumentParser]) -> None:
    verify = action("verify", "read every byte and check it", "alp data verify data/mini")
    verify.add_argument("path", metavar="DIR")


def run(args: argparse.Namespace) -> dict:
    from alp_jax.core.progress import Progress
    from alp_jax.data.dataset import open_dataset

    dataset = open_dataset(args.path)
    with Progress("verify shards", len(dataset), "clips") as progress:
        result = dataset.verify(progress)
    if not args.json:
        size = f"{result['bytes'] / 1e6:.1f} MB"
        print(f"{args.path}: {result['clips']} clips in {result['shards']} shards, {size}, all intact")
    return result | {"fingerprint": dataset.fingerprint}
