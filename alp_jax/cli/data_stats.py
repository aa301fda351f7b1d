"""``alp data stats``: count clips, hours, captions and words."""

import argparse
from collections.abc import Callable

from alp_jax.core import files


def add(action: Callable[..., argparse.ArgumentParser]) -> None:
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
        _print_row("all", result)
        for split, row in result["splits"].items():
            _print_row(split, row)
            for source, part in row["sources"].items():
                _print_row(f"  {source}", part)
        if tokenizer:
            cut = 100 * result["truncated_captions"]
            print(f"captions of more than {config.text_budget} tokens, which training cuts: {cut:.1f}%")
    return result


def _print_row(label: str, row: dict) -> None:
    seconds = " / ".join(f"{row['seconds'][q]:.1f}" for q in ("5", "50", "95"))
    print(
        f"  {label:<28}{row['clips']:>8}{row['hours']:>9.3f}{row['captions']:>10}{row['distinct_words']:>8}"
        f"{row['words_per_caption']:>11.1f}{seconds:>22}"
    )
