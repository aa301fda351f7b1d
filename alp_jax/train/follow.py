"""Evaluates the checkpoints of a run as they appear, in a separate process, so that training never waits for it."""

import contextlib
import os
import pathlib
import time
from collections.abc import Callable, Iterator

from alp_jax.core import files, storage
from alp_jax.core.errors import UserError
from alp_jax.core.mirror import copied
from alp_jax.core.run_files import FLOORS, RESULTS, is_done
from alp_jax.evaluation.stats.table import table, too_small
from alp_jax.evaluation.suite import Suite, run_suite
from alp_jax.train.build import read_config
from alp_jax.train.checkpoint_folder import complete
from alp_jax.train.evaluate import eval_model, open_suite
from alp_jax.train.evaluate_sets import require_tasks
from alp_jax.train.remote_run import local_run
from alp_jax.train.writers import EventFile

POLL_S = 10.0
CURVE = "curve.json"
_STEPS = f"{RESULTS}/steps"


def follow(
    run_dir: storage.Location,
    suite: Suite,
    out: pathlib.Path,
    floors: storage.Location,
    *,
    keep_features: bool = False,
    poll_s: float = POLL_S,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[tuple[int, list[dict]]]:
    """Yields (step, results) of every checkpoint, in order, until the run is done and its last one evaluated.

    Results of a step go to ``out/STEP``; those that exist for the same parameters and settings are not measured again,
    so a follower that was stopped can resume. ``out/curve.json`` holds value and interval by task, pooling and step,
    ``out/tensorboard`` the values. With ``keep_features`` the frame embeddings of a step stay in ``out/STEP/cache``. A
    checkpoint that the run's retention removes first is skipped.
    """
    events = None
    try:
        seen: set[int] = set()
        while True:
            done = is_done(run_dir)  # asked before the steps are listed, so that they include the last checkpoint
            new = [step for step in complete(run_dir) if step not in seen]
            for step in new:
                seen.add(step)
                try:
                    model, _ = eval_model(run_dir, step)
                except (UserError, OSError):
                    if step in complete(run_dir):
                        raise
                    continue
                results = run_suite(model, suite, out / f"{step:07}", floors_path=floors, keep_features=keep_features)
                _add_to_curve(out / CURVE, step, results)
                events = events or EventFile(out / "tensorboard", step)
                events.write(step, {f"{r['task']}/{r['pooling']}": r["value"] for r in results if "failed" not in r})
                yield step, results
            if done and not new:
                return
            if not new:
                sleep(poll_s)
    finally:
        if events:
            events.close()


def follow_run(
    run_dir: storage.Location,
    suite: str | None,
    out: storage.Location | None,
    floors: storage.Location | None,
    tell: Callable[[str], None],
    *,
    keep_features: bool = False,
) -> dict:
    """``follow`` with the tasks of ``suite`` on the run's own data; reports a table for every checkpoint.

    Without ``out`` results go to ``eval/steps`` of the run; of one in an object store they are uploaded step by step.
    """
    with local_run(run_dir) as folder, contextlib.ExitStack() as stack:
        tasks = open_suite(folder, read_config(folder), suite)
        require_tasks(str(tasks.setup.dataset.path), tasks)
        if tasks.shortages:
            tell("\n".join(too_small(tasks.shortages)))
        copy = None
        if storage.is_remote(run_dir) and out is None:
            copy = stack.enter_context(copied(os.fspath(run_dir), lambda name: name.startswith((FLOORS, _STEPS))))
        root = copy.folder if copy else folder
        out, floors, every = storage.local(out or root / _STEPS), floors or root / FLOORS, []
        for step, results in follow(run_dir, tasks, out, floors, keep_features=keep_features):
            if copy:
                copy.push()
            every += [{"step": step, **result} for result in results]
            tell(f"step {step}\n{table(results, {})}")
    shown = storage.join(run_dir, _STEPS) if copy else out
    return {"out": str(shown), "curve": storage.join(shown, CURVE), "results": every}


def _add_to_curve(path: pathlib.Path, step: int, results: list[dict]) -> None:
    curve = files.read_object(path, "curve") if path.exists() else {}
    for r in results:
        if "failed" not in r:
            name, point = f"{r['task']}-{r['pooling']}", {"step": step, "value": r["value"], "interval": r["interval"]}
            entry = curve.setdefault(name, {"metric": r["metric"], "points": []})
            try:
                others = [point for point in entry["points"] if point["step"] != step]
                entry["points"] = sorted([*others, point], key=lambda point: point["step"])
            except (TypeError, KeyError):
                raise UserError(
                    f"curve {path}: {name} is not what --follow writes: remove the file to begin a new one"
                ) from None
    files.write_json(path, curve)
