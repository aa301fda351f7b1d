"""The actions of ``alp qa``: training an adapter, answering questions, scoring or judging answers, and reports."""

import dataclasses
import os
import pathlib
import shutil
from collections.abc import Callable

import numpy as np

from alp_jax.config.schema import EvalConfig
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.core.files import read_object, sha256
from alp_jax.core.hashing import fingerprint
from alp_jax.core.run_files import Result
from alp_jax.data.store.dataset import open_dataset
from alp_jax.evaluation.model import EvalModel
from alp_jax.evaluation.qa import judge, learn, score
from alp_jax.evaluation.qa.adapter import SETTINGS, WEIGHTS, AdapterConfig, load_adapter, save_adapter
from alp_jax.evaluation.qa.answer import Answerer, answer_all
from alp_jax.evaluation.qa.chat import LanguageModel
from alp_jax.evaluation.qa.format import Question, read_answers
from alp_jax.evaluation.qa.journal import Journal
from alp_jax.evaluation.qa.sounds import ClipSounds, FileSounds
from alp_jax.evaluation.stats.published import published_table

Tell = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class QaInputs:
    """What training and answering share: the encoder, the language model, the questions and where their sounds are.

    Attributes:
      config: only ``max_seconds`` and ``batch_seconds`` are used.
      bucket_seconds: lengths that clips of a data set are padded to.
      data: path of the data set with the clips; ignored if ``audio`` is given.
      audio: folder of files in the layout of AIR-Bench.
      workers: number of processes that decode files.
    """

    encoder: EvalModel
    model: LanguageModel
    questions: list[Question]
    config: EvalConfig
    bucket_seconds: tuple[float, ...]
    data: str
    audio: pathlib.Path | None
    workers: int

    @property
    def origin(self) -> list[str]:
        """Name and identity of the encoder, by which adapters and answers recognise it."""
        return [self.encoder.name, self.encoder.identity]

    def sounds(self, max_frames: int, cache: pathlib.Path) -> learn.Sounds:
        """The reader of the sounds' frames; for clips of a data set it keeps them in ``cache``."""
        config = self.config
        if self.audio:
            return FileSounds(
                self.encoder, self.audio, max_seconds=config.max_seconds, batch_seconds=config.batch_seconds,
                max_frames=max_frames, workers=self.workers,
            )  # fmt: skip
        return ClipSounds(
            self.encoder, open_dataset(self.data), self.questions, cache, config, bucket_seconds=self.bucket_seconds,
            max_frames=max_frames,
        )  # fmt: skip


def train_adapter(
    read_inputs: Callable[[], QaInputs],
    settings: learn.LearnConfig,
    stack: int,
    hidden: int,
    max_frames: int,
    out: pathlib.Path,
    tell: Tell,
) -> dict:
    """Trains an adapter into the folder ``out``; see ``learn.train``. Raises UserError if it holds one already."""
    if (out / SETTINGS).exists():  # before inputs are read, which takes minutes
        raise UserError(f"{out} already holds an adapter: choose another --out or remove it")
    inputs = read_inputs()
    second = np.zeros((1, SAMPLE_RATE), np.int16), np.array([SAMPLE_RATE], np.int32)
    width = inputs.encoder.frames(*second)[0].shape[-1]
    sizes = AdapterConfig(width, inputs.model.config.hidden_size, stack, hidden, max_frames)
    sounds = inputs.sounds(max_frames, out / "cache")
    adapter = learn.train(inputs.questions, sounds, inputs.model, sizes, settings, {"encoder": inputs.origin})
    save_adapter(out, adapter)
    shutil.rmtree(out / "cache", ignore_errors=True)
    summary = {name: adapter.origin[name] for name in ("held_loss", "step", "history", "selection")}
    loss = f"loss {summary['held_loss']:.3f} on held-out {summary['selection']}"
    tell(f"{out}: {len(inputs.questions)} questions, {loss}")
    return {"out": str(out), "questions": len(inputs.questions)} | summary


def answer_questions(
    read_inputs: Callable[[], QaInputs],
    adapter_folder: pathlib.Path,
    max_tokens: int,
    batch: int,
    out: pathlib.Path,
    tell: Tell,
) -> dict:
    """Writes answers as JSON lines to ``out``; answers already there are kept."""
    adapter, inputs = load_adapter(adapter_folder), read_inputs()
    if adapter.origin.get("encoder") != inputs.origin:
        name = (adapter.origin.get("encoder") or ["another encoder"])[0]
        raise UserError(f"the adapter {adapter_folder} was trained on {name}, not on {inputs.encoder.name}")
    answerer = Answerer(inputs.model, adapter, max_tokens=max_tokens, batch=batch)
    identity = {
        "model": inputs.encoder.name,
        "adapter": sha256(adapter_folder / WEIGHTS),
        "language_model": [inputs.model.identity, inputs.model.dtype],
        "questions": fingerprint([question.record() for question in inputs.questions]),
        "settings": [max_tokens, inputs.config.max_seconds],
    }
    journal, cache = Journal(out, identity), out.with_name(out.name + ".cache")
    sounds = inputs.sounds(adapter.config.max_frames, cache)
    records, missing = answer_all(inputs.questions, sounds, answerer, journal)
    shutil.rmtree(cache, ignore_errors=True)
    tell(f"{out}: {len(records)} answers" + f", {len(missing)} sounds were not found" * bool(missing))
    return {"out": str(out), "answers": len(records), "missing": [question.path for question in missing]}


def score_answers(path: pathlib.Path, out: pathlib.Path, tell: Tell) -> dict:
    """Scores answers without a judge and writes one result per task into the folder ``out``."""
    return _write(out, score.results(read_answers(path), _origin(path)), tell)


def judge_answers(path: pathlib.Path, out: pathlib.Path, *, swap: bool, workers: int, timeout_s: float, tell: Tell):
    """Writes ratings to the file ``out`` and one result per category beside it; ratings already there are kept."""
    answers, endpoint = read_answers(path), judge.endpoint(os.environ)
    origin = _origin(path)
    identity = {"answers": origin["fingerprint"], "url": endpoint.url, "judge": endpoint.model, "swap": swap}
    journal = Journal(out, identity)
    records = judge.rate_all(endpoint, answers, journal, swap=swap, workers=workers, timeout_s=timeout_s)
    results = judge.results([question for question, _ in answers], records, origin | {"judge": endpoint.model})
    return _write(out.parent, results, tell)


def _origin(path: pathlib.Path) -> dict:
    """Where answers come from, for results; of answers by another program only the file is known."""
    origin = path.with_name(path.name + ".from.json")
    made = read_object(origin) if origin.exists() else {}
    return {"model": made.get("model", path.stem), "fingerprint": sha256(path), "answers": str(path)}


def _write(out: pathlib.Path, results: list[Result], tell: Tell) -> dict:
    """Writes one JSON file per result, and tells a line per metric."""
    width = max(len(result.task) for result in results)
    for result in results:
        result.write(out)
        for name, values in result.metrics.items():
            low, high = values["interval"]
            chance = "" if values["chance"] is None else f"  chance {values['chance']:.3f}"
            line = f"{name:<16}{values['value']:>7.3f} [{low:.3f}, {high:.3f}]{chance}"
            tell(f"{result.task:<{width}}  {result.facts['n_test']:>6} answers  {line}")
        if result.facts.get("nonsense_replies"):
            tell(f"{result.task:<{width}}  {result.facts['nonsense_replies']} replies of the judge are not two scores")
    written = [result.to_json() for result in results]
    for line in published_table(written):
        tell(line)
    return {"out": str(out), "results": written}
