"""``alp data audit``: which training clips are evaluation clips, and marks that take them out of use."""

import argparse
from collections.abc import Callable

from alp_jax.core.errors import UserError

SETS = (
    "DIR (valid and test split of a built data set), DIR:test, CORPUS:FILE[,FILE...][,OPTION=VALUE] (published "
    "metadata, its valid and test clips if it states them, by recording and caption), blacklist:FILE (of WavCaps)"
)


def add(action: Callable[..., argparse.ArgumentParser]) -> None:
    audit = action(
        "audit",
        "find training clips that are evaluation clips: by recording, by sound, by near-duplicate sound, by caption",
        "alp data audit data/mine --against data/other:test clotho:clotho_captions_evaluation.csv --exclude\n"
        "  alp data audit audiocaps:train.csv --against audiocaps:test.csv\n"
        "  alp data audit data/mine --planted 200",
    )
    audit.add_argument(
        "data", metavar="DIR|CORPUS:FILE", help="a built data set, or published metadata of training clips"
    )
    add_against(audit)
    audit.add_argument("--exclude", action="store_true", help="mark what is found as unused; no shard is changed")
    audit.add_argument(
        "--kinds",
        nargs="+",
        metavar="KIND",
        help="kinds that --exclude acts on (default: recording audio near caption; same_recording for clips that only "
        "share a recording with an evaluation clip, at another or an unknown place)",
    )
    audit.add_argument("--replace", action="store_true", help="--exclude: take back what earlier audits excluded first")
    audit.add_argument(
        "--planted",
        type=int,
        default=0,
        metavar="N",
        help="instead: plant N leaks (renamed, re-encoded, trimmed, ...) of the test split, or of --against among "
        "metadata, and count those found",
    )
    audit.add_argument("--out", metavar="FILE", help="the audit as JSON (default: DIR/audit.json for a data set)")


def add_against(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="SET",
        help=f"evaluation sets beside the data set's own valid and test splits: {SETS}",
    )


def run(args: argparse.Namespace) -> dict:
    from alp_jax.corpora.registry import read_spec
    from alp_jax.data.audit import run as audit
    from alp_jax.data.audit.report import audit_lines, planted_lines

    if args.planted:
        if args.exclude:
            raise UserError("--planted does not go with --exclude, and takes --against only for published metadata")
        result = audit.plant(args.data, args.against, read_spec, args.planted)
        if not args.json:
            print(*planted_lines(args.data, result), sep="\n")
        return result
    summary, written = audit.run(
        args.data,
        args.against,
        read_spec,
        exclude_leaks=args.exclude,
        kinds=args.kinds,
        replace=args.replace,
        out=args.out,
    )
    if not args.json:
        if not summary["clips"]:
            print(f"{args.data}: {audit.NOTHING}")
        else:
            print(*audit_lines(summary), sep="\n")
        if written:
            print(f"all of it: {written}")
    return summary
