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
    from alp_jax.data.store.stats import stats

    result = stats(open_dataset(args.path))
    if args.out:
        files.write_json(args.out, result)
    if not args.json:
        print(f"{args.path}: {result['pairs']} training pairs")
        print(f"  {'':<28}{'clips':>10}{'hours':>11}{'captions':>10}{'seconds 5/50/95 %':>22}")
        _print_row("all", result)
        for split, row in result["splits"].items():
            _print_row(split, row)
            for source, part in row["sources"].items():
                _print_row(f"  {source}", part)
        for reason, row in result["excluded"].items():
            _print_row(f"not used: {reason}", row)
    return result


def _print_row(label: str, row: dict) -> None:
    seconds = " / ".join(f"{row['seconds'][q]:.1f}" for q in ("5", "50", "95"))
    print(f"  {label:<28}{row['clips']:>10}{row['hours']:>11.3f}{row['captions']:>10}{seconds:>22}")
