"""All tasks on one frozen encoder: a JSON file per (task, pooling), written when it is done and not measured again."""

import difflib
import functools
import pathlib
import shutil
import time
from collections.abc import Iterable

import numpy as np

from alp_jax.config import to_dict
from alp_jax.core import files, storage
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.core.progress import Progress, say, stage
from alp_jax.core.run_files import CAPTIONING, RETRIEVAL, Result, failure_file, result_file
from alp_jax.evaluation.evaluator import Setup
from alp_jax.evaluation.features import FITS, Features, extract
from alp_jax.evaluation.forecast import Ahead, Encoder, lines
from alp_jax.evaluation.measured import Measured
from alp_jax.evaluation.model import EvalModel
from alp_jax.evaluation.registry import open_evaluators
from alp_jax.evaluation.retrieval.task import CaptionedClips, captioned_clips
from alp_jax.evaluation.stats import floors, overlap
from alp_jax.evaluation.stats.completeness import completeness
from alp_jax.evaluation.stats.published import PAPER_TASKS, published_facts
from alp_jax.evaluation.text_costs import TextSize

FORECAST_CLIPS = 20_000  # in a suite of more clips, the forecast is printed before it starts
CHOSEN_SHAPES = 4  # buckets of lengths, about, where they are chosen for the data
VERSION = 7  # of the results: raised when a metric or an interval is added or changes


def _wanted(only: tuple[str, ...], known: list[str], labels: set[str], strict: bool) -> list[str]:
    """The names in ``known`` that ``only`` asks for; see ``Suite``."""
    if not only:
        return known
    present = [name for name in only if name in known]
    if only == PAPER_TASKS:
        if not present:
            raise UserError(f"suite paper: the data set has none of its tasks ({', '.join(PAPER_TASKS)})")
        return present
    unknown = [name for name in only if name not in known]
    if unknown and strict:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        has = f"the data set has {', '.join(known)}" if known else "the data set has no labels, tags or captions"
        raise UserError(f"unknown task {unknown[0]!r}{hint}: {has}")
    return present + [name for name in known if unknown and name in labels]


