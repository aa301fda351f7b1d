"""``alp data merge``: makes one data set of several, leaving their shards where they are."""

import argparse
from collections.abc import Callable


def add(action: Callable[..., argparse.ArgumentParser]) -> None:
    merge = action(
        "merge",
        "merge built data sets into one; their shards stay where they are",
        "alp data merge data/audiocaps data/clotho data/wavcaps --out data/all",
    )
    merge.add_argument("paths", nargs="+", metavar="DIR", help="data sets; of clips of one id, the first is used")
    merge.add_argument("--out", required=True, metavar="DIR", help="empty folder or URL")
    merge.add_argument(
        "--dedupe",
        choices=("source", "all", "none"),
        default="source",
        help="use a stretch of a recording, and a sound, once in a source, once in all, or none (default: source)",
    )


def run(args: argparse.Namespace) -> dict:
    from alp_jax.data.building.merge import merge
    from alp_jax.data.building.report import accounting_lines

    accounting = merge(args.paths, args.out, dedupe=args.dedupe)
    if not args.json:
        print(*accounting_lines(args.out, accounting), sep="\n")
        print(f"next: alp tokenizer --data {args.out}")
    return {"out": str(args.out), "accounting": accounting}
