"""``alp data build``: clips of a corpus to shards, with an account of every one."""

import argparse
import pathlib
from collections.abc import Callable

from alp_jax.cli.data_fetch import add_tier

_NAMES_SHOWN = 3


def add(action: Callable[..., argparse.ArgumentParser]) -> None:
    build = action(
        "build",
        "decode clips into shards, with an account of every clip; run again to go on after a stop",
        "alp data build mini --out data/mini\n"
        "  alp data build folder --audio recordings --captions captions.csv --out data/mine",
    )
    build.add_argument("corpus", choices=("mini", "folder"))
    build.add_argument("--out", required=True, metavar="DIR", help="empty folder, or one this build had begun")
    add_tier(build)
    build.add_argument("--audio", metavar="DIR", help="folder: where the audio files are")
    build.add_argument("--captions", metavar="FILE", help="folder: .csv or .jsonl with file_name and caption columns")
    build.add_argument("--codec", choices=("flac", "pcm"), default="flac", help="how audio is stored (default: flac)")
    build.add_argument("--workers", type=int, default=0, metavar="N", help="decoding processes (default: one per core)")
    build.add_argument("--shards", type=int, default=0, metavar="N", help="number of shards (default: 256 clips each)")
    build.add_argument(
        "--max_bad_share", type=float, default=0.05, metavar="X", help="fail above this share (default: 0.05)"
    )
    build.add_argument("--max_seconds", type=float, default=600.0, metavar="S", help="longest clip (default: 600)")


def run(args: argparse.Namespace) -> dict:
    from alp_jax.core.errors import UserError
    from alp_jax.data.building.build import build

    for name in ("workers", "shards"):
        if getattr(args, name) < 0:
            raise UserError(f"--{name} {getattr(args, name)}: must not be negative")
    left_out = {}
    if args.corpus == "mini":
        from alp_jax.corpora import mini

        if args.audio or args.captions:
            raise UserError("--audio and --captions belong to 'alp data build folder'")
        clips, left_out = mini.collect(args.cache, args.tier)
    else:
        from alp_jax.corpora import folder

        if not args.audio or not args.captions:
            raise UserError("'alp data build folder' needs --audio DIR and --captions FILE.csv or FILE.jsonl")
        clips = folder.clips(args.audio, args.captions)
    accounting = build(
        clips,
        args.out,
        source_name=args.corpus,
        codec=args.codec,
        shards=args.shards,
        workers=args.workers,
        max_bad_share=args.max_bad_share,
        max_seconds=args.max_seconds,
    )
    if args.corpus == "mini":
        from alp_jax.corpora.mini import credits

        credits.write(args.cache, clips, pathlib.Path(args.out) / "CREDITS")
    if not args.json:
        _print_accounting(args.out, accounting)
        if left_out:
            reasons = ", ".join(
                f"{left_out[key]} {key.replace('_', ' ')}" for key in ("duplicates", "unreadable", "too_short")
            )
            print(f"left out before the build: {reasons}")
        if left_out and left_out["missing"]:
            print(f"packages not fetched: {', '.join(left_out['missing'])}")
        print(f"next: alp tokenizer --data {args.out}")
    return {"out": str(args.out), "accounting": accounting, "left_out": left_out}


def _print_accounting(out: str, accounting: dict) -> None:
    print(f"{out}: {accounting['usable']} of {accounting['expected']} clips")
    rows = [(split, split, row) for split, row in accounting["splits"].items()]
    for source, entry in sorted(accounting["sources"].items()):
        rows += [(split, source, row) for split, row in entry["splits"].items()]
    print(f"  {'':<28}{'clips':>8}{'hours':>9}{'captions':>10}")
    for split, name, row in rows:
        label = f"{name}" if name == split else f"  {name} {split}"
        print(f"  {label:<28}{row['clips']:>8}{row['hours']:>9.3f}{row['captions']:>10}")
    if accounting["unusable"]:
        print(f"unusable: {accounting['unusable']} (all names in {pathlib.Path(out) / 'dataset.json'})")
    for reason, entry in sorted(accounting["reasons"].items(), key=lambda item: -item[1]["count"]):
        names = ", ".join(name.split(" (")[0] for name in entry["clips"][:_NAMES_SHOWN])
        more = ", ..." if entry["count"] > _NAMES_SHOWN else ""
        print(f"  {entry['count']:>6} {reason}: {entry['meaning']}: {names}{more}")
