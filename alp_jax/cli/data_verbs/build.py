"""``alp data build``: clips of a corpus to shards, with an account of every one."""

import argparse
import pathlib
import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

from alp_jax.cli.data_verbs import audit as data_audit
from alp_jax.cli.data_verbs.fetch import add_tier
from alp_jax.core.clip import SPLITS
from alp_jax.core.errors import UserError

if TYPE_CHECKING:
    from alp_jax.corpora.splits import SplitRule

CORPORA = (
    "mini",
    "folder",
    "audiocaps",
    "audiosetcaps",
    "clotho",
    "fusionaudio",
    "jamendomaxcaps",
    "lhotse",
    "musiccaps",
    "paraspeechcaps",
    "tfds",
    "wavcaps",
    # evaluation sets
    "audioset_strong",
    "crema_d",
    "fsd50k",
    "magnatagatune",
    "nsynth",
    "vggsound",
    "voxceleb",
)
_NAMES_SHOWN = 3


def add(action: Callable[..., argparse.ArgumentParser]) -> None:
    build = action(
        "build",
        "decode clips into shards, with an account of every clip; run again to go on after a stop",
        "alp data build mini --out data/mini\n"
        "  alp data build folder --audio recordings --metadata captions.csv --out data/mine\n"
        "  alp data build folder --audio recordings --metadata captions.tsv --option ignore=speaker --out data/mine\n"
        "  alp data build folder --metadata 'shards/*.tar' --out data/mine  # webdataset; HF's parquet likewise\n"
        "  alp data build audiocaps --metadata train.csv val.csv test.csv --audio wavs --out data/audiocaps\n"
        "  alp data build audiocaps --metadata train.csv val.csv test.csv --dry_run\n"
        "  alp data build fsd50k --metadata FSD50K.ground_truth --audio FSD50K --out data/benchmarks/fsd50k",
    )
    build.add_argument("corpus", choices=CORPORA, metavar="CORPUS", help=", ".join(CORPORA))
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
    build.add_argument("--audio", metavar="DIR", help="where the audio files are, but for audio in .parquet and .tar")
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
    data_audit.add_against(build)
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
    from alp_jax.data.building.build import build
    from alp_jax.data.building.filters import CaptionFilter

    for name in ("workers", "shards"):
        if getattr(args, name) < 0:
            raise UserError(f"--{name} {getattr(args, name)}: must not be negative")
    settings = {name: getattr(args, name) for name in ("codec", "shards", "min_seconds", "max_seconds", "dedupe")}
    settings["captions"] = CaptionFilter(args.min_words, args.max_words, args.min_ascii, args.no_defects)
    if args.dry_run:
        return _preview(args, settings)
    if not args.out:
        raise UserError("--out DIR is needed (or --dry_run)")
    against = data_audit.sets(args.against, None)  # before anything is built, for it may be misspelt
    clips, left_out = _clips(args)
    rule = _split_rule(args)
    accounting = build(
        clips,
        args.out,
        source_name=args.corpus,
        max_bad_share=args.max_bad_share,
        engine=args.engine,
        workers=args.workers,
        beam_options=shlex.split(args.beam_options),
        split_rule=rule and rule.facts(),
        **settings,
    )
    if args.corpus == "mini":
        from alp_jax.corpora.mini import credits

        credits.write(args.cache, clips, storage.local(args.out) / "CREDITS")
    audit = data_audit.after_build(args.out, against, args.keep_leaks)
    if audit:
        accounting = audit.get("accounting", accounting)
    if not args.json:
        print_accounting(args.out, accounting)
        _print_split(rule, accounting)
        _print_left_out(left_out)
        if audit:
            data_audit.print_audit(audit)
        if "train" not in accounting["splits"]:
            print(data_audit.NOTHING)
        else:
            print(f"next: alp tokenizer --data {shlex.quote(args.out)}")
    found = {"accounting": accounting, "left_out": left_out, "audit": audit, "split_rule": rule and rule.facts()}
    return {"out": str(args.out), **found}


def _preview(args: argparse.Namespace, settings: dict) -> dict:
    from alp_jax.data.building.build import Settings
    from alp_jax.data.building.preview import preview

    for name in ("out", "against"):
        if getattr(args, name):
            raise UserError(f"--{name} does not go with --dry_run, which writes and compares nothing")
    clips, left_out = _clips(args)
    found = preview(clips, Settings.of(**settings))
    if not args.json:
        what = "metadata and files" if args.audio or args.corpus == "mini" else "metadata"
        print_accounting(f"{args.corpus}, {what}", found, "the JSON line of --json")
        _print_split(_split_rule(args), found)
        for source, count in found["without_length"].items():
            print(f"hours leave out {count} clips of {source}, whose metadata does not state their length")
        for reason, count in sorted(found["dropped_captions"].items()):
            print(f"captions that the filter drops: {count} {reason}")
        _print_left_out(left_out)
        print(f"a build would write {found['shards']} shards; nothing was written")
    return {"out": None, "accounting": found, "left_out": left_out, "audit": None}


def _clips(args: argparse.Namespace) -> tuple:
    return _mini(args) if args.corpus == "mini" else (_published(args), {})


