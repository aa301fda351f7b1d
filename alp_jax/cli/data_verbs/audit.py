"""``alp data audit``: which training clips are evaluation clips, and marks that take them out of use."""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from alp_jax.core.clip import SPLITS
from alp_jax.core.errors import UserError

if TYPE_CHECKING:
    from alp_jax.core import storage
    from alp_jax.data.audit.sets import EvalSet
    from alp_jax.data.store.dataset import Dataset

AUDIT = "audit.json"
NOTHING = "no training clips, so there is nothing to audit"
OWN_SPLITS = ("valid", "test")
SETS = (
    "DIR (valid and test split of a built data set), DIR:test, CORPUS:FILE[,FILE...][,OPTION=VALUE] (published "
    "metadata, compared by recording and caption), blacklist:FILE (as WavCaps publishes them)"
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
    audit.add_argument("--exclude", action="store_true", help="take what is found out of use; no shard is touched")
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
    audit.add_argument("--out", metavar="FILE", help=f"the audit as JSON (default: DIR/{AUDIT} for a data set)")


def add_against(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="SET",
        help=f"evaluation sets beside the data set's own valid and test splits: {SETS}",
    )


def run(args: argparse.Namespace) -> dict:
    from alp_jax.core import files, storage
    from alp_jax.data.audit.audit import audit, exclude, training_rows
    from alp_jax.data.audit.kinds import KINDS
    from alp_jax.data.store.dataset import open_dataset

    corpus = _corpus(args.data)
    if args.planted:
        return _planted(args, corpus)
    if corpus and args.exclude:
        raise UserError(f"--exclude needs a built data set; {args.data} is metadata")
    if not args.exclude and (args.replace or args.kinds):
        raise UserError("--replace and --kinds belong to --exclude")
    train = _read(args.data, *corpus, "train") if corpus else open_dataset(args.data)
    if not corpus and not len(training_rows(train)):
        if not args.json:
            print(f"{args.data}: {NOTHING}")
        return {"data": args.data, "clips": {}, "leaks": 0}
    found = audit(train, sets(args.against, None if corpus else train))
    summary = {"data": args.data} | found.summary()
    if args.exclude:
        summary["accounting"] = exclude(train, found, args.kinds or KINDS, replace=args.replace)
    out = args.out or ("" if corpus else storage.join(args.data, AUDIT))
    if args.out:
        storage.write(out, files.json_text(summary).encode())
    elif out:
        _keep(args.data, summary)
    if not args.json:
        print_audit(summary)
        if out:
            print(f"all of it: {out}")
    return summary


def after_build(folder: "storage.Location", against: "Sequence[EvalSet]", keep_leaks: bool) -> dict | None:
    """Audits the new data set ``folder`` and, unless ``keep_leaks``, takes what is found out of use.

    Returns what ``run`` returns, or None when there is nothing to compare: no training clips, or no evaluation set.
    """
    from alp_jax.data.audit.audit import audit, exclude, training_rows
    from alp_jax.data.store.dataset import open_dataset

    train = open_dataset(folder)
    against = [*sets([], train), *against]
    if not against or not len(training_rows(train)):
        return None
    found = audit(train, against)
    summary = {"data": str(folder)} | found.summary()
    if not keep_leaks:
        summary["accounting"] = exclude(train, found)
    _keep(folder, summary)
    return summary


def _keep(folder: "storage.Location", summary: dict) -> None:
    """Writes the audit beside the data set, without the folder's name: equal data sets have equal files."""
    from alp_jax.core import files, storage

    found = {key: value for key, value in summary.items() if key != "data"}
    storage.write(storage.join(folder, AUDIT), files.json_text(found).encode())


def _planted(args: argparse.Namespace, corpus: tuple | None) -> dict:
    from alp_jax.data.audit import planted, planted_rows
    from alp_jax.data.audit.kinds import KINDS
    from alp_jax.data.store.dataset import open_dataset

    if args.exclude or (args.against and not corpus):
        raise UserError("--planted goes without --exclude, and with --against only for published metadata")
    if corpus:
        found = planted_rows.measure(_read(args.data, *corpus, "train"), sets(args.against, None), args.planted)
    else:
        found = planted.measure(open_dataset(args.data), args.planted)
    if not args.json:
        print(f"{args.data}: training clips found by 'alp data audit'")
        columns = ("clips", "found", "right", *KINDS, *(() if corpus else ("long", "long_found")))
        print(f"  {'':<12}" + "".join(f"{name:>11}" for name in columns))
        for name, row in (*found["planted"].items(), ("the others", found["others"])):
            print(f"  {name:<12}" + "".join(f"{row.get(key, ''):>11}" for key in columns))
        print("right: found together with the clip it was made from")
        print("no audio here" if corpus else f"long: clips of {planted.LONG_S:g} s and more")
        for line in found["warnings"]:
            print(f"warning: {line}")
    return found


def sets(against: Sequence[str], dataset: "Dataset | None") -> "list[EvalSet]":
    """The evaluation sets that ``against`` names, after the valid and test splits of ``dataset``, each once.

    Raises:
      UserError: naming the set that cannot be read.
    """
    from alp_jax.data.audit.sets import of_splits

    found = {one.name: one for one in (of_splits(dataset, OWN_SPLITS) if dataset is not None else [])}
    own = {name: dataclasses.replace(one, name=name.rpartition(":")[2]) for name, one in found.items()}
    for text in against:
        for one in _sets(text):
            found.setdefault(one.name, one)
    return list((found | own).values())


def _sets(text: str) -> "list[EvalSet]":
    from alp_jax.data.audit import sets as eval_sets
    from alp_jax.data.store.dataset import open_dataset

    if text.startswith("blacklist:"):
        return [eval_sets.of_blacklist(text.partition(":")[2])]
    if corpus := _corpus(text):
        return [eval_sets.of_clips(text, _read(text, *corpus, "test"), (corpus[0],))]
    folder, _, split = text.rpartition(":")
    if split not in SPLITS or not folder:
        folder, split = text, ""
    dataset = open_dataset(folder)
    found = eval_sets.of_splits(dataset, [split] if split else OWN_SPLITS)
    if not found:
        raise UserError(f"--against {text}: {folder} has no clips in {split or ' or '.join(OWN_SPLITS)}")
    return found


def _corpus(text: str) -> tuple[str, list[str]] | None:
    """(corpus, files and options) of ``CORPUS:FILE[,FILE...][,OPTION=VALUE...]``; None for a path or URL."""
    from alp_jax.corpora import registry

    name, colon, rest = text.partition(":")
    if not colon or rest.startswith("//") or name not in registry.ADAPTERS:
        return None
    return name, rest.split(",")


def _read(text: str, name: str, parts: list[str], split: str):
    from alp_jax.corpora import registry
    from alp_jax.corpora.adapter import split_words

    options = [part for part in parts if part.partition("=")[0] in registry.ADAPTERS[name].options and "=" in part]
    paths = [part for part in parts if part not in options]
    if not all(paths):
        raise UserError(f"{text}: give the published files as {name}:FILE or {name}:FILE,FILE")
    if all(len(split_words(path.rpartition("/")[2])) == 1 for path in paths):
        split = None  # the names tell it, and ids are those that a build gives
    return registry.read(name, paths, None, split, **dict(part.partition("=")[::2] for part in options))


def print_audit(summary: dict) -> None:
    """A table of source and kind, examples, what is found of every evaluation set, and warnings."""
    from alp_jax.data.audit.kinds import KINDS, SAME_RECORDING

    total, width = sum(summary["clips"].values()), len(SAME_RECORDING) + 2
    state = f", {summary['out_of_use']} of them out of use already" if summary["out_of_use"] else ""
    print(f"{summary['data']}: {summary['leaks']} of {total} training clips are evaluation clips{state}")
    heads = f"{'clips':>10}" + "".join(f"{kind:>11}" for kind in KINDS) + f"{'any':>11}{SAME_RECORDING:>{width}}"
    print(f"  {'source':<28}{heads}")
    for source, entry in summary["sources"].items():
        counts = "".join(f"{entry['kinds'][kind]['clips']:>11}" for kind in KINDS)
        counts += f"{entry['leaks']:>11}{entry[SAME_RECORDING]['clips']:>{width}}"
        print(f"  {source:<28}{entry['clips']:>10}{counts}")
    print(f"  {'evaluation set':<28}{heads}")
    for one in summary["sets"]:
        counts = "".join(f"{one['found'][kind]:>11}" for kind in KINDS)
        name = one["name"] if len(one["name"]) < 28 else f"...{one['name'][-24:]}"
        print(f"  {name:<28}{one['clips']:>10}{counts}{one['found_by_any']:>11}{one[SAME_RECORDING]:>{width}}")
        if not one["with_audio"]:
            print("    has no audio here: compared by recording and caption only")
        if one["rejected"]:
            print(f"    rows not used: {', '.join(f'{n} {reason}' for reason, n in one['rejected'].items())}")
    for source, entry in summary["sources"].items():
        for kind in KINDS:
            for example in entry["kinds"][kind]["examples"][:1]:
                print(f"  e.g. {kind}: {source} {example['train']} is {example['evaluation']}")
    elsewhere = [entry[SAME_RECORDING] for entry in summary["sources"].values()]
    if count := sum(entry["clips"] for entry in elsewhere):
        first = next(entry["examples"][0] for entry in elsewhere if entry["clips"])
        print(
            f"{SAME_RECORDING}: {count} training clips share a recording with an evaluation clip, at another or an "
            f"unknown place; they are no leaks and stay in use, such as {first['train']} beside {first['evaluation']}"
        )
    for side, count in summary["without_length"].items():
        if count:
            print(f"{count} {side} clips state no length: they are taken to last to the end of their recording")
    if summary["unspecific_captions"]:
        print(f"{summary['unspecific_captions']} more training clips share a caption that says too little about a clip")
    for line in summary["warnings"]:
        print(f"warning: {line}")
