"""``alp tokenizer``: a sentencepiece vocabulary from the captions of a data set's training split."""

import argparse
import pathlib

EXAMPLE = "alp tokenizer --data data/mini --vocab_size 2000"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DIR", help="built data set")
    parser.add_argument("--vocab_size", type=int, default=2000, metavar="N", help="number of tokens (default: 2000)")
    parser.add_argument("--out", metavar="FILE", help="model file (default: tokenizer.model in the data set's folder)")


def run(args: argparse.Namespace) -> dict:
    from alp_jax.core.progress import Progress
    from alp_jax.data.dataset import open_dataset
    from alp_jax.data.text import tokenizer

    dataset = open_dataset(args.data)
    out = pathlib.Path(args.out) if args.out else dataset.path / tokenizer.FILE_NAME
    pairs = int(dataset.num_captions[dataset.ladder_rows()].sum())
    with Progress("read captions", pairs, "captions") as progress:

        def counted():
            for caption in tokenizer.training_captions(dataset):
                progress.update()
                yield caption

        made = tokenizer.train(counted(), out, args.vocab_size)
    if not args.json:
        print(f"{out}: {made.vocab_size} tokens from {pairs} training captions")
    return {"path": str(out), "vocab_size": made.vocab_size, "captions": pairs, "sha256": made.sha256}
