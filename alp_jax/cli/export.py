"""``alp export``: a run as a folder for PyTorch and its toolboxes, compared with JAX on real clips before it exists."""

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alp_jax.cli.parsers import add_action, add_best
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.core.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from alp_jax.config import RunConfig
    from alp_jax.interop.writing.verify import Expected

EXAMPLE = """alp export torch --run runs/demo --out export/demo
  alp export torch --wrappers hear,xares --run runs/demo --out export/demo
  alp export torch --format onnx --run runs/demo --out export/onnx
  alp export torch --format auden --run runs/demo --out export/auden
  alp export torch --format auden --part encoder --run runs/demo --out export/encoder
  alp export torch --format hf --run runs/demo --out export/bert"""
# what each format can hold of a run, the usual part first
PARTS = {"torch": ("encoder",), "onnx": ("encoder",), "auden": ("model", "encoder"), "hf": ("text", "decoder")}
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
    from alp_jax.cli import export_model
    from alp_jax.interop.formats.export_folder import WRAPPERS
    from alp_jax.interop.writing.onnx import require_onnx
    from alp_jax.interop.writing.verify import require_torch
    from alp_jax.scaling.questions.best_run import best_run

    if args.clips < 1:
        raise UserError(f"--clips {args.clips} must be at least 1")
    form = args.format if args.action == "torch" else "torch"
    if form == "torch":
        require_torch()
    if form == "onnx":
        require_onnx()
    wrappers = (args.wrappers or "").split(",") if args.action == "torch" and args.wrappers is not None else []
    if wrappers and form != "torch":
        raise UserError(f"--wrappers belong to --format torch, not to --format {form}")
    wrappers = [choose(name, WRAPPERS, "--wrappers") for name in wrappers]
    if args.action == "torch":
        args.part = choose(args.part or PARTS[form][0], PARTS[form], f"--part of --format {form}")
    with Progress("export", 4, "stages", alike=False) as progress:
        if args.action == "verify":
            result = _verify(args, progress)
        elif args.action == "best":
            folder, found = best_run(args.sweep, args.best)
            if not args.json:
                print("\n".join(found.lines()), flush=True)
            result = _export(folder, None, None, args, progress, chosen=found.to_dict())
            result |= {"run": found.run, "score": found.score, "chosen": found.to_dict()}
        elif form in ("auden", "hf"):
            write = {"auden": export_model.export_auden, "hf": export_model.export_hf}[form]
            result = write(pathlib.Path(args.run), args, progress)
        else:
            result = _export(pathlib.Path(args.run), args.step, args.since, args, progress, form, wrappers)
    if not args.json:
        print(describe(result))
    return result


def describe(result: dict[str, Any]) -> str:
    """A result in two or three lines."""
    compared = [name for name in ("frames", "pooled", "embed", "hidden") if name in result]
    numbers = ", ".join(f"{name} {result[name]:.1e}" for name in compared)
    over = f"{result['clips']} {result['compared_on']}" if "clips" in result else f"{result['texts']} captions"
    chosen = f" from {result['run']}" if "run" in result else ""
    lines = [f"{result['out']}: {result['parameters']} parameters{chosen}"]
    lines.append(f"largest difference from JAX over {over}: {numbers} (allowed {result['tolerance']:.0e})")
    if "tokenizer" in result:
        ids = result["tokenizer"]
        first = f", the first is {ids['example'][:100]!a}" if ids["differ"] else ""
        lines.append(
            f"tokenizer.json gives the run's ids on {ids['compared'] - ids['differ']} of {ids['compared']} texts{first}"
        )
    return "\n".join(lines)


