"""Whole models and text towers as folders of other toolboxes: Auden's AutoModel, transformers' BertModel."""

import dataclasses
import math
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from alp_jax.core.errors import UserError
from alp_jax.core.files import write_bytes, write_text
from alp_jax.data.text.piece_model import DIFFERENCES
from alp_jax.data.text.portable import portable_tokenizer
from alp_jax.data.text.sentencepiece import SentencePiece
from alp_jax.interop.formats import auden, hf_text
from alp_jax.interop.formats.export_folder import README, written
from alp_jax.interop.imported import read_record
from alp_jax.interop.isolated import process
from alp_jax.interop.writing.compare import Expected, hidden_states, jax_results
from alp_jax.interop.writing.parity import (
    TOLERANCE,
    ParityError,
    about_clips,
    same_outputs,
    same_states,
    same_tensors,
    verify,
    verify_bert,
)
from alp_jax.interop.writing.readme import auden_readme, hf_readme
from alp_jax.interop.writing.run import Run
from alp_jax.interop.writing.torch_folder import write_module

TEXTS = 64  # captions on which a text tower is compared
Report = Callable[[str], None]


def write_auden(
    out_dir: str | os.PathLike, run: Run, part: str, clips: list[np.ndarray], report: Report
) -> dict[str, Any]:
    """Writes a model folder of the authors' toolbox; see ``alp_jax.interop.formats.auden``.

    Args:
      part: ``model`` or ``encoder``.
      clips: to compare on.
      report: called with a note after each stage.

    Raises:
      UserError: the format cannot express the model; nothing is written.
      ParityError: the written folder does not hold the model; nothing is left.
    """
    kind = auden.kind_of(run.params, part)
    if kind == "zipformer":
        alone = dataclasses.replace(run.config.objective, name="none")
        config = dataclasses.replace(run.config, objective=alone)
        run = run._replace(config=config, params={"encoder": run.params["encoder"]})
    auden.model_settings(run.config, run.params, kind, pad_id=0)  # refuses before anything is computed
    pad_id, files, about_ids = (0, {}, {}) if kind == "zipformer" else _tokenizer(run, kind)
    report("clips and captions read")
    expected = jax_results(run.config, run.params, clips)
    report("computed in JAX")
    record = read_record(run.folder) or {"batch_count": None, "settings": {}, "model_type": ""}
    # schedules read this count if training resumes there: a smaller one would regularise as at the start
    trained = min(run.step * run.config.train.batch_count_rate, auden.SATURATED)
    with written(out_dir) as made:
        parameters = auden.write_folder(
            made,
            run.config,
            run.params,
            kind,
            batch_count=trained if record["batch_count"] is None else record["batch_count"],
            pad_id=pad_id,
            settings=record["settings"] if record["model_type"] == kind else {},
            origin=run.origin(format="auden"),
        )
        for name, content in files.items():
            write_bytes(made / name, content)
        report("written; reading it back")
        measured = {"parameters": parameters, **_prove_auden(made, run, clips, expected), **about_ids}
        budget, bins = run.config.data.text_budget, run.config.features.num_mel_bins
        write_text(made / README, auden_readme(run.origin(), kind, measured, budget=budget, bins=bins))
    return {"out": str(out_dir), "format": "auden", "model_type": kind, **measured}


def _tokenizer(run: Run, kind: str) -> tuple[int, dict[str, bytes], dict[str, Any]]:
    """(pad id, tokenizer files by name, how far its ids were compared) for a model of ``kind``."""
    tokenizer = run.tokenizer()
    rows = run.config.model.decoder.vocab_size if kind == "audio-caption" else 0
    if not rows and tokenizer.vocab_size > run.config.model.text.vocab_size:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model {run.config.model.text.vocab_size}"
        )
    made = portable_tokenizer(tokenizer, run.captions(), rows)
    not_proved = list(DIFFERENCES) if isinstance(tokenizer, SentencePiece) else []
    about = {"compared": made.compared, "differ": made.differ, "example": made.example, "not_proved": not_proved}
    return tokenizer.pad_id, made.files, {"tokenizer": about}


