"""``alp import``: models of other toolboxes as run folders that training starts from and evaluation measures."""

import argparse
import pathlib

from alp_jax.cli.parsers import add_action

EXAMPLE = """alp import auden models/auden-zipformer --out runs/imported
  alp train --workdir runs/demo --config=configs/pretrain.py:init=runs/imported"""
DATA = "data/mini"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)

    def action(name: str, text: str, example: str, source: str) -> argparse.ArgumentParser:
        sub = add_action(actions, name, text, example)
        sub.add_argument("source", type=pathlib.Path, metavar="DIR", help=source)
        sub.add_argument("--out", required=True, metavar="DIR", help="run folder to make")
        sub.add_argument(
            "--data", default=DATA, metavar="DIR", help=f"data set that alp eval takes by default ({DATA})"
        )
        sub.add_argument(
            "--allow_pickle", action="store_true", help="read .pt and .bin files: tensors only, in a process of its own"
        )
        return sub

    leave = "take the Zipformer alone; the names of the weights that are left out are listed"
    auden = action(
        "auden", "import an encoder, an audio-text or a caption model of the authors' toolbox", EXAMPLE, "model folder"
    )
    auden.add_argument("--only_encoder", action="store_true", help=leave)
    icefall = action(
        "icefall",
        "import the encoder of an icefall Zipformer recipe",
        "alp import icefall exp/pretrained.pt --allow_pickle --only_encoder --out runs/supervised",
        "folder with the checkpoint, or the checkpoint",
    )
    icefall.add_argument("--only_encoder", action="store_true", help=leave)
    icefall.add_argument(
        "--config", type=pathlib.Path, dest="settings", metavar="FILE", help="JSON with sizes that shapes do not tell"
    )
    action(
        "hf",
        "import a BERT or RoBERTa text tower with its tokenizer",
        "alp import hf models/bert-base-uncased --out runs/bert\n"
        "  alp train --workdir runs/demo --config=configs/pretrain.py --config.init_text=runs/bert \\\n"
        "      --config.data.tokenizer=runs/bert/tokenizer.json --config.model.text.vocab_size=30522",
        "folder of a transformers model",
    )


def run(args: argparse.Namespace) -> dict:
    """Imports; see ``alp_jax.interop.imported.import_model``."""
    from alp_jax.interop.imported import import_model, imported_lines

    names = ("allow_pickle", "only_encoder", "settings")  # what the parser of the action has of them
    options = {name: value for name, value in vars(args).items() if name in names}
    result = import_model(args.action, args.source, args.out, data=args.data, **options)
    if not args.json:
        print(*imported_lines(result), sep="\n")
    return result
