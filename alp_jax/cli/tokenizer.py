"""``alp tokenizer``: trains a sentencepiece vocabulary on the captions of a data set or of published metadata."""

import argparse
import pathlib
import time

from alp_jax.cli.data_verbs.captions import add_metadata
from alp_jax.core.errors import UserError

EXAMPLE = (
    "alp tokenizer --data data/mine\n"
    "  alp tokenizer --data data/all --vocab_size 50000 --kind bpe --out bpe50k.model\n"
    "  alp tokenizer --source audiocaps --metadata train.csv --vocab_size 4000 --out tokenizer.model"
)
_KINDS = ("unigram", "bpe")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", help="built data set; the captions of its training clips in use")
    add_metadata(parser)
    parser.add_argument(
        "--vocab_size",
        type=int,
        metavar="N",
        help="number of tokens, or fewer where the captions support fewer (default: 2000)",
    )
    parser.add_argument("--kind", choices=_KINDS, default="unigram", help="model (default: unigram)")
    parser.add_argument("--out", metavar="FILE", help="model file (default: tokenizer.model in the data set's folder)")


def run(args: argparse.Namespace) -> dict:
    from alp_jax.core import storage
    from alp_jax.corpora.caption_streams import Published
    from alp_jax.data.store.dataset import open_dataset
    from alp_jax.data.text import tokenizer, training

    if bool(args.data) == bool(args.source or args.metadata):
        raise UserError("give either --data DIR or --source NAME --metadata FILE...")
    if args.vocab_size is not None and args.vocab_size < 1:
        raise UserError(f"--vocab_size {args.vocab_size} must be at least 1")
    if not args.data and not args.out:
        raise UserError("--out FILE is needed with --source")
    if args.data:
        dataset = open_dataset(args.data)
        if not args.out and storage.is_remote(dataset.path):
            raise UserError(f"--out FILE is needed: nothing is written to {dataset.path}")
        total = int(dataset.num_captions[dataset.ladder_rows()].sum())
        captions = training.training_captions(dataset)
        out = pathlib.Path(args.out or storage.join(dataset.path, tokenizer.FILE_NAME))
    else:
        total, out = None, pathlib.Path(args.out)
        stream = Published(args.source, args.metadata, args.option, args.split)
        captions = (text for clip in stream if clip.split == "train" for text in clip.texts)
    began = time.monotonic()
    made, count = training.train_with_progress(captions, total, out, args.vocab_size, args.kind)
    if not args.json:
        wanted = args.vocab_size or training.DEFAULT_SIZE
        if made.vocab_size < wanted:
            more = "; --kind bpe supports more" if args.kind == "unigram" else ""
            print(f"these captions support {made.vocab_size} tokens, fewer than the {wanted} asked for{more}")
        seconds = f"{time.monotonic() - began:.0f} s"
        print(f"{out}: {made.vocab_size} tokens ({args.kind}) from {count} training captions in {seconds}")
    made_of = {"kind": args.kind, "captions": count}
    return {"path": str(out), "vocab_size": made.vocab_size, "sha256": made.sha256} | made_of
