"""``alp tags``: the list of tags that a tagging run learns, chosen from the training clips of a data set."""

import argparse
import pathlib

from alp_jax.core.errors import UserError

EXAMPLE = (
    "alp tags --data data/mini --kind captions --size 800 --out tags.json\n"
    "  alp train --workdir runs/tagger --config=configs/pretrain.py:objective=tagging,tags=tags.json"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DIR", help="built data set; its training clips in use")
    parser.add_argument(
        "--kind", default="tags", metavar="NAME", help="tags (default), labels (TASK=VALUE) or captions (their words)"
    )
    parser.add_argument("--size", type=int, default=800, metavar="N", help="number of tags at most (default: 800)")
    parser.add_argument(
        "--min_clips", type=int, default=5, metavar="N", help="tags of fewer clips are left out (default: 5)"
    )
    parser.add_argument(
        "--max_share", type=float, default=0.2, metavar="R", help="so are tags of a larger share (default: 0.2)"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="list to write (JSON)")


def run(args: argparse.Namespace) -> dict:
    """Writes the list.

    Raises:
      UserError: invalid numbers, or no tag is left.
    """
    from alp_jax.core.names import choose
    from alp_jax.data.store.dataset import open_dataset
    from alp_jax.data.text import tags

    choose(args.kind, tags.TAG_KINDS, "--kind")
    if args.size < 1 or args.min_clips < 1 or not 0 < args.max_share <= 1:
        raise UserError(
            f"--size {args.size} and --min_clips {args.min_clips} must be 1 or more, --max_share {args.max_share:g} "
            "above 0 and at most 1"
        )
    clip_tags = tags.training_tags(open_dataset(args.data), args.kind)
    limits = {"min_clips": args.min_clips, "max_share": args.max_share}
    chosen, clips, total = tags.choose_tags(clip_tags, args.kind, args.size, **limits)
    chosen.save(args.out, clips)
    result = {"path": str(pathlib.Path(args.out)), "kind": args.kind, "tags": len(chosen), "clips": total}
    if not args.json:
        most = ", ".join(chosen.names[:8])
        print(f"{args.out}: {len(chosen)} {args.kind} of {len(clips)} in {total} training clips; first: {most}")
    return result
