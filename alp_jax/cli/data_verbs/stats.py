"""``alp data stats``: count clips, hours, seconds, captions and pairs."""

import argparse
from collections.abc import Callable

from alp_jax.core import files


def add(action: Callable[..., argparse.ArgumentParser]) -> None:
    stats = action(
        "stats",
        "count clips, hours, seconds, captions and pairs, from the index alone ('alp data captions' has words and "
        "everything else about the texts)",
        "alp data stats data/mini",
    )
    stats.add_argument("path", metavar="DIR")
    stats.add_argument("--out", metavar="FILE", help="also write them as JSON, for 'alp scaling report'")


def run(args: argparse.Namespace) -> dict:
    from alp_jax.data.store.dataset import open_dataset
    from alp_jax.data.store.stats import stats, stats_lines

    result = stats(open_dataset(args.path))
    if args.out:
        files.write_json(args.out, result)
    if not args.json:
        print(*stats_lines(args.path, result), sep="\n")
    return result
