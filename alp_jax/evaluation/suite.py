"""All tasks on one frozen encoder: a JSON file per (task, pooling), written when done, skipped when it is there."""

import dataclasses
import difflib
import functools
import pathlib
import shutil
import time
from collections.abc import Iterable

import numpy as np

from alp_jax.config import to_dict
from alp_jax.config.schema import DataConfig, EvalConfig, FeatureConfig, ModelConfig
from alp_jax.core import files
from alp_jax.core.errors import UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.core.progress import Progress, say, stage
from alp_jax.data.store.dataset import Dataset
from alp_jax.data.text.tokenizer import Tokenizer
from alp_jax.evaluation.captioning import task as captioning
from alp_jax.evaluation.features import Features, extract
from alp_jax.evaluation.measured import DIRECTIONS, RetrievalTask, retrieval_task
from alp_jax.evaluation.measures import ALIGNMENT, ATTENTION, JOINT, LIT, MEAN, linear, linear_alignment, measures
from alp_jax.evaluation.model import EvalModel
from alp_jax.evaluation.probes.tasks import Shortage, Task, read_table, tasks_and_shortages
from alp_jax.evaluation.probes.zero_shot import POOLING as ZERO_SHOT
from alp_jax.evaluation.probes.zero_shot import read_prompts
from alp_jax.evaluation.sed import detection
from alp_jax.evaluation.sed import task as sed
from alp_jax.evaluation.stats import floors, overlap
from alp_jax.evaluation.stats.completeness import completeness
from alp_jax.evaluation.stats.published import PAPER_TASKS, published

VERSION = 6  # of the results: raised when they gain or change a metric or an interval


def task_names(suite: str) -> tuple[str, ...]:
    """The tasks that a ``suite`` setting names; none of them for ``mini``, which stands for every task there is.

    ``paper`` stands for those of the paper's protocol that the data set has.
    """
    if suite == "paper":
        return PAPER_TASKS
    return () if suite == "mini" else tuple(suite.split(","))


def _wanted(only: tuple[str, ...], known: list[str], labels: set[str], strict: bool) -> list[str]:
    """The names in ``known`` that ``only`` asks for, see ``Suite``."""
    if not only:
        return known
    there = [name for name in only if name in known]
    if only == PAPER_TASKS:
        if not there:
            raise UserError(f"suite paper: the data set has none of its tasks ({', '.join(PAPER_TASKS)})")
        return there
    unknown = [name for name in only if name not in known]
    if unknown and strict:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        has = f"the data set has {', '.join(known)}" if known else "the data set has no labels, tags or captions"
        raise UserError(f"unknown task {unknown[0]!r}{hint}: {has}")
    return there + [name for name in known if unknown and name in labels]


def protocol(suite: str, config: EvalConfig) -> EvalConfig:
    """``config`` as ``suite`` wants it: the paper's takes all clips of its data sets."""
    if suite != "paper":
        return config
    return dataclasses.replace(config, max_train_clips=0, max_test_clips=0, retrieval_clips=0, alignment_clips=0)


