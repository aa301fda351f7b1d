"""Evaluates one encoder, and those it is compared with, on one data set or several, and reports the results."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from alp_jax.config import RunConfig
from alp_jax.config.schema import DataConfig
from alp_jax.core import storage
from alp_jax.core.errors import AlpError, UserError
from alp_jax.core.progress import say
from alp_jax.core.run_files import DETECTION, FLOORS, RESULTS
from alp_jax.data.store.dataset import INFO
from alp_jax.evaluation.forecast import Encoder, published_lines
from alp_jax.evaluation.model import EvalModel
from alp_jax.evaluation.probes.sizes import SIZES
from alp_jax.evaluation.protocol import PAPER, protocol
from alp_jax.evaluation.stats.completeness import dropped_leaks
from alp_jax.evaluation.stats.published import not_measured, published_table
from alp_jax.evaluation.stats.table import notes, overlaps, table, too_small
from alp_jax.evaluation.suite import Suite, run_suite
from alp_jax.train.build import make_model, read_config
from alp_jax.train.evaluate import eval_model, frozen_model, open_suite
from alp_jax.train.remote_run import local_results, local_run, steps_for

UNTRAINED, START = "untrained", "start"  # the encoders that a run is compared with


def _wherever_they_lie(evaluate: Callable[..., dict]) -> Callable[..., dict]:
    """``evaluate_sets`` for URLs of a run and of OUT: on copies, whose results go up and whose names nobody sees."""

    @functools.wraps(evaluate)
    def evaluated(folder: storage.Location, **options: Any) -> dict:
        out, copies = options.get("out"), dict[str, str]()
        with contextlib.ExitStack() as stack:
            if storage.is_remote(folder):
                steps = steps_for(options.get("step"), options.get("since"))
                copy = stack.enter_context(local_run(folder, steps, write=out is None))
                copies[str(copy)], folder = os.fspath(folder), copy
            if out is not None and storage.is_remote(out):
                parent = out.rstrip("/").rpartition("/")[0]
                options["out"] = stack.enter_context(local_results(out))
                options["floors"] = options.get("floors") or storage.join(parent, FLOORS)
                copies[str(options["out"])] = out.rstrip("/")
            if not copies:
                return evaluate(folder, **options)
            tell = options.pop("tell", print)

            def shown(text: str) -> str:
                for copy, url in copies.items():
                    text = text.replace(copy, url)
                return text

            try:
                result = evaluate(folder, tell=lambda lines: tell(shown(lines)), **options)
            except AlpError as error:
                raise type(error)(shown(str(error))) from error
        for one in result["sets"].values():
            one["out"] = shown(one["out"])
        return result

    return evaluated


@_wherever_they_lie
def evaluate_sets(
    folder: pathlib.Path,
    *,
    foreign: EvalModel | None = None,
    step: int | None = None,
    since: int | None = None,
    suite: str | None = None,
    data: str | None = None,
    out: pathlib.Path | None = None,
    start: pathlib.Path | None = None,
    baselines: bool = True,
    floors: storage.Location | None = None,
    keep_features: bool = False,
    dry_run: bool = False,
    tell: Callable[[str], None] = print,
) -> dict:
    """A table of results for every data set; see ``run_suite`` for the files.

    Baselines go to OUT/untrained and OUT/start; results that exist and still apply are not measured again.

    Args:
      folder: of the run or import, or its URL; or of ``foreign``, an encoder that was not made here and has no
        baselines.
      step, since: as in ``load_params``.
      suite: as in ``open_suite``.
      data: a data set, or with suite ``paper`` a folder of them; None takes the run's own.
      out: OUT, where results go, or its URL; by default ``folder``/eval, with a folder in it for each of several sets.
      start: as in ``baseline_models``.
      dry_run: only tell what it will take; with suite ``paper`` also for sets that are not there, at their true sizes.
      tell: receives lines for people.

    Raises:
      UserError: no such run, data set or task.
      AlpError: a result failed; the others are written.

    Returns:
      ``sets``: data set -> where its results are, the results, those of baselines, and tasks it is too small for;
      ``left_out``: data set of several -> why nothing is measured on it; ``not_measured``: lines about the parts of the
      paper's protocol that are missing; time and memory.
    """
    began = time.monotonic()
    paths = data_sets(data, suite)
    if foreign:
        model, config = foreign, RunConfig(data=DataConfig(path=str(paths[0])))
    else:
        model, config = eval_model(folder, step, since)
    sets, left_out, planned = {}, {}, []
    for path in paths:
        try:
            tasks = open_suite(None if foreign else folder, config, suite, path)
            name = str(tasks.setup.dataset.path)
            require_tasks(name, tasks)
        except UserError as error:
            if len(paths) == 1:
                raise
            left_out[str(path)] = str(error)  # one set that is too small does not keep the others from being measured
            tell(f"left out: {error}")
            continue
        if dry_run:
            tell("\n".join(tasks.forecast(model)))
            planned += tasks.names
            continue
        own_out = out or folder / RESULTS
        # Never inside the folder of results, where every .json file counts as a result.
        own_floors = floors or own_out.parent / FLOORS
        if path is not None and data and storage.location(data) != path:
            own_out /= os.fspath(path).rpartition("/")[2]
        results = run_suite(model, tasks, own_out, floors_path=own_floors, keep_features=keep_features)
        others = {
            kind: run_suite(other, tasks, own_out / kind, floors_path=own_floors)
            for kind, other in (baseline_models(folder, start) if baselines and not foreign else ())
        }
        short = {task: dataclasses.asdict(shortage) for task, shortage in tasks.shortages.items()}
        sets[name] = {"out": str(own_out), "results": results, "baselines": others, "too_small": short}
        lines = [name, table(results, others), *too_small(tasks.shortages), *notes(results), *overlaps(results)]
        tell("\n".join([*lines, *(published_table(results) if suite == PAPER else ())]))
    if left_out and not sets and not planned:
        raise UserError(next(iter(left_out.values())))
    if dry_run:
        return _planned(planned, suite, Encoder.of(model), config, tell)
    return _summary(sets, left_out, suite, began, tell)


def _planned(
    planned: list[str], suite: str | None, encoder: Encoder, config: RunConfig, tell: Callable[[str], None]
) -> dict:
    """Tells what the labelled sets of the paper that are not here would take, at their true sizes."""
    present = {"audioset_strong" if task == DETECTION else task for task in planned}
    absent = [name for name in SIZES if suite == PAPER and name not in present]
    if absent:
        settings = protocol(PAPER, config.evaluation, config.data)[0]
        tell("\n".join(["not here, at their true sizes:", *published_lines(encoder, settings, absent)]))
    return {"planned": planned, "absent": absent}


def _summary(
    sets: dict[str, dict], left_out: dict[str, str], suite: str | None, began: float, tell: Callable[[str], None]
) -> dict:
    measured = [result for one in sets.values() for result in one["results"]]
    lacking = not_measured(measured) if suite == PAPER else []
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    summary = {"seconds": round(time.monotonic() - began, 1), "peak_gib": round(peak, 2), "not_measured": lacking}
    outs = ", ".join(one["out"] for one in sets.values())
    tell(
        "\n".join(
            [*lacking, f"{summary['seconds']:.0f} s, at most {peak:.1f} GiB; the JSON of each result is in {outs}"]
        )
    )
    every = [r for one in sets.values() for some in (one["results"], *one["baselines"].values()) for r in some]
    failed = [f"{r['task']}-{r['pooling']}" for r in every if "failed" in r]
    if failed:
        raise AlpError(f"{len(failed)} results failed: {', '.join(failed)}; reasons are in {outs}")
    return {"sets": sets, "left_out": left_out} | summary


def data_sets(data: str | None, suite: str | None) -> list[storage.Location | None]:
    """The data sets to evaluate on: ``data``, or all that lie in it with ``suite`` paper; None for the run's own.

    Raises:
      UserError: ``data`` is not a data set and contains none.
    """
    if data is None:
        return [None]

    def is_set(folder: storage.Location) -> bool:
        return storage.size(storage.join(folder, INFO)) >= 0

    if suite != PAPER or is_set(data):
        return [storage.location(data)]
    inside = [storage.location(storage.join(data, name)) for name in storage.names(data)]
    found = [folder for folder in inside if is_set(folder)]
    if not found:
        raise UserError(f"--data {data} is not a data set and contains none; 'alp data build' makes one")
    return [*found]


def require_tasks(data: str, suite: Suite) -> None:
    """Raises UserError when there is nothing to measure."""
    if suite.names:
        return
    if not suite.shortages:
        raise UserError(f"data set {data} has no task: it needs labels, tags or captions in train and test")
    more = "; --option shares=60/10/30 of 'alp data build' gives more test clips"
    hint = more if "split_rule" in suite.setup.dataset.info else ""
    reasons = [*too_small(suite.shortages), *dropped_leaks(suite.setup.dataset.info.get("accounting"))]
    raise UserError(f"data set {data} is too small for every task: {'; '.join(reasons)}{hint}")


def baseline_models(
    run_dir: str | pathlib.Path, start: str | pathlib.Path | None = None
) -> Iterator[tuple[str, EvalModel]]:
    """(``untrained``, the run's model with fresh parameters), then (``start``, the supervised encoder) if there is one.

    Args:
      run_dir: the run that is compared.
      start: folder of the supervised encoder; None takes the one that ``config.init`` of the run names.

    Raises:
      UserError: ``start`` is not a run or import.
    """
    config = read_config(run_dir)
    init, _ = make_model(config)
    params = jax.jit(init)(jax.random.key(config.seed))
    yield UNTRAINED, frozen_model(config, params, f"{config.model.name} untrained, seed {config.seed}")
    folder = start or (config.init if config.init != "scratch" else None)
    if folder and start is None and not (storage.is_remote(folder) or pathlib.Path(folder).exists()):
        say(f"evaluate: {folder}, which training began with, was not found and is left out")
    elif folder:
        yield START, eval_model(folder)[0]