def _mini(args: argparse.Namespace) -> tuple[list, dict]:
    from alp_jax.corpora import mini

    for name in ("audio", "metadata", "split", "option"):
        if getattr(args, name):
            raise UserError(f"--{name} is not for the mini corpus, which is read from --cache")
    return mini.collect(args.cache, args.tier)


def _published(args: argparse.Namespace):
    from alp_jax.corpora import registry

    adapter = registry.ADAPTERS[args.corpus]
    if not registry.enough(args.corpus, args.metadata, args.audio, args.dry_run):
        audio = f" and --audio DIR ({adapter.audio})" if adapter.audio else ""
        raise UserError(f"'alp data build {args.corpus}' needs --metadata FILE... ({adapter.metadata}){audio}")
    return registry.read(args.corpus, args.metadata or [], args.audio, args.split, **_options(args))


def _options(args: argparse.Namespace) -> dict[str, str]:
    options = dict(text.partition("=")[::2] for text in args.option)
    for key, value in options.items():
        if not value:
            raise UserError(f"--option {key}: give it as KEY=VALUE")
    if len(options) < len(args.option):
        raise UserError(f"--option {' --option '.join(args.option)}: give each key once, as in ignore=COLUMN,COLUMN")
    return options


def _split_rule(args: argparse.Namespace) -> "SplitRule | None":
    from alp_jax.corpora import registry

    if args.corpus == "mini":
        return None
    return registry.split_rule(args.corpus, args.metadata or [], args.audio, args.split, **_options(args))


def _print_split(rule: "SplitRule | None", accounting: dict) -> None:
    if rule is None:
        return
    counts = ", ".join(f"{accounting['splits'].get(split, {'clips': 0})['clips']} {split}" for split in SPLITS)
    together = "" if rule.unit == "group" else "; a column 'group' keeps clips together"
    remedy = "--option split_seed=N or larger shares give some"
    if rule.tables < rule.of_tables:
        remedy = "a column 'split' can name some"  # where the others bind all groups, no seed does
        print(f"no split column in {rule.tables} of {rule.of_tables} tables, so their clips are split {rule}")
        print(f"  but for groups and files whose split the others state; all clips together: {counts}")
    else:
        print(f"no split column, so clips are split {rule}: {counts}")
    print(f"  a column 'split', --split or --option shares=70/15/15 says otherwise{together}")
    empty = [name for name, share in rule.facts()["shares"].items() if share and name not in accounting["splits"]]
    if empty:
        print(f"  no {' and no '.join(empty)} clips came of it: {remedy}")


def _print_left_out(left_out: dict) -> None:
    if left_out:
        reasons = ", ".join(
            f"{left_out[key]} {key.replace('_', ' ')}" for key in ("duplicates", "unreadable", "too_short")
        )
        print(f"left out before the build: {reasons}")
    if left_out and left_out["missing"]:
        print(f"packages not fetched: {', '.join(left_out['missing'])}")


def print_accounting(out: str, accounting: dict, names_in: str = "") -> None:
    """The account for people: what is in use by split and source, what is not and why.

    ``names_in`` says where all names are; "": in the data set ``out``.
    """
    print(f"{out}: {accounting['usable']} of {accounting['expected']} clips")
    rows = [(split, split, row) for split, row in accounting["splits"].items()]
    for source, entry in sorted(accounting["sources"].items()):
        rows += [(split, source, row) for split, row in entry["splits"].items()]
    print(f"  {'':<28}{'clips':>8}{'hours':>9}{'captions':>10}")
    for split, name, row in rows:
        label = f"{name}" if name == split else f"  {name} {split}"
        print(f"  {label:<28}{row['clips']:>8}{row['hours']:>9.3f}{row['captions']:>10}")
    bare = accounting.get("without_captions", 0)  # older data sets do not say it
    if bare and accounting["splits"]["train"]["captions"]:
        print(f"without a caption, so no part of the training pairs: {bare} training clips")
    for reason, count in sorted(accounting["excluded"].items()):
        print(f"stored but not used: {count} {reason}")
    for key, text in (("clipped", "reach full scale"), ("shorter_than_stated", "end before their stated end")):
        count = sum(entry["measured"][key] for entry in accounting["sources"].values() if "measured" in entry)
        if count:
            print(f"stored as they are: {count} that {text}")
    for note, entry in sorted(accounting.get("notes", {}).items()):
        names = ", ".join(entry["clips"][:_NAMES_SHOWN]) + (", ..." if entry["count"] > _NAMES_SHOWN else "")
        print(f"stored and noted: {entry['count']} {note}: {entry['meaning']}: {names}")
    if accounting["unusable"]:
        print(f"unusable: {accounting['unusable']} (all names in {names_in or pathlib.Path(out) / 'dataset.json'})")
    for reason, entry in sorted(accounting["reasons"].items(), key=lambda item: -item[1]["count"]):
        names = ", ".join(_short(name) for name in entry["clips"][:_NAMES_SHOWN])
        more = ", ..." if entry["count"] > _NAMES_SHOWN else ""
        print(f"  {entry['count']:>6} {reason}: {entry['meaning']}: {names}{more}")


def _short(name: str) -> str:
    """``ID (PATH): DETAIL`` of an account without the path."""
    clip, _, rest = name.partition(" (")
    _, mark, detail = rest.rpartition("): ")
    return f"{clip}: {detail}" if mark else clip
