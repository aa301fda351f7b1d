"""``alp tokenizer``: a sentencepiece vocabulary from training captions, of a data set or of published metadata."""

import argparse
import pathlib
import sys
import time

from alp_jax.cli.caption_sources import Published, add_metadata
from alp_jax.core.errors import UserError

EXAMPLE = (
    "alp tokenizer --data data/mini --vocab_size 2000\n"
    "  alp tokenizer --data data/all --vocab_size 50000 --kind bpe --out bpe50k.model\n"
    "  alp tokenizer --source audiocaps --metadata train.csv --vocab_size 4000 --out tokenizer.model"
)
_KINDS = ("unigram", "bpe")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", help="built data set; the captions of its training clips in use")
    add_metadata(parser)
    parser.add_argument("--vocab_size", type=int, default=2000, metavar="N", help="number of tokens (default: 2000)")
    parser.add_argument("--kind", choices=_KINDS, default="unigram", help="model (default: unigram)")
    parser.add_argument("--out", metavar="FILE", help="model file (default: tokenizer.model in the data set's folder)")


def run(args: argparse.Namespace) -> dict:
    from alp_jax.core import storage
    from alp_jax.core.progress import Progress
    from alp_jax.data.dataset import open_dataset
    from alp_jax.data.text import tokenizer

    if bool(args.data) == bool(args.source or args.metadata):
        raise UserError("give either --data DIR or --source NAME --metadata FILE...")
    if not args.data and not args.out:
        raise UserError("--out FILE is needed with --source")
    if args.data:
        dataset = open_dataset(args.data)
        if not args.out and storage.is_remote(dataset.path):
            raise UserError(f"--out FILE is needed: nothing is written to {dataset.path}")
        total = int(dataset.num_captions[dataset.ladder_rows()].sum())
        captions = tokenizer.training_captions(dataset)
        out = pathlib.Path(args.out or storage.join(dataset.path, tokenizer.FILE_NAME))
    else:
        total, out = None, pathlib.Path(args.out)
        captions = (text for clip in Published(args) if clip.split == "train" for text in clip.texts)
    with Progress("read captions", total, "captions") as progress:

        def counted():
            for caption in captions:
                progress.update()
                yield caption

        words = tokenizer.count_words(counted())
    print(f"train {args.vocab_size} tokens on {len(words)} different words", file=sys.stderr)
    began = time.monotonic()
    made = tokenizer.train_on_words(words, out, args.vocab_size, args.kind)
    if not args.json:
        seconds = f"{time.monotonic() - began:.0f} s"
        print(f"{out}: {made.vocab_size} tokens ({args.kind}) from {progress.done} training captions in {seconds}")
    return {
        "path": str(out),
        "vocab_size": made.vocab_size,
        "kind": args.kind,
        "captions": progress.done,
        "sha256": made.sha256,
    }