class Suite:
    """The tasks of a data set with everything needed to measure encoders on them.

    Args:
      data_config: ``bucket_seconds``, ``text_clean`` and ``text_budget`` are used.
      model_config: sizes of the text sides that are trained on frozen frames.
      text_start, decoder_start: parameters that their text tower or decoder begins with; None begins at random.
      only: names of the tasks to run, all when empty.
      strict: refuse names in ``only`` that are no task of this data set. Otherwise they are left out, and as they were
        chosen for another data set, all tasks that are labels of this one are run, too.
      trained: what the encoders were trained on, for the share of it among the test clips; None: not known.

    Attributes:
      names: of the tasks that are run.
      shortages: name -> what is short, of the tasks that were asked for and that the data set is too small for.

    Raises:
      UserError: a name in ``only`` that is no task of this data set.
      DataError: a group in both training and test.
    """

    def __init__(
        self,
        dataset: Dataset,
        tokenizer: Tokenizer,
        config: EvalConfig,
        *,
        data_config: DataConfig,
        feature_config: FeatureConfig,
        model_config: ModelConfig,
        only: Iterable[str] = (),
        strict: bool = True,
        text_start: dict | None = None,
        decoder_start: dict | None = None,
        trained: overlap.Trained | None = None,
    ):
        self.dataset, self.tokenizer, self.config, self.trained = dataset, tokenizer, config, trained
        self.data_config, self.feature_config, self.model_config = data_config, feature_config, model_config
        self.text_start, self.decoder_start = text_start, decoder_start
        self.prompts = read_prompts(config.prompts)
        table = read_table(dataset)
        tasks, shortages = tasks_and_shortages(table, config)
        self.tasks = {task.name: task for task in tasks}
        search, events = retrieval_task(table, config), sed.sed_task(dataset, table, config)
        self.retrieval = search if isinstance(search, RetrievalTask) else None
        self.captioning = captioning.caption_task(self.retrieval, table)
        self.sed = events if isinstance(events, sed.SedTask) else None
        if isinstance(search, Shortage):
            shortages |= dict.fromkeys((*DIRECTIONS, captioning.NAME), search)
        if isinstance(events, Shortage):
            shortages[sed.NAME] = events
        names = [*self.tasks, *(DIRECTIONS if self.retrieval else ()), *((sed.NAME,) if self.sed else ())]
        names += [captioning.NAME] if self.captioning else []
        labels = {name for labels in table.labels for name in labels}
        wanted = _wanted(tuple(only), [*names, *shortages], labels, strict)
        self.names = [name for name in names if name in wanted]
        self.shortages = {name: short for name, short in shortages.items() if name in wanted}
        self.identity = {
            "version": VERSION,
            "data": dataset.fingerprint,
            "config": to_dict(config),
            "buckets": list(data_config.bucket_seconds),
            "text": [to_dict(model_config.text), to_dict(model_config.decoder)] if config.lit_steps else {},
            "mel": [feature_config.num_mel_bins, feature_config.low_hz, feature_config.high_hz],
        }

    def poolings(self, name: str, model: EvalModel) -> tuple[str, ...]:
        if name in DIRECTIONS:
            own = (JOINT,) if model.compares_text else ()
            return (*own, ALIGNMENT, *((LIT,) if self.config.lit_steps else ()))
        if name == captioning.NAME:
            own = (captioning.DECODER,) if model.caption else ()
            return (*own, *((LIT,) if self.config.lit_steps else ()))
        if name == sed.NAME:
            return (sed.POOLING,)
        return (MEAN, ATTENTION, ZERO_SHOT) if model.compares_text and name in self.prompts else (MEAN, ATTENTION)

    def plan(self, name: str) -> Task | RetrievalTask | captioning.CaptionTask | sed.SedTask:
        if name == sed.NAME:
            return self.sed
        if name == captioning.NAME:
            return self.captioning
        return self.retrieval if name in DIRECTIONS else self.tasks[name]

    def rows(self, names: Iterable[str]) -> np.ndarray:
        """All rows of the data set that the named tasks need as whole clips."""
        plans = [self.plan(name) for name in names if name != sed.NAME]
        rows = [np.concatenate([plan.train_row, plan.test_row]) for plan in plans]
        return np.unique(np.concatenate([np.zeros(0, np.int64), *rows]))

    @functools.cached_property
    def overlaps(self) -> dict[str, dict]:
        """Task -> share of its test clips that were trained on, see ``overlap.shares``."""
        return overlap.shares(self.trained, self.dataset, {name: self.plan(name).test_row for name in self.names})

    def extract(self, model: EvalModel, names: Iterable[str], folder: pathlib.Path, **options) -> Features | None:
        """None when the named tasks need no whole clips."""
        buckets = self.data_config.bucket_seconds
        rows = self.rows(names)
        if not len(rows):
            return None
        return extract(model, self.dataset, rows, folder, self.config, bucket_seconds=buckets, **options)

    def floors(self, path: pathlib.Path, folder: pathlib.Path) -> dict[str, dict[str, float]]:
        """Task -> metric -> value of the floor; see ``floors.shared_floors``."""

        def compute(names: list[str]) -> dict[str, dict]:
            model = floors.log_mel_model(self.feature_config)
            features = self.extract(model, names, folder, keep_frames=False)
            inputs = functools.partial(floors.statistics, features)
            shutil.rmtree(folder, ignore_errors=True)
            found = {name: linear(self.tasks[name], inputs)[0] for name in names if name in self.tasks}
            if any(name in DIRECTIONS for name in names):
                aligned = linear_alignment(self.retrieval, inputs)[0]
                found |= {name: aligned[name] for name in names if name in DIRECTIONS}
            if captioning.NAME in names:
                task = self.captioning
                near = captioning.nearest_captions(task, inputs(task.train_row), inputs(task.test_row))
                found[captioning.NAME] = captioning.judge_captions(task, near)
            if sed.NAME in names:
                found[sed.NAME] = detection.measure(model, self.sed, self.config, folder)[0]
                shutil.rmtree(folder, ignore_errors=True)
            return {name: {m: v["value"] for m, v in one.values.items()} for name, one in found.items()}

        return floors.shared_floors(path, fingerprint(self.identity), self.names, compute)


