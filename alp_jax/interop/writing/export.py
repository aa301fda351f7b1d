"""Exports a run as a folder for another toolbox, once its outputs have been compared with JAX's."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from alp_jax.core import storage
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.core.progress import Progress
from alp_jax.interop.formats.export_folder import PARTS, WRAPPERS, check_target
from alp_jax.interop.formats.hf_text import NO_DECODER
from alp_jax.interop.isolated.process import require
from alp_jax.interop.writing.compare import jax_results, parity_clips
from alp_jax.interop.writing.onnx import write_onnx
from alp_jax.interop.writing.parity import ParityError, verify
from alp_jax.interop.writing.run import open_run
from alp_jax.interop.writing.torch_folder import check_export, remove_export, require_module, write_torch
from alp_jax.interop.writing.whole_models import write_auden, write_hf
from alp_jax.train.remote_run import local_run, steps_for


def export(
    run_dir: storage.Location,
    out_dir: str | os.PathLike,
    form: str = "torch",
    *,
    part: str | None = None,
    wrappers: Sequence[str] = (),
    step: int | None = None,
    since: int | None = None,
    data: str | None = None,
    num_clips: int = 8,
    chosen: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes ``out_dir`` from the run in ``run_dir``.

    Args:
      form, part: in ``PARTS``; part None: the format's default.
      wrappers: benchmark suites in ``WRAPPERS`` whose modules are written too (``torch`` only).
      step, since, data: see ``open_run``.
      num_clips: number of clips to compare on.
      chosen: how the run was chosen among others (``torch`` only).

    Returns:
      The folder, what it holds, and the largest differences that were measured.

    Raises:
      UserError: wrong folders or names, a library is not installed, or the format has no place for the model; nothing
        is written.
      ParityError: what was written differs from JAX; nothing is left.
    """
    if wrappers and form != "torch":
        raise UserError(f"--wrappers belong to --format torch, not to --format {form}")
    wrappers = [choose(name, WRAPPERS, "--wrappers") for name in wrappers]
    part = choose(part or PARTS[form][0], PARTS[form], f"--part of --format {form}")
    if part == "decoder":
        raise UserError(NO_DECODER)
    _check_arguments(form, num_clips)
    check_target(out_dir)
    with local_run(run_dir, steps_for(step, since)) as folder, Progress("export", 4, "stages", alike=False) as progress:

        def report(note: str) -> None:
            progress.update(note=note)

        run = open_run(folder, step, since, data)
        if form == "hf":
            result = write_hf(out_dir, run, report)
        else:
            clips, compared_on = parity_clips(run.dataset, num_clips, run.config.evaluation.max_seconds)
            if form == "auden":
                result = write_auden(out_dir, run, part, clips, report)
            else:
                report("clips read")
                require_module(run)
                expected = jax_results(run.config, run.params, clips)
                report("computed in JAX")

                def check(made: pathlib.Path) -> dict[str, Any]:
                    report("written; comparing")
                    return verify(made, clips, expected, runtime=form)

                if form == "onnx":
                    result = write_onnx(out_dir, run, check)
                else:
                    result = write_torch(out_dir, run, check, wrappers, chosen)
            result["compared_on"] = compared_on
        progress.update()
    return result


def verify_export(
    run_dir: storage.Location, model_dir: str | os.PathLike, *, data: str | None = None, num_clips: int = 8
) -> dict[str, Any]:
    """Compares an export for PyTorch with the run that it is from; one that differs is deleted.

    Raises:
      UserError: wrong folders, or PyTorch is not installed; nothing is deleted.
      ParityError: the export differs from JAX.
    """
    _check_arguments("torch", num_clips)
    origin = check_export(model_dir)["alp"]
    step, since = origin["step"], origin.get("since")
    if origin["run"] != pathlib.Path(run_dir).resolve().name:
        raise UserError(f"--model {model_dir} was exported from run {origin['run']}, not from {run_dir}")
    with local_run(run_dir, steps_for(step, since)) as folder, Progress("export", 4, "stages", alike=False) as progress:
        run = open_run(folder, step, since, data)
        clips, compared_on = parity_clips(run.dataset, num_clips, run.config.evaluation.max_seconds)
        progress.update(note="clips read")
        expected = jax_results(run.config, run.params, clips)
        progress.update(note="computed in JAX")
        try:
            measured = verify(model_dir, clips, expected)
        except ParityError as error:
            remove_export(model_dir)
            raise ParityError(f"{error}; the export was deleted") from None
        progress.update(2)
    about = {"out": str(model_dir), "step": run.step, "parameters": origin["parameters"]}
    return {**about, "compared_on": compared_on, **measured}


def _check_arguments(form: str, num_clips: int) -> None:
    if num_clips < 1:
        raise UserError(f"--clips {num_clips} must be at least 1")
    if form == "torch":
        require("torch", user="the check of an export", extras="torch")
    if form == "onnx":
        require("torch", "onnx", "onnxruntime", user="--format onnx", extras="torch,onnx")


def export_lines(result: dict[str, Any]) -> list[str]:
    """A result of ``export`` or ``verify_export`` as lines to print."""
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
    return lines