class Suite:
    """The tasks of a data set with everything needed to measure encoders on them.

    Args:
      only: names of the tasks to run, all when empty.
      strict: refuse names in ``only`` that are not tasks of this data set. Otherwise they are left out; since the names
        were then chosen for another data set, all tasks that are labels of this one run as well.
      trained: what the encoders were trained on, to find how many test clips were in it; None if that is not known.

    Attributes:
      evaluators: task name -> its evaluator, for the tasks that run.
      shortages: task name -> what is missing, for requested tasks that the data set is too small for.
      identity: what floors depend on. text_identity: what else results depend on, apart from the model.

    Raises:
      UserError: a name in ``only`` that is not a task of this data set; otherwise as ``open_evaluators``.
      DataError: a group in both training and test.
    """

    def __init__(
        self, setup: Setup, *, only: Iterable[str] = (), strict: bool = True, trained: overlap.Trained | None = None
    ):
        self.setup, self.trained = setup, trained
        evaluators, shortages, own_identity = open_evaluators(setup)
        wanted = _wanted(tuple(only), [*evaluators, *shortages], set(setup.table.label_names), strict)
        self.evaluators = {name: evaluator for name, evaluator in evaluators.items() if name in wanted}
        self.shortages = {name: short for name, short in shortages.items() if name in wanted}
        config, data, features, model = setup.config, setup.data_config, setup.feature_config, setup.model_config
        self.identity = {
            "version": VERSION,
            "data": setup.dataset.fingerprint,
            "config": to_dict(config),
            "buckets": list(data.bucket_seconds),
            "text": [to_dict(model.text), to_dict(model.decoder)] if config.lit_steps else {},
            "mel": [features.num_mel_bins, features.low_hz, features.high_hz],
        }
        self.text_identity = [setup.tokenizer.sha256, data.text_clean, data.text_budget, *own_identity]

    @property
    def names(self) -> list[str]:
        """The tasks that run."""
        return list(self.evaluators)

    @functools.cached_property
    def overlaps(self) -> dict[str, dict]:
        """Task -> share of its test clips that were trained on; see ``overlap.shares``."""
        tests = {name: evaluator.split.test_row for name, evaluator in self.evaluators.items()}
        return overlap.shares(self.trained, self.setup.dataset, tests)

    def extract(self, model: EvalModel, names: Iterable[str], folder: pathlib.Path, **options) -> Features:
        """The features that the named tasks need, computed in one pass over their clips."""
        rows = [np.zeros(0, np.int64), *(self.evaluators[name].rows() for name in names)]
        buckets = self.setup.data_config.bucket_seconds
        return extract(
            model,
            self.setup.dataset,
            np.concatenate(rows),
            folder,
            self.setup.config,
            bucket_seconds=buckets,
            **options,
        )

    @functools.cached_property
    def ahead(self) -> Ahead:
        """What there is to encode and to fit."""
        dataset, config = self.setup.dataset, self.setup.config
        evaluators = dict.fromkeys(self.evaluators.values())
        rows = np.unique(np.concatenate([np.zeros(0, np.int64), *(one.rows() for one in evaluators)]))
        seconds = float(np.minimum(dataset.num_samples[rows] / SAMPLE_RATE, config.max_seconds).sum())
        sizes = {name: size for name, one in self.evaluators.items() if (size := one.size())}
        events = [size for size in sizes.values() if size.events]  # their audio is encoded by itself
        clips = len(rows) + sum(size.clips for size in events)
        seconds += sum(size.clips * size.mean_seconds for size in events)
        buckets = self.setup.data_config.bucket_seconds
        shapes = 1 + sum(bucket < config.max_seconds for bucket in buckets) if buckets else CHOSEN_SHAPES
        return Ahead(clips, seconds, sizes, shapes + len(events), self._texts())

    def _texts(self) -> TextSize | None:
        setup, tasks = self.setup, tuple(name for name in (*RETRIEVAL, CAPTIONING) if name in self.evaluators)
        if not (tasks and setup.config.lit_steps):
            return None
        clips, tokens = setup.shared(captioned_clips), setup.config.lit_tokens or setup.data_config.text_budget
        assert isinstance(clips, CaptionedClips), "their evaluators were found"
        sizes = len(clips.train_row), int(clips.held.sum()), len(clips.test_row), len(clips.test_captions)
        return TextSize(*sizes, tokens, tasks, setup.model_config)

    def forecast(self, model: EvalModel) -> list[str]:
        """What ``run_suite`` will take, as lines; see ``forecast``."""
        encoder, floor = Encoder.of(model), Encoder.of(floors.log_mel_model(self.setup.feature_config))
        return lines({str(self.setup.dataset.path): self.ahead}, encoder, self.setup.config, floor=floor)

    def floors(self, path: storage.Location, folder: pathlib.Path) -> dict[str, dict[str, float]]:
        """Task -> metric -> floor; see ``floors.shared_floors``."""

        def compute(names: list[str]) -> dict[str, dict]:
            model = floors.log_mel_model(self.setup.feature_config)
            features = self.extract(model, names, folder / "frames", keep_frames=False)
            measured: dict[str, Measured] = {}
            for evaluator in dict.fromkeys(self.evaluators[name] for name in names):
                measured |= evaluator.floor(features)
            shutil.rmtree(folder, ignore_errors=True)
            return {
                name: {metric: value["value"] for metric, value in measured[name].values.items()}
                for name in names
                if name in measured
            }

        return floors.shared_floors(path, fingerprint(self.identity), self.names, compute)


