"""``alp data build``: writes the clips of a corpus to shards and accounts for every one."""

import argparse
import shlex
from collections.abc import Callable

from alp_jax.cli.data_verbs.audit import add_against
from alp_jax.cli.data_verbs.fetch import add_tier
from alp_jax.core.clip import SPLITS
from alp_jax.core.errors import UserError
from alp_jax.corpora.catalog import names


def add(action: Callable[..., argparse.ArgumentParser]) -> None:
    build = action(
        "build",
        "decode clips into shards, with an account of every clip; run again to resume after a stop",
        "alp data build mini --out data/mini\n"
        "  alp data build folder --audio recordings --metadata captions.csv --out data/mine\n"
        "  alp data build folder --audio recordings --metadata captions.tsv --option ignore=speaker --out data/mine\n"
        "  alp data build folder --metadata 'shards/*.tar' --out data/mine  # webdataset; HF's parquet likewise\n"
        "  alp data build audiocaps --metadata train.csv val.csv test.csv --audio wavs --out data/audiocaps\n"
        "  alp data build audiocaps --metadata train.csv val.csv test.csv --dry_run\n"
        "  alp data build fsd50k --metadata FSD50K.ground_truth --audio FSD50K --out data/benchmarks/fsd50k",
    )
    build.add_argument("corpus", metavar="CORPUS", help=", ".join(names()))
    build.add_argument("--out", metavar="DIR", help="empty folder or URL, or one this build had begun")
    build.add_argument(
        "--dry_run", action="store_true", help="only account for the metadata: no --out, and --audio only to find files"
    )
    add_tier(build)
    build.add_argument(
        "--metadata",
        nargs="+",
        metavar="FILE",
        help="the corpus's files as they were published, or folders or patterns of them; of a folder of your own: "
        ".csv, .tsv, .json, .jsonl (also .gz), .parquet or .tar; may be left out when they lie in --audio",
    )
    build.add_argument("--audio", metavar="DIR", help="where the audio files are, if not in .parquet or .tar files")
    build.add_argument(
        "--split",
        choices=SPLITS,
        help="split of all clips (default: what the metadata says; of a folder whose tables name none 80 %% train, "
        "10 %% valid, 10 %% test)",
    )
    build.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the corpus; of a folder: source=NAME, shares=80/10/10, split_seed=0, ignore=COLUMN,COLUMN "
        "to leave columns aside (ignore=* all that are not known)",
    )
    build.add_argument("--codec", choices=("flac", "pcm"), default="flac", help="how audio is stored (default: flac)")
    build.add_argument("--shards", type=int, default=0, metavar="N", help="number of shards (default: 256 clips each)")
    build.add_argument(
        "--max_bad_share", type=float, default=0.05, metavar="X", help="fail above this share (default: 0.05)"
    )
    build.add_argument("--min_seconds", type=float, default=0.1, metavar="S", help="shortest clip (default: 0.1)")
    build.add_argument("--max_seconds", type=float, default=600.0, metavar="S", help="longest clip (default: 600)")
    build.add_argument(
        "--dedupe",
        choices=("source", "all", "none"),
        default="source",
        help="use a stretch of a recording, and a sound, once in a source, once in all, or none (default: source)",
    )
    add_against(build)
    build.add_argument("--keep_leaks", action="store_true", help="use training clips that are evaluation clips, too")
    captions = build.add_argument_group("captions of training clips that are kept (default: all)")
    captions.add_argument("--min_words", type=int, default=0, metavar="N")
    captions.add_argument("--max_words", type=int, default=0, metavar="N")
    captions.add_argument("--min_ascii", type=float, default=0.0, metavar="X", help="share of ASCII characters")
    captions.add_argument("--no_defects", action="store_true", help="drop refusals, prompts, markup and the like")
    engine = build.add_argument_group("how it is computed; the data set is the same with any")
    engine.add_argument("--engine", choices=("pool", "beam"), default="pool", help="processes here, or Apache Beam")
    engine.add_argument("--workers", type=int, default=0, metavar="N", help="processes (default: one per core)")
    engine.add_argument("--beam_options", default="", metavar="'--runner=...'", help="command line options of Beam")


def run(args: argparse.Namespace) -> dict:
    from alp_jax.core import storage
    from alp_jax.corpora.registry import get, read_spec
    from alp_jax.data.audit import report as audit_report
    from alp_jax.data.audit import run as audit
    from alp_jax.data.building.filters import CaptionFilter
    from alp_jax.data.building.report import accounting_lines
    from alp_jax.data.building.settings import Settings

    for name in ("workers", "shards"):
        if getattr(args, name) < 0:
            raise UserError(f"--{name} {getattr(args, name)}: must not be negative")
    settings = {name: getattr(args, name) for name in ("codec", "shards", "min_seconds", "max_seconds", "dedupe")}
    settings["captions"] = CaptionFilter(args.min_words, args.max_words, args.min_ascii, args.no_defects)
    if args.dry_run:
        return _preview(args, Settings.of(**settings))
    if not args.out:
        raise UserError(f"--out DIR is needed to build {get(args.corpus).name} (or --dry_run)")
    against = audit.eval_sets(args.against, None, read_spec)  # before anything is built, as a name may be misspelt
    opened = _open(args)
    accounting, audited = audit.build_audited(
        opened.clips,
        args.out,
        against=against,
        keep_leaks=args.keep_leaks,
        source_name=args.corpus,
        max_bad_share=args.max_bad_share,
        engine=args.engine,
        workers=args.workers,
        beam_options=shlex.split(args.beam_options),
        split_rule=opened.rule and opened.rule.facts(),
        **settings,
    )
    opened.write_credits(storage.local(args.out) / "CREDITS")
    if not args.json:
        print(*accounting_lines(args.out, accounting), sep="\n")
        for line in (*opened.rule_lines(accounting["splits"]), *opened.left_out_lines()):
            print(line)
        if audited:
            print(*audit_report.audit_lines(audited), sep="\n")
        trained = "train" in accounting["splits"]
        print(f"next: alp tokenizer --data {shlex.quote(args.out)}" if trained else audit.NOTHING)
    return {
        "out": str(args.out),
        "accounting": accounting,
        "left_out": opened.left_out,
        "audit": audited,
        "split_rule": opened.rule and opened.rule.facts(),
    }


def _preview(args: argparse.Namespace, chosen) -> dict:
    from alp_jax.data.building.preview import preview
    from alp_jax.data.building.report import accounting_lines, preview_lines

    for name in ("out", "against"):
        if getattr(args, name):
            raise UserError(f"--{name} does not go with --dry_run, which writes and compares nothing")
    opened = _open(args)
    accounting = preview(opened.clips, chosen)
    if not args.json:
        looked_at = "metadata and files" if args.audio or opened.corpus.download else "metadata"
        print(*accounting_lines(f"{args.corpus}, {looked_at}", accounting, "the JSON line of --json"), sep="\n")
        for line in (
            *opened.rule_lines(accounting["splits"]),
            *preview_lines(accounting),
            *opened.left_out_lines(),
            f"a build would write {accounting['shards']} shards; nothing was written",
        ):
            print(line)
    return {"out": None, "accounting": accounting, "left_out": opened.left_out, "audit": None}


def _open(args: argparse.Namespace):
    from alp_jax.corpora import registry

    return registry.open_corpus(
        args.corpus,
        metadata=args.metadata,
        audio=args.audio,
        split=args.split,
        options=args.option,
        cache=args.cache,
        tier=args.tier,
        decoded=not args.dry_run,
    )
