"""``alp export``: writes a run as a folder for PyTorch and its toolboxes, once compared with JAX on real clips."""

import argparse
from typing import Any

from alp_jax.cli.parsers import add_action, add_best
from alp_jax.interop.formats.export_folder import PARTS

EXAMPLE = """alp export torch --run runs/demo --out export/demo
  alp export torch --wrappers hear,xares --run runs/demo --out export/demo
  alp export torch --format onnx --run runs/demo --out export/onnx
  alp export torch --format auden --run runs/demo --out export/auden
  alp export torch --format auden --part encoder --run runs/demo --out export/encoder
  alp export torch --format hf --run runs/demo --out export/bert"""
FORMATS = (
    "torch: the encoder with one module file that needs nothing but PyTorch (default); onnx: waveform to embeddings as "
    "one ONNX graph; auden: a model folder of the authors' toolbox; hf: the text tower as transformers' BertModel"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)

    def action(name: str, text: str, example: str) -> argparse.ArgumentParser:
        sub = add_action(actions, name, text, example)
        sub.add_argument(
            "--data",
            metavar="DIR",
            help="data set to compare on; default: the one the run was trained on, or made-up clips where that is gone",
        )
        sub.add_argument(
            "--clips",
            type=int,
            default=8,
            metavar="N",
            help="clips to compare on, of its test split if it has one (default 8)",
        )
        return sub

    torch = action("torch", "export a run, or a part of it", EXAMPLE)
    torch.add_argument("--format", choices=PARTS, default="torch", help=FORMATS)
    torch.add_argument(
        "--part", metavar="PART", help="auden: model (default) or encoder; hf: text (default) or decoder"
    )
    torch.add_argument(
        "--wrappers", metavar="SUITES", help="torch: also modules for benchmark suites, of hear,xares (default: none)"
    )
    torch.add_argument("--run", required=True, metavar="DIR", help="run folder")
    torch.add_argument("--step", type=int, metavar="N", help="which checkpoint; default: the latest")
    torch.add_argument(
        "--since", type=int, metavar="N", help="mean of the parameters after this checkpoint (running average)"
    )
    torch.add_argument("--out", required=True, metavar="DIR", help="folder to make; an earlier export is replaced")
    best = action("best", "export the encoder of a sweep's best run", "alp export best --sweep runs/mini --out export")
    best.add_argument("--sweep", required=True, metavar="DIR", help="sweep folder, with its ledger")
    best.add_argument("--out", required=True, metavar="DIR", help="folder to make; an earlier export is replaced")
    add_best(best)
    verify = action(
        "verify",
        "compare an export with the run it is from; an export that differs is deleted",
        "alp export verify --run runs/demo --model export/demo --data data/mini",
    )
    verify.add_argument("--run", required=True, metavar="DIR", help="run folder the export is from")
    verify.add_argument("--model", required=True, metavar="DIR", help="folder that alp export torch made")


def run(args: argparse.Namespace) -> dict:
    """Exports or verifies.

    Raises:
      UserError: wrong folders, PyTorch not installed; nothing is written or deleted.
      ParityError: what was written differs from JAX; the export is deleted.
    """
    from alp_jax.interop.writing.export import export, export_lines, verify_export

    comparison = {"data": args.data, "num_clips": args.clips}
    if args.action == "verify":
        result = verify_export(args.run, args.model, **comparison)
    elif args.action == "best":
        result = _export_best(args, comparison)
    else:
        wrappers = [] if args.wrappers is None else args.wrappers.split(",")
        source = {"step": args.step, "since": args.since, **comparison}
        result = export(args.run, args.out, args.format, part=args.part, wrappers=wrappers, **source)
    if not args.json:
        print(*export_lines(result), sep="\n")
    return result


def _export_best(args: argparse.Namespace, comparison: dict[str, Any]) -> dict:
    from alp_jax.interop.writing.export import export
    from alp_jax.scaling.questions.best_run import best_run

    folder, best = best_run(args.sweep, args.best)
    if not args.json:
        print("\n".join(best.lines()), flush=True)
    result = export(folder, args.out, chosen=best.to_dict(), **comparison)
    return result | {"run": best.run, "score": best.score, "chosen": best.to_dict()}
