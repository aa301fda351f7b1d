"""``alp import``: models of other toolboxes as run folders that training starts from and evaluation measures."""

import argparse
import pathlib
from typing import TYPE_CHECKING, Any

from alp_jax.cli.parsers import add_action
from alp_jax.core.errors import UserError
from alp_jax.core.progress import Progress

if TYPE_CHECKING:
    from alp_jax.interop.reading.foreign import Imported

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
    icefall.add_argument("--config", type=pathlib.Path, metavar="FILE", help="JSON with sizes that shapes do not tell")
    action(
        "hf",
        "import a BERT or RoBERTa text tower with its tokenizer",
        "alp import hf models/bert-base-uncased --out runs/bert\n"
        "  alp train --workdir runs/demo --config=configs/pretrain.py --config.init_text=runs/bert \\\n"
        "      --config.data.tokenizer=runs/bert/tokenizer.json --config.model.text.vocab_size=30522",
        "folder of transformers",
    )


def run(args: argparse.Namespace) -> dict:
    """Imports; see ``alp_jax.interop.reading.imported.write_run`` for the folder.

    Raises:
      UserError: anything about the folder that is not as it must be, in one line; nothing is written.
    """
    from alp_jax.interop.reading import imported

    imported.check_new(args.out)
    if not args.source.exists():
        raise UserError(f"{args.source} does not exist")
    with Progress("import", 3, "stages", alike=False) as progress:
        model = _read(args)
        progress.update(note="weights read")
        files = _tokenizer_files(args.source, model)
        progress.update(note="tokenizer read")
        source = str(args.source.resolve().name)
        result = imported.write_run(args.out, model, source=source, files=files, data=args.data)
        progress.update()
    if not args.json:
        print(describe(result))
    return {**result, "tokenizer": "tokenizer.json" in files}


def _read(args: argparse.Namespace) -> "Imported":
    from alp_jax.interop.formats import auden, hf_text, icefall

    if args.action == "auden":
        return auden.read_folder(args.source, only_encoder=args.only_encoder, allow_pickle=args.allow_pickle)
    if args.action == "hf":
        return hf_text.read_folder(args.source, allow_pickle=args.allow_pickle)
    return icefall.read_checkpoint(
        args.source, settings=args.config, only_encoder=args.only_encoder, allow_pickle=args.allow_pickle
    )


def _tokenizer_files(folder: pathlib.Path, model: "Imported") -> dict[str, bytes]:
    """Files of the model's vocabulary, checked against its sizes; none for an encoder alone."""
    text, decoder = "text" in model.params, "decoder" in model.params
    if not (text or decoder):
        return {}
    from alp_jax.data.text.json_tokenizer import FILE_NAME, read_tokenizer

    if not (folder / FILE_NAME).is_file():
        raise UserError(
            f"{folder} has no {FILE_NAME}: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) of transformers "
            "writes one"
        )
    tokenizer = read_tokenizer(folder, captioning=decoder)
    rows = model.config.model.decoder.vocab_size if decoder else model.config.model.text.vocab_size
    if tokenizer.vocab_size > rows or (decoder and tokenizer.vocab_size != rows):
        raise UserError(f"{folder / FILE_NAME} has {tokenizer.vocab_size} tokens, the weights have {rows} rows")
    if text:
        tokenizer.check_wrapping()
    return tokenizer.files()


def describe(result: dict[str, Any]) -> str:
    """A result in one line and one more for everything that is not as it was."""
    lines = [f"{result['out']}: {result['model_type']}, {result['parameters']} parameters"]
    if result["converted"]:
        kinds = ", ".join(sorted(set(result["converted"].values())))
        lines.append(f"converted to float32: {len(result['converted'])} tensors of {kinds}")
    if result["left_out"]:
        shown = ", ".join(result["left_out"][:8]) + (", ..." if len(result["left_out"]) > 8 else "")
        lines.append(f"left out: {len(result['left_out'])} tensors ({shown}); import.json lists them")
    return "\n".join(lines)
