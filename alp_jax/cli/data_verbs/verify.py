"""``alp data verify``: reads every byte of a data set, and tests whether damage would be noticed."""

import argparse
from collections.abc import Callable

from alp_jax.core.errors import DataError, UserError


def add(action: Callable[..., argparse.ArgumentParser]) -> None:
    verify = action(
        "verify", "read every byte and check it", "alp data verify data/mini\n  alp data verify data/mini --flips 10000"
    )
    verify.add_argument("path", metavar="DIR")
    verify.add_argument(
        "--flips",
        type=int,
        default=0,
        metavar="N",
        help="then change N single bytes, one at a time in copies in memory, and count how many reading notices",
    )


def run(args: argparse.Namespace) -> dict:
    from alp_jax.bench.bit_flips import flips
    from alp_jax.core.progress import Progress
    from alp_jax.data.store.dataset import open_dataset

    if args.flips < 0:
        raise UserError(f"--flips {args.flips}: must not be negative")
    dataset = open_dataset(args.path)
    with Progress("verify shards", len(dataset), "clips") as progress:
        result = dataset.verify(progress)
    if not args.json:
        size = f"{result['bytes'] / 1e6:.1f} MB"
        print(f"{args.path}: {result['clips']} clips in {result['shards']} shards, {size}, all intact")
    if args.flips:
        flipped = flips(dataset, args.flips)
        outcome = (
            f"{flipped['noticed']} of {flipped['flips']} changed bytes, in {flipped['records']} records, were noticed"
        )
        if flipped["noticed"] < flipped["flips"]:
            raise DataError(f"{args.path}: only {outcome}")
        if not args.json:
            print(outcome)
        result |= flipped
    return result | {"fingerprint": dataset.fingerprint}
