"""``alp data build``: writes the clips of a corpus to shards and accounts for every one."""

import argparse
from collections.abc import Callable

from alp_jax.cli.data_verbs.audit import add_against
from alp_jax.cli.data_verbs.fetch import add_tier
from alp_jax.cli.parsers import fields_of
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
        "  alp data build fsd50k --metadata FSD50K.ground_truth --audio FSD50K --out data/benchmarks/fsd50k\n"
        "  alp data build captionstew --root downloads --out data/captionstew  # eight corpora: docs/captionstew.md",
    )
    build.add_argument("corpus", metavar="CORPUS", help=f"{', '.join(names())}; captionstew: all eight of its corpora")
    build.add_argument("--out", metavar="DIR", help="empty folder or URL, or one this build had begun")
    build.add_argument(
        "--dry_run", action="store_true", help="only account for the metadata: no --out, and --audio only to find files"
    )
    add_tier(build)
    build.add_argument("--root", metavar="DIR", help="captionstew: has a folder for each corpus, named after it")
    build.add_argument("--only", nargs="+", default=[], metavar="CORPUS", help="captionstew: these of its corpora")
    build.add_argument("--allow_missing", action="store_true", help="captionstew: leave out corpora that are missing")
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
        "to leave columns aside (ignore=* all that are not known); captionstew: CORPUS.KEY=VALUE",
    )
    build.add_argument("--codec", choices=("flac", "pcm"), default="flac", help="how audio is stored (default: flac)")
    build.add_argument("--shards", type=int, default=0, metavar="N", help="number of shards (default: 256 clips each)")
    build.add_argument(
        "--max_bad_share", type=float, metavar="X", help="fail above this share (default: 0.05; captionstew: 0.5)"
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
    build.add_argument("--keep_leaks", action="store_true", help="also use training clips that are evaluation clips")
    captions = build.add_argument_group("captions of training clips that are kept (default: all)")
    captions.add_argument("--min_words", type=int, default=0, metavar="N")
    captions.add_argument("--max_words", type=int, default=0, metavar="N")
    captions.add_argument("--min_ascii", type=float, default=0.0, metavar="X", help="share of ASCII characters")
    captions.add_argument("--no_defects", action="store_true", help="drop refusals, prompts, markup and the like")
    engine = build.add_argument_group("how it is computed; the data set is the same with any")
    engine.add_argument("--engine", choices=("pool", "beam"), default="pool", help="processes here, or Apache Beam")
    engine.add_argument("--workers", type=int, default=0, metavar="N", help="processes (default: one per core)")
    engine.add_argument("--beam_options", default="", metavar="'--runner=...'", help="command line options of Beam")
    engine.add_argument(
        "--part", metavar="N/OF", help="only these shards; without it, when all are there, the data set"
    )


def run(args: argparse.Namespace) -> dict:
    from alp_jax.corpora import captionstew, registry
    from alp_jax.data.collection import forecast, request

    _ = args.corpus == captionstew.NAME or registry.get(args.corpus)  # an unknown name is said first
    asked = request.Request(**fields_of(request.Request, args))
    if args.corpus == captionstew.NAME:
        _refuse(args, ("metadata", "audio", "split"), "is not for captionstew, whose files are below --root")
        found, missing = captionstew.find(args.root, only=args.only, options=args.option)
        if not args.dry_run:
            captionstew.require_found(found, missing, args.allow_missing)
        absent = forecast.published_loads([one for one in captionstew.MEMBERS if one.name in missing])
        lists = captionstew.blacklists(found)
        result, lines = request.several(asked, found, missing, absent, lists, registry.read_spec)
    else:
        _refuse(args, ("root", "only", "allow_missing"), f"is for captionstew, not for {args.corpus}")
        opened = registry.open_corpus(
            args.corpus,
            metadata=args.metadata,
            audio=args.audio,
            split=args.split,
            options=args.option,
            cache=args.cache,
            tier=args.tier,
            decoded=not args.dry_run,
        )
        looked_at = "metadata and files" if args.audio or opened.corpus.download else "metadata"
        result, lines = request.one(asked, opened, registry.read_spec, looked_at)
    if not args.json:
        print(*lines, sep="\n")
    return result


def _refuse(args: argparse.Namespace, flags: tuple[str, ...], why: str) -> None:
    for flag in flags:
        if getattr(args, flag):
            raise UserError(f"--{flag} {why}")