def _export(
    folder: pathlib.Path,
    step: int | None,
    since: int | None,
    args: argparse.Namespace,
    progress: Progress,
    form: str = "torch",
    wrappers: Sequence[str] = (),
    chosen: dict[str, Any] | None = None,
) -> dict:
    from alp_jax.interop.formats.export_folder import check_target
    from alp_jax.interop.writing.export import require_module, write_export
    from alp_jax.interop.writing.onnx import write_onnx
    from alp_jax.interop.writing.verify import verify
    from alp_jax.train.build import read_config
    from alp_jax.train.checkpoint import load_params

    check_target(args.out)
    config = read_config(folder)
    clips, kind = parity_clips(folder, config, args)
    progress.update(note="clips read")
    params, step = load_params(folder, step, since)
    require_module(params, config)
    expected = jax_results(config, params, clips)
    progress.update(note="computed in JAX")

    def check(made: pathlib.Path, child: str = "child.py") -> dict[str, Any]:
        progress.update(note="written, compares")
        return verify(made, clips, expected, child=child) | {"compared_on": kind}

    origin = {"run": folder.resolve().name, "step": step, "since": since}
    if form == "onnx":
        result = write_onnx(args.out, params, config, **origin, check=check)
    else:
        result = write_export(args.out, params, config, **origin, check=check, wrappers=wrappers, chosen=chosen)
    progress.update()
    return result


def _verify(args: argparse.Namespace, progress: Progress) -> dict:
    from alp_jax.interop.writing.export import check_export, remove_export
    from alp_jax.interop.writing.verify import ParityError, verify
    from alp_jax.train.build import read_config
    from alp_jax.train.checkpoint import load_params

    origin, folder = check_export(args.model)["alp"], pathlib.Path(args.run)
    if origin["run"] != folder.resolve().name:
        raise UserError(f"--model {args.model} was exported from run {origin['run']}, not from {folder}")
    config = read_config(folder)
    clips, kind = parity_clips(folder, config, args)
    progress.update(note="clips read")
    params, step = load_params(folder, origin["step"], origin.get("since"))
    expected = jax_results(config, params, clips)
    progress.update(note="computed in JAX")
    try:
        found = verify(args.model, clips, expected)
    except ParityError as error:
        remove_export(args.model)
        raise ParityError(f"{error}; the export was deleted") from None
    progress.update(2)
    return {"out": args.model, "step": step, "parameters": origin["parameters"], "compared_on": kind, **found}


def parity_clips(folder: pathlib.Path, config: "RunConfig", args: argparse.Namespace) -> tuple[list, str]:
    """The clips that an export of the run ``folder`` is compared on, and what they are; see ``data.samples``.

    They come from ``--data`` or else from the data set of the run; made-up ones where a run lies without that.

    Raises:
      UserError: ``--data`` is no data set.
    """
    from alp_jax.data.audio.samples import made_clips, sample_clips
    from alp_jax.data.store.dataset import open_dataset
    from alp_jax.train.build import find_data

    place, seconds = args.data or find_data(folder, config), config.evaluation.max_seconds
    if place is None:
        return made_clips(args.clips, seconds)
    return sample_clips(open_dataset(place), args.clips, seconds)


def jax_results(config: "RunConfig", params: dict[str, Any], clips: list["np.ndarray"]) -> "Expected":
    """What the JAX encoder computes for ``clips``, in float32 on the CPU whatever the run computed in."""
    import jax
    import numpy as np

    from alp_jax.features.logmel import log_mel
    from alp_jax.interop.writing.verify import Expected, on_cpu, pad
    from alp_jax.train.build import make_model

    config = dataclasses.replace(config, model=dataclasses.replace(config.model, compute_dtype="float32"))
    _, apply = make_model(config)

    @jax.jit
    def encode(params, audio_BS, len_B):
        found = apply(params, *log_mel(audio_BS, len_B, config.features), method="encode")
        return *found, (apply(params, *found, method="pool_audio") if "audio_proj" in params else None)

    audio_BS, len_B = pad(clips)
    with on_cpu():
        frames_BTD, frames_len_B, embed_BE = jax.device_get(encode(params, audio_BS, len_B.astype(np.int32)))
    frames = [frames_TD[:length] for frames_TD, length in zip(frames_BTD, frames_len_B, strict=True)]
    return Expected(frames, np.stack([frames_TD.mean(0) for frames_TD in frames]), embed_BE)
