"""``alp data``: fetch, build, verify and describe data sets."""

import argparse
import functools
import pathlib

from alp_jax.cli.parsers import add_action
from alp_jax.core import files
from alp_jax.core.paths import cache_dir

EXAMPLE = "alp data fetch mini && alp data build mini --out data/mini && alp data stats data/mini"
_NAMES_SHOWN = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    action = functools.partial(add_action, actions)

    def corpus_arguments(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--tier", choices=("s", "m", "l"), default="s", help="how much of the mini corpus (default: s)"
        )
        sub.add_argument(
            "--cache", metavar="DIR", default=str(cache_dir()), help="where packages go (default: %(default)s)"
        )

    fetch = action("fetch", "download and unpack a corpus", "alp data fetch mini --tier s")
    fetch.add_argument("corpus", choices=("mini",))
    corpus_arguments(fetch)

    build = action(
        "build",
        "decode clips into shards, with an account of every clip; run again to go on after a stop",
        "alp data build mini --out data/mini\n"
        "  alp data build folder --audio recordings --captions captions.csv --out data/mine",
    )
    build.add_argument("corpus", choices=("mini", "folder"))
    build.add_argument("--out", required=True, metavar="DIR", help="empty folder, or one this build had begun")
    corpus_arguments(build)
    build.add_argument("--audio", metavar="DIR", help="folder: where the audio files are")
    build.add_argument("--captions", metavar="FILE", help="folder: .csv or .jsonl with file_name and caption columns")
    build.add_argument("--codec", choices=("flac", "pcm"), default="flac", help="how audio is stored (default: flac)")
    build.add_argument("--workers", type=int, default=0, metavar="N", help="decoding processes (default: one per core)")
    build.add_argument("--shards", type=int, default=0, metavar="N", help="number of shards (default: 256 clips each)")
    build.add_argument(
        "--max_bad_share", type=float, default=0.05, metavar="X", help="fail above this share (default: 0.05)"
    )
    build.add_argument("--max_seconds", type=float, default=600.0, metavar="S", help="longest clip (default: 600)")

    verify = action("verify", "read every byte and check it", "alp data verify data/mini")
    verify.add_argument("path", metavar="DIR")
    stats = action("stats", "count clips, hours, captions and words", "alp data stats data/mini")
    stats.add_argument("path", metavar="DIR")
    stats.add_argument("--out", metavar="FILE", help="also write them as JSON, for the report")
    stats.add_argument(
        "--tokenizer", default="", metavar="FILE", help="count captions that are cut (default: the data set's own)"
    )
    stats.add_argument(
        "--text_budget", type=int, default=128, metavar="N", help="tokens that are kept of a caption (default: 128)"
    )
    stats.add_argument(
        "--text_clean", default="none", metavar="RECIPE", help="none | clap | audio_caption, before tokens (none)"
    )


def run(args: argparse.Namespace) -> dict:
    return {"fetch": _fetch, "build": _build, "verify": _verify, "stats": _stats}[args.action](args)


def _fetch(args: argparse.Namespace) -> dict:
    from alp_jax.corpora import mini

    packages = mini.fetch(args.cache, args.tier)
    missing = sorted(name for name, entry in packages.items() if "missing" in entry)
    if not args.json:
        print(
            f"mini corpus, tier {args.tier}: {len(packages) - len(missing)} of {len(packages)} packages in {args.cache}"
        )
        for name in missing:
            print(f"  missing {name}: {packages[name]['missing']}")
        print(f"next: alp data build mini --tier {args.tier} --cache {args.cache} --out data/mini")
    return {"cache": str(args.cache), "tier": args.tier, "packages": packages, "missing": missing}


def _build(args: argparse.Namespace) -> dict:
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


def _verify(args: argparse.Namespace) -> dict:
    from alp_jax.core.progress import Progress
    from alp_jax.data.dataset import open_dataset

    dataset = open_dataset(args.path)
    with Progress("verify shards", len(dataset), "clips") as progress:
        result = dataset.verify(progress)
    if not args.json:
        size = f"{result['bytes'] / 1e6:.1f} MB"
        print(f"{args.path}: {result['clips']} clips in {result['shards']} shards, {size}, all intact")
    return result | {"fingerprint": dataset.fingerprint}


def _stats(args: argparse.Namespace) -> dict:
    from alp_jax.config.schema import DataConfig
    from alp_jax.core.errors import UserError
    from alp_jax.data.dataset import open_dataset
    from alp_jax.data.stats import stats
    from alp_jax.data.text.tokenizer import Tokenizer, tokenizer_path

    if args.text_budget < 1:
        raise UserError(f"--text_budget {args.text_budget} leaves no token of a caption")
    dataset = open_dataset(args.path)
    config = DataConfig(tokenizer=args.tokenizer, text_budget=args.text_budget, text_clean=args.text_clean)
    path = tokenizer_path(dataset.path, config)
    tokenizer = Tokenizer.load(path) if args.tokenizer or path.exists() else None
    result = stats(dataset, tokenizer, config)
    if args.out:
        files.write_json(args.out, result)
    if not args.json:
        print(f"{args.path}: {result['pairs']} training pairs, {result['distinct_captions']} distinct captions")
        print(
            f"  {'':<28}{'clips':>8}{'hours':>9}{'captions':>10}{'words':>8}{'words/cap':>11}{'seconds 5/50/95 %':>22}"
        )
        _print_stats("all", result)
        for split, row in result["splits"].items():
            _print_stats(split, row)
            for source, part in row["sources"].items():
                _print_stats(f"  {source}", part)
        if tokenizer:
            cut = 100 * result["truncated_captions"]
            print(f"captions of more than {config.text_budget} tokens, which training cuts: {cut:.1f}%")
    return result


def _print_stats(label: str, row: dict) -> None:
    seconds = " / ".join(f"{row['seconds'][q]:.1f}" for q in ("5", "50", "95"))
    print(
        f"  {label:<28}{row['clips']:>8}{row['hours']:>9.3f}{row['captions']:>10}{row['distinct_words']:>8}"
        f"{row['words_per_caption']:>11.1f}{seconds:>22}"
    )