def _prove_auden(made: pathlib.Path, run: Run, clips: list[np.ndarray], expected: Expected) -> dict[str, Any]:
    """Reads the folder back and runs its content, here and, where PyTorch is installed, there."""
    back = auden.read_folder(made)
    want, have = dict(run.params), dict(back.params)
    if "logit_scale" in want:  # a setting there, to which our limit has already been applied
        limit = math.log(run.config.objective.max_logit_scale)
        ours, theirs = float(want.pop("logit_scale")), float(have.pop("logit_scale"))
        if not math.isclose(min(ours, limit), theirs, rel_tol=1e-6, abs_tol=1e-6):
            raise ParityError(f"the temperature comes back as {math.exp(-theirs)}, not {math.exp(-min(ours, limit))}")
    tensors = same_tensors(want, have)
    worst = same_outputs(expected, jax_results(back.config, back.params, clips), "the written folder, read back,")
    checked = ["this project"]
    if process.installed("torch"):
        with tempfile.TemporaryDirectory() as temporary:
            write_module(temporary, run._replace(config=back.config, params=back.params))
            there = verify(temporary, clips, expected)
        worst = {name: max(value, there[name]) for name, value in worst.items()}
        checked.append("PyTorch")
    return {**about_clips(clips), "tensors": tensors, **worst, "checked_with": checked}


def write_hf(out_dir: str | os.PathLike, run: Run, report: Report) -> dict[str, Any]:
    """Writes the text tower as a BertModel of transformers; see ``alp_jax.interop.formats.hf_text``.

    Args:
      report: called with a note after each stage.

    Raises:
      UserError: the run has no text tower; nothing is written.
      ParityError: the written folder does not hold the tower; nothing is left.
    """
    if "text" not in run.params:
        raise UserError(f"{run.folder} has no text tower (its objective is {run.config.objective.name})")
    text, own = run.config.model.text, {"text": run.params["text"]}
    pad_id, files, about_ids = _tokenizer(run, "clap")
    texts, ids = _texts(run)
    report("captions read")
    hidden = hidden_states(text, own["text"], ids)
    report("computed in JAX")
    with written(out_dir) as made:
        parameters = hf_text.write_folder(made, text, own, pad_id=pad_id, origin=run.origin(format="hf"))
        for name, content in files.items():
            write_bytes(made / name, content)
        report("written; reading it back")
        back = hf_text.read_folder(made)
        tensors = same_tensors(own, back.params)
        again = hidden_states(back.config.model.text, back.params["text"], ids)
        checked, worst = ["this project"], same_states(hidden, again, "the written folder")
        if process.installed("torch", "transformers"):
            worst = max(worst, verify_bert(made, texts, ids, hidden))
            checked.append("transformers")
        measured = {"parameters": parameters, "texts": len(texts), "hidden": worst, "tensors": tensors}
        measured |= {"tolerance": TOLERANCE, "checked_with": checked, **about_ids}
        write_text(made / README, hf_readme(run.origin(), measured))
    return {"out": str(out_dir), "format": "hf", "model_type": "bert", **measured}


def _texts(run: Run) -> tuple[list[str], list[list[int]]]:
    """Captions, short and long, and their ids with the special tokens around them."""
    tokenizer, captions = run.tokenizer(), sorted(set(run.captions()), key=lambda c: (len(c), c))
    wrapped = [[tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id] for text in captions]
    fits = [i for i, ids in enumerate(wrapped) if len(ids) <= run.config.model.text.max_position_embeddings]
    chosen = fits[:: max(1, len(fits) // TEXTS)][:TEXTS]
    if not chosen:
        raise UserError("no caption to compare on fits the text tower: name another data set with --data")
    return [captions[i] for i in chosen], [wrapped[i] for i in chosen]
