"""``alp export torch --format auden|hf``: whole models and text towers as folders of other toolboxes."""

import argparse
import dataclasses
import itertools
import math
import pathlib
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple

from alp_jax.core.errors import UserError
from alp_jax.core.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from alp_jax.config import RunConfig
    from alp_jax.data.store.dataset import Dataset
    from alp_jax.data.text.tokenizer import Tokenizer
    from alp_jax.interop.writing.verify import Expected

CAPTIONS = 20_000  # of the data set, on which a tokenizer is compared
TEXTS = 64  # captions on which a text tower is
SENTENCES = ("a dog", "rain on a roof", "two people talk while a train passes", "slow piano music with a soft drum")


class _Run(NamedTuple):
    """What an export is made of: the run, and the data set it is compared on; None where that is gone."""

    folder: pathlib.Path
    step: int
    since: int | None
    config: "RunConfig"
    params: dict[str, Any]
    dataset: "Dataset | None"

    def captions(self) -> list[str]:
        """Captions to compare on, of the data set, or made-up ones where it is gone or has none."""
        from alp_jax.data.text.training import training_captions

        found = [] if self.dataset is None else list(itertools.islice(training_captions(self.dataset), CAPTIONS))
        return found or list(SENTENCES)

    def tokenizer(self) -> "Tokenizer":
        """The vocabulary of the run, which --data does not change."""
        from alp_jax.train.build import run_tokenizer

        return run_tokenizer(self.folder, self.config, self.config.data.path)

    def origin(self, form: str) -> dict[str, Any]:
        import alp_jax

        about = {"run": self.folder.resolve().name, "step": self.step, "objective": self.config.objective.name}
        about |= {} if self.since is None else {"since": self.since}
        return {"version": alp_jax.__version__, "format": form, "model": self.config.model.name, **about}


def _open(folder: pathlib.Path, args: argparse.Namespace) -> _Run:
    from alp_jax.data.store.dataset import open_dataset
    from alp_jax.interop.formats.export_folder import check_target
    from alp_jax.train.build import find_data, read_config
    from alp_jax.train.checkpoint import load_params

    check_target(args.out)
    config = read_config(folder)
    params, step = load_params(folder, args.step, args.since)
    place = args.data or find_data(folder, config)
    return _Run(folder, step, args.since, config, params, None if place is None else open_dataset(place))