def run_suite(
    model: EvalModel, suite: Suite, out_dir: str | pathlib.Path, *, floors_path: storage.Location, keep_features=False
) -> list[dict]:
    """Measures ``model`` on every task of ``suite``.

    Writes ``<task>-<pooling>.json`` into ``out_dir``; files from the same model, data and settings are kept.
    A task that fails leaves ``<task>-<pooling>.failed`` with the reason and does not stop the others.

    Args:
      floors_path: file, by path or URL, in which runs on the same data share floors.
      keep_features: leave the frame embeddings in ``out_dir/cache``.

    Returns:
      the content of each file; for a failed task ``{"task", "pooling", "failed"}``.
    """
    out_dir = pathlib.Path(out_dir)
    identity = fingerprint([suite.identity, model.name, model.identity, suite.text_identity])
    jobs = [(name, pooling) for name, one in suite.evaluators.items() for pooling in one.poolings(model)]
    results = {job: _stored(out_dir, job, identity) for job in jobs}
    todo = [job for job in jobs if results[job] is None]
    if todo:
        if suite.ahead.clips > FORECAST_CLIPS:
            say("\n".join(suite.forecast(model)))
        with stage("measuring the log-mel floor", quiet=True):
            floor_of = suite.floors(floors_path, out_dir / "cache" / "floors")
        started = time.monotonic()
        features = suite.extract(model, {name for name, _ in todo}, out_dir / "cache" / "frames")
        encode_s = time.monotonic() - started
        measure = functools.cache(lambda evaluator, pooling: evaluator.measure(features, model, pooling))
        with Progress("evaluate", len(todo), "results") as progress:
            for name, pooling in todo:
                common = {"fingerprint": identity, "encode_seconds": round(encode_s, 2), "model": model.name}
                progress.note(f"at {name}-{pooling}")
                results[name, pooling] = _one(suite, name, pooling, measure, floor_of[name], out_dir, common)
                progress.update()
            progress.note("")
    if not keep_features:
        shutil.rmtree(out_dir / "cache", ignore_errors=True)
    shutil.rmtree(out_dir / "cache" / FITS, ignore_errors=True)
    return list(results.values())


def _stored(out_dir: pathlib.Path, job: tuple[str, str], identity: str) -> dict | None:
    path = result_file(out_dir, *job)
    content = files.read_object(path, "result") if path.exists() else {}
    return Result.from_json(content, path).to_json() if content.get("fingerprint") == identity else None


def _one(suite: Suite, name, pooling, measure, floor: dict[str, float], out_dir: pathlib.Path, common: dict) -> dict:
    """One result; ``measure(evaluator, pooling)`` runs once for all tasks of an evaluator."""
    started, evaluator, dataset = time.monotonic(), suite.evaluators[name], suite.setup.dataset
    failed = failure_file(out_dir, name, pooling)
    try:
        measured = measure(evaluator, pooling)[name]
    except Exception as error:  # whatever went wrong, the other tasks still run; the reason is written to a file
        reason = f"{type(error).__name__}: {error}"
        files.write_text(failed, reason + "\n")
        say(f"evaluate: {name}-{pooling} failed: {reason}")
        return {"task": name, "pooling": pooling, "failed": reason}
    sources = {dataset.sources[code] for code in np.unique(dataset.source[evaluator.split.test_row])}
    facts = common | {
        **evaluator.facts(),
        "interval_over": measured.resampled,
        "selected": measured.selected,
        "seconds": round(time.monotonic() - started, 3),
        "data_fingerprint": dataset.fingerprint,
        "overlap": suite.overlaps[name],
        "missing": completeness(dataset.info.get("accounting"), sources),
        "sources": sorted(sources),
        "cut": _cut(dataset.num_samples[evaluator.rows()], suite.setup.config.max_seconds),
        **published_facts(name, pooling, sources),
        **measured.notes,
    }
    result = measured.result(name, pooling, floor, facts)
    result.write(out_dir)
    failed.unlink(missing_ok=True)
    return result.to_json()


def _cut(samples: np.ndarray, seconds: float) -> dict:
    """How many clips are cut to the length at which the suite reads them, and that length."""
    return {"seconds": seconds, "clips": int((samples > round(seconds * SAMPLE_RATE)).sum())}
