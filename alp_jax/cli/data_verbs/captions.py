"""``alp data captions``: what captions are like, from published metadata or from a built data set."""

import argparse
from collections.abc import Callable

from alp_jax.core import files
from alp_jax.core.errors import UserError
from alp_jax.corpora.caption_streams import Published, Stored, add_metadata

_EXAMPLE = (
    "alp data captions --source audiocaps --metadata train.csv val.csv test.csv --out captions.json\n"
    "  alp data captions --source audiocaps --metadata audiocaps --source clotho --metadata clotho\n"
    "  alp data captions data/mini"
)
_HEAD = (
    f"  {'':<24}{'captions':>10}{'clips':>10}{'words/caption':>16}{'distinct':>10}{'Distinct-1/2/3':>20}"
    f"{'of 1000 captions':>20}{'repeated':>8}{'by':>8}{'not':>8}{'with':>8}\n"
    f"  {'':<24}{'':>10}{'':>10}{'5 / 50 / 95 %':>16}{'words':>10}{'%':>20}"
    f"{'%':>20}{'%':>8}{'words':>8}{'English':>8}{'defects':>8}"
)
_LISTED = 3  # openings and repeated captions
_LONGEST = 120  # characters of an example


def add(action: Callable[..., argparse.ArgumentParser]) -> None:
    captions = action(
        "captions",
        "describe captions: words, diversity, repetition, language, artefacts, tokens ('alp data stats' has clips, "
        "hours, seconds and pairs)",
        _EXAMPLE,
    )
    captions.add_argument("path", nargs="?", metavar="DIR", help="built data set; its clips in use are described")
    add_metadata(captions)
    captions.add_argument("--out", metavar="FILE", help="also write everything as JSON, for 'alp scaling report'")
    tokens = captions.add_argument_group("tokens, and captions that training cuts")
    tokens.add_argument("--tokenizer", default="", metavar="FILE", help="(default: the data set's own, if any)")
    tokens.add_argument("--text_budget", type=int, default=128, metavar="N", help="tokens that are kept (default: 128)")
    tokens.add_argument(
        "--text_clean", default="none", metavar="RECIPE", help="none | clap | audio_caption, before tokens (none)"
    )


def run(args: argparse.Namespace) -> dict:
    from alp_jax.core.names import choose
    from alp_jax.core.progress import Progress
    from alp_jax.data.store.dataset import open_dataset
    from alp_jax.data.text.normalise import CLEAN_UPS
    from alp_jax.data.text.statistics import CaptionStatistics

    if args.text_budget < 1:
        raise UserError(f"--text_budget {args.text_budget} leaves no token of a caption")
    choose(args.text_clean, CLEAN_UPS, "--text_clean")
    if bool(args.path) == bool(args.source or args.metadata):
        raise UserError("give either the folder of a data set or --source NAME --metadata FILE...")
    dataset = open_dataset(args.path) if args.path else None
    found = Stored(dataset) if dataset else Published(args)
    statistics = CaptionStatistics(_token_counter(args, dataset), args.text_budget)
    with Progress("read captions", found.clips, "clips") as progress:
        for entry in found:
            statistics.add(*entry)
            progress.update()
    result = statistics.result() | {"rejected": found.rejected}
    if not result["sources"]:
        raise UserError(f"there are no captions in {args.path or args.metadata[0][0]}{_why(found)}")
    if args.out:
        files.write_json(args.out, result)
    if not args.json:
        _print(result)
    return result


def _token_counter(args: argparse.Namespace, dataset) -> Callable[[str], int] | None:
    from alp_jax.config.schema import DataConfig
    from alp_jax.data.text.normalise import clean
    from alp_jax.data.text.tokenizer import Tokenizer, tokenizer_path

    if not dataset and not args.tokenizer:
        return None
    path = tokenizer_path(dataset.path if dataset else ".", DataConfig(tokenizer=args.tokenizer))
    if not args.tokenizer and not path.exists():
        return None
    tokenizer = Tokenizer.load(path)
    return lambda caption: len(tokenizer.encode(clean(caption, args.text_clean)))


def _why(found: Published | Stored) -> str:
    return "".join(f"; {entry['count']} rows: {entry['rows'][0]}" for entry in found.rejected.values())


def _print(result: dict) -> None:
    rows = dict(result["sources"]) | ({"all": result["all"]} if len(result["sources"]) > 1 else {})
    print(_HEAD)
    for name, row in rows.items():
        _print_row(name, row)
    print(f"distinct words: {result['definitions']['distinct_words']}")
    for name, row in rows.items():
        if name in result["sources"]:
            _print_findings(name, row, result["artefacts"])
    for reason, entry in sorted(result["rejected"].items()):
        print(f"rows without a clip: {entry['count']} {reason} ({entry['meaning']}), such as {entry['rows'][0]}")


def _print_row(name: str, row: dict) -> None:
    captions, words = row["captions"], row["words_per_caption"]
    equal = row["at_equal_size"]
    spread = " / ".join(str(words[q]) for q in ("5", "50", "95"))
    own = " / ".join(
        f"{'~' * ('standard_error' in entry)}{100 * entry['share']:.1f}" for entry in row["distinct_n"].values()
    )
    same = " / ".join(f"{100 * share:.1f}" for share in equal.values()) if equal else "-"
    shares = (
        row["duplicates"]["exact"],
        row["duplicates"]["normalised"],
        row["not_english"]["captions"],
        row["defects"],
    )
    print(
        f"  {name:<24}{captions:>10}{row['clips']:>10}{spread:>16}{row['distinct_words']:>10}{own:>20}{same:>20}"
        + "".join(f"{100 * n / captions:>8.2f}" for n in shares)
    )


def _print_findings(name: str, row: dict, kinds: dict) -> None:
    """What the table cannot hold: splits, artefacts and repetition with examples, tokens."""
    captions = row["captions"]
    splits = (f"{split} {counts['captions']} of {counts['clips']} clips" for split, counts in row["splits"].items())
    print(f"{name}: captions {', '.join(splits)}")
    if "tokens_per_caption" in row:
        tokens = row["tokens_per_caption"]
        spread = " / ".join(str(tokens[q]) for q in ("5", "50", "95"))
        cut = 100 * tokens["truncated"] / captions
        print(f"  tokens: {spread} (5 / 50 / 95 %); of more than {tokens['budget']}, which training cuts: {cut:.1f}%")
    for artefact, entry in row["artefacts"].items():
        kind, share = kinds[artefact], 100 * entry["captions"] / captions
        what = f"{'defect' if kind['defect'] else 'style'}: {kind['meaning']}"
        print(f"  {share:.3f}% {artefact} ({what}): {_quoted(entry['examples'][0])}")
    for example in row["not_english"]["examples"]:
        print(f"  not English ({example['language']}): {_quoted(example['text'])}")
    common = ", ".join(f"{_quoted(o['text'])} {100 * o['captions'] / captions:.1f}%" for o in row["openings"][:_LISTED])
    print(f"  most common openings: {common}")
    if row["most_repeated"]:
        common = ", ".join(f"{_quoted(o['text'])} {o['captions']} times" for o in row["most_repeated"][:_LISTED])
        print(f"  most repeated: {common}")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "...")