def run_suite(
    model: EvalModel, suite: Suite, out_dir: str | pathlib.Path, *, floors_path: pathlib.Path, keep_features=False
) -> list[dict]:
    """Measures ``model`` on every task of ``suite``.

    Writes ``<task>-<pooling>.json`` into ``out_dir``; a file that comes from the same model, data and settings is kept.
    A task that fails leaves ``<task>-<pooling>.failed`` with the reason and does not stop the others.

    Args:
      floors_path: file in which runs on the same data share floors.
      keep_features: leave the frame embeddings in ``out_dir/cache``.

    Returns:
      the content of the files; for a failed task ``{"task", "pooling", "failed"}``.
    """
    out_dir = pathlib.Path(out_dir)
    text_identity = [suite.tokenizer.sha256, suite.data_config.text_clean, suite.data_config.text_budget]
    text_identity += [dataclasses.asdict(prompts) for prompts in suite.prompts.values()]
    identity = fingerprint([suite.identity, model.name, model.identity, text_identity])
    jobs = [(name, pooling) for name in suite.names for pooling in suite.poolings(name, model)]
    results = {job: _stored(out_dir, job, identity) for job in jobs}
    todo = [job for job in jobs if results[job] is None]
    if todo:
        with stage("measuring the log-mel floor", quiet=True):
            floor_of = suite.floors(pathlib.Path(floors_path), out_dir / "cache" / "floors")
        started = time.monotonic()
        features = suite.extract(model, {name for name, _ in todo}, out_dir / "cache" / "frames")
        encode_s = time.monotonic() - started
        measure = measures(model, suite, features, out_dir / "cache")
        with Progress("evaluate", len(todo), "results") as progress:
            for name, pooling in todo:
                common = {"fingerprint": identity, "encode_seconds": round(encode_s, 2), "model": model.name}
                progress.note(f"now {name}-{pooling}")
                results[name, pooling] = _one(suite, name, pooling, measure, floor_of[name], out_dir, common)
                progress.update()
            progress.note("")
    if not keep_features:
        shutil.rmtree(out_dir / "cache", ignore_errors=True)
    return list(results.values())


def _stored(out_dir: pathlib.Path, job: tuple[str, str], identity: str) -> dict | None:
    path = out_dir / "{}-{}.json".format(*job)
    result = files.read_json(path, "result") if path.exists() else {"fingerprint": ""}
    return result if result["fingerprint"] == identity else None


def _one(suite: Suite, name, pooling, measure, floor: dict[str, float], out_dir: pathlib.Path, common: dict) -> dict:
    started = time.monotonic()
    failed = out_dir / f"{name}-{pooling}.failed"
    try:
        measured, chosen = measure(name, pooling)
    except Exception as error:  # whatever it is, the other tasks still count; the reason is kept beside their results
        reason = f"{type(error).__name__}: {error}"
        files.write_text(failed, reason + "\n")
        say(f"evaluate: {name}-{pooling} failed: {reason}")
        return {"task": name, "pooling": pooling, "failed": reason}
    plan = suite.plan(name)
    worded = name in DIRECTIONS or name == captioning.NAME
    classes = () if worded else plan.classes
    sources = {suite.dataset.sources[code] for code in np.unique(suite.dataset.source[plan.test_row])}
    metric, headline = measured.headline()
    values = {key: {**value, "floor": floor.get(key)} for key, value in measured.values.items()}
    result = common | {
        "task": name,
        "pooling": pooling,
        "metric": metric,
        **headline,
        "floor": floor.get(metric),
        "metrics": values,
        "n_train": len(plan.train_row),
        "n_test": len(plan.test_row),
        "classes": 0 if name == captioning.NAME else len(classes or plan.test_captions),
        "class_names": list(classes),
        "dropped": plan.dropped if classes else {},
        "groups_train": len(set(plan.train_groups)),
        "groups_test": len(set(plan.test_groups)),
        "interval_over": measured.resampled,
        "selection": plan.selection if pooling != JOINT else "none",
        "selected": chosen,
        "split_hash": plan.split_hash,
        "seconds": round(time.monotonic() - started, 3),
        "data_fingerprint": suite.dataset.fingerprint,
        "overlap": suite.overlaps[name],
        "missing": completeness(suite.dataset.info.get("accounting"), sources),
        "published": published(name, pooling, sources),
        **measured.notes,
    }
    files.write_json(out_dir / f"{name}-{pooling}.json", result)
    failed.unlink(missing_ok=True)
    return result
