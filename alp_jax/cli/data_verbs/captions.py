"""``alp data captions``: describes captions, from published metadata or from a built data set."""

import argparse
from collections.abc import Callable

from alp_jax.core.clip import SPLITS
from alp_jax.core.errors import UserError

_EXAMPLE = (
    "alp data captions --source audiocaps --metadata train.csv val.csv test.csv --out captions.json\n"
    "  alp data captions --source audiocaps --metadata audiocaps --source clotho --metadata clotho\n"
    "  alp data captions data/mini"
)


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


def add_metadata(parser: argparse.ArgumentParser) -> None:
    """Adds --source, --metadata, --option and --split."""
    group = parser.add_argument_group("captions as they were published; no audio is needed")
    group.add_argument(
        "--source", action="append", default=[], metavar="NAME", help="corpus, as in 'alp data build'; may be repeated"
    )
    group.add_argument(
        "--metadata", action="append", nargs="+", default=[], metavar="FILE", help="its files, after each --source"
    )
    group.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="a setting of the corpora that have it"
    )
    group.add_argument("--split", choices=SPLITS, help="split of all clips (default: what the metadata says)")


def run(args: argparse.Namespace) -> dict:
    from alp_jax.core import files
    from alp_jax.core.names import choose
    from alp_jax.corpora.caption_streams import Published, Stored
    from alp_jax.data.store.dataset import open_dataset
    from alp_jax.data.text.describe import caption_lines, describe, token_counter
    from alp_jax.data.text.normalise import CLEAN_UPS

    if args.text_budget < 1:
        raise UserError(f"--text_budget {args.text_budget} leaves no room for a caption")
    choose(args.text_clean, CLEAN_UPS, "--text_clean")
    if bool(args.path) == bool(args.source or args.metadata):
        raise UserError("give either the folder of a data set or --source NAME --metadata FILE...")
    dataset = open_dataset(args.path) if args.path else None
    stream = Stored(dataset) if dataset else Published(args.source, args.metadata, args.option, args.split)
    counter = token_counter(dataset.path if dataset else None, args.tokenizer, args.text_clean)
    result = describe(stream, counter, args.text_budget)
    if not result["sources"]:
        rows = "".join(f"; {entry['count']} rows: {entry['rows'][0]}" for entry in stream.rejected.values())
        raise UserError(f"there are no captions in {args.path or args.metadata[0][0]}{rows}")
    if args.out:
        files.write_json(args.out, result)
    if not args.json:
        print(*caption_lines(result), sep="\n")
    return result