def export_auden(folder: pathlib.Path, args: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Writes a model folder of the authors' toolbox; see ``alp_jax.interop.formats.auden``.

    Raises:
      UserError: the format cannot express the model; nothing is written.
      ParityError: the written folder does not hold the model; nothing is left.
    """
    from alp_jax.cli.export import jax_results, parity_clips
    from alp_jax.core.files import write_bytes, write_text
    from alp_jax.interop.formats import auden
    from alp_jax.interop.formats.export_folder import README, written
    from alp_jax.interop.reading.imported import read_record
    from alp_jax.interop.writing.readme import auden_readme

    run = _open(folder, args)
    kind = auden.kind_of(run.params, args.part)
    if kind == "zipformer":
        alone = dataclasses.replace(run.config.objective, name="none")
        config = dataclasses.replace(run.config, objective=alone)
        run = run._replace(config=config, params={"encoder": run.params["encoder"]})
    auden.model_settings(run.config, run.params, kind, pad_id=0)  # refuses before anything is computed
    clips, compared_on = parity_clips(folder, run.config, args)
    pad_id, files, ids = _tokenizer(run, kind)
    progress.update(note="clips and captions read")
    expected = jax_results(run.config, run.params, clips)
    progress.update(note="computed in JAX")
    record = read_record(folder) or {"batch_count": None, "settings": {}, "model_type": ""}
    trained = min(run.step * run.config.train.batch_count_rate, auden.SATURATED)
    with written(args.out) as made:
        parameters = auden.write_folder(
            made,
            run.config,
            run.params,
            kind,
            batch_count=trained if record["batch_count"] is None else record["batch_count"],
            pad_id=pad_id,
            settings=record["settings"] if record["model_type"] == kind else {},
            origin=run.origin("auden"),
        )
        for name, content in files.items():
            write_bytes(made / name, content)
        progress.update(note="written, reads it back")
        found = {"parameters": parameters, **_prove_auden(made, run, clips, expected), **ids}
        data, features = run.config.data, run.config.features
        text = auden_readme(run.origin("auden"), kind, found, budget=data.text_budget, bins=features.num_mel_bins)
        write_text(made / README, text)
    progress.update()
    return {"out": str(args.out), "format": "auden", "model_type": kind, "compared_on": compared_on, **found}


def _tokenizer(run: _Run, kind: str) -> tuple[int, dict[str, bytes], dict[str, Any]]:
    """(pad id, tokenizer files by name, what comparing them found) for a model of ``kind``."""
    if kind == "zipformer":
        return 0, {}, {}
    from alp_jax.data.text.piece_model import DIFFERENCES
    from alp_jax.data.text.portable import portable_tokenizer
    from alp_jax.data.text.sentencepiece import SentencePiece

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


def _prove_auden(made: pathlib.Path, run: _Run, clips: list["np.ndarray"], expected: "Expected") -> dict[str, Any]:
    """Reads the folder back and runs what it finds, here and, where PyTorch is installed, there."""
    from alp_jax.cli.export import jax_results
    from alp_jax.interop.formats import auden
    from alp_jax.interop.writing.export import write_module
    from alp_jax.interop.writing.parity import installed, same_outputs, same_tensors
    from alp_jax.interop.writing.verify import TOLERANCE, ParityError, verify

    back = auden.read_folder(made)
    want, have = dict(run.params), dict(back.params)
    if "logit_scale" in want:  # a setting there, in which a limit of ours is already applied
        limit = math.log(run.config.objective.max_logit_scale)
        ours, theirs = float(want.pop("logit_scale")), float(have.pop("logit_scale"))
        if not math.isclose(min(ours, limit), theirs, rel_tol=1e-6, abs_tol=1e-6):
            raise ParityError(f"the temperature comes back as {math.exp(-theirs)}, not {math.exp(-min(ours, limit))}")
    tensors = same_tensors(want, have, "the written folder")
    worst = same_outputs(expected, jax_results(back.config, back.params, clips), "the written folder")
    checked = ["this project"]
    if installed("torch"):
        with tempfile.TemporaryDirectory() as temporary:
            write_module(pathlib.Path(temporary), back.params, back.config, run.origin("torch"))
            there = verify(temporary, clips, expected)
        worst = {name: max(value, there[name]) for name, value in worst.items()}
        checked.append("PyTorch")
    seconds = round(sum(map(len, clips)) / 16000, 2)
    about = {"clips": len(clips), "seconds": seconds, "tolerance": TOLERANCE, "tensors": tensors}
    return {**about, **worst, "checked_with": checked}


def export_hf(folder: pathlib.Path, args: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Writes the text tower as a BertModel of transformers; see ``alp_jax.interop.formats.hf_text``.

    Raises:
      UserError: the run has no text tower, or its decoder is asked for; nothing is written.
      ParityError: the written folder does not hold the tower; nothing is left.
    """
    from alp_jax.core.files import write_bytes, write_text
    from alp_jax.interop.formats import hf_text
    from alp_jax.interop.formats.export_folder import README, written
    from alp_jax.interop.writing.parity import installed, same_states, same_tensors, verify_bert
    from alp_jax.interop.writing.readme import hf_readme
    from alp_jax.interop.writing.verify import TOLERANCE

    if args.part == "decoder":
        raise UserError(hf_text.NO_DECODER)
    run = _open(folder, args)
    if "text" not in run.params:
        raise UserError(f"{folder} has no text tower (its objective is {run.config.objective.name})")
    pad_id, files, about = _tokenizer(run, "clap")
    texts, ids = _texts(run)
    progress.update(note="captions read")
    hidden = hf_text.hidden_states(run.config.model.text, run.params["text"], ids)
    progress.update(note="computed in JAX")
    with written(args.out) as made:
        text, origin = run.config.model.text, run.origin("hf")
        parameters = hf_text.write_folder(made, text, run.params, pad_id=pad_id, origin=origin)
        for name, content in files.items():
            write_bytes(made / name, content)
        progress.update(note="written, reads it back")
        back = hf_text.read_folder(made)
        tensors = same_tensors({"text": run.params["text"]}, back.params, "the written folder")
        again = hf_text.hidden_states(back.config.model.text, back.params["text"], ids)
        checked, worst = ["this project"], same_states(hidden, again, "the written folder")
        if installed("torch", "transformers"):
            worst = max(worst, verify_bert(made, texts, ids, hidden))
            checked.append("transformers")
        found = {"parameters": parameters, "texts": len(texts), "hidden": worst, "tensors": tensors}
        found |= {"tolerance": TOLERANCE, "checked_with": checked, **about}
        write_text(made / README, hf_readme(origin, found))
    progress.update()
    return {"out": str(args.out), "format": "hf", "model_type": "bert", **found}


def _texts(run: _Run) -> tuple[list[str], list[list[int]]]:
    """Captions, short and long, and their ids with the special tokens around them."""
    tokenizer, captions = run.tokenizer(), sorted(set(run.captions()), key=lambda c: (len(c), c))
    wrapped = [[tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id] for text in captions]
    fits = [i for i, ids in enumerate(wrapped) if len(ids) <= run.config.model.text.max_position_embeddings]
    chosen = fits[:: max(1, len(fits) // TEXTS)][:TEXTS]
    if not chosen:
        raise UserError("no caption to compare on fits the text tower: name another data set by --data")
    return [captions[i] for i in chosen], [wrapped[i] for i in chosen]
