"""The one training loop: open, restore, save, take the next batch, step; nothing in it waits for the device."""

import contextlib
import dataclasses
import json
import pathlib
import time
from typing import Any

from alp_jax.config import RunConfig
from alp_jax.core.accelerators import of_kind
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import NumericsError, Preempted, UserError
from alp_jax.core.files import write_json
from alp_jax.core.run_files import BAD_STEPS, DATA_CHANGES, SUMMARY, RunSummary
from alp_jax.data.order.batch_plan import plan
from alp_jax.data.pipeline import train_batches
from alp_jax.models.accounting import parameters, train_flops
from alp_jax.optim.optimizer import averages, make_optimizer
from alp_jax.parallel import hosts
from alp_jax.parallel.mesh import batch_part, batch_shards, make_mesh, put_batch
from alp_jax.parallel.rules import infer_shardings
from alp_jax.train.build import make_parts, open_data
from alp_jax.train.checkpoint import Checkpoints
from alp_jax.train.checkpoint_manifest import complete
from alp_jax.train.compile import CompileCount, CompiledSteps, batch_shapes
from alp_jax.train.logs.rates import Rates, Traffic, Work
from alp_jax.train.logs.run_log import RunLog
from alp_jax.train.preconditions import check_batches, check_best_metric, check_settings
from alp_jax.train.profile import Collector, Profile, parse_steps
from alp_jax.train.run_dir import RunDir
from alp_jax.train.state import abstract_state, create_state, state_maker, state_shapes
from alp_jax.train.step import make_train_step
from alp_jax.train.stopping import Stop

_NOTHING = contextlib.nullcontext()


def train(config: RunConfig, workdir: str | pathlib.Path, *, extend: bool = False) -> dict:
    """Trains ``config`` in run folder ``workdir``, from its last checkpoint if it has one; returns the summary.

    ``extend``: a run that is there may be made longer, to ``config.train.steps``.

    Raises:
      ConfigError: a setting out of its range, or settings that do not go together.
      UserError: settings, data and run folder do not fit together.
      Preempted: SIGTERM or SIGINT arrived; everything is saved (exit status 42). Before the first step is done there is
        nothing to save, and the process ends at once with that status.
      StorageError: a checkpoint could not be written, is damaged, or does not fit on the disk.
      NumericsError: ``config.train.max_bad_steps`` non-finite steps in a row; a good checkpoint is left.
    """
    with Stop() as stop:
        stop.leave_at_once(lambda: "before the first step: there is nothing to save; run it again")
        return _train(config, workdir, stop, extend)


def _train(config: RunConfig, workdir: str | pathlib.Path, stop: Stop, extend: bool) -> dict:
    keep = check_settings(config)
    collector = Collector(config.train.gc_every)
    with hosts.stage("opening the data set", config.data.path):
        dataset, tokenizer = open_data(config)
    with hosts.stage("starting the devices", quiet=True):
        mesh = make_mesh(config.mesh)
    with hosts.stage("building the model", config.model.name):
        parts = make_parts(config, tokenizer, mesh)
        optimizer = make_optimizer(config.optim, config.train.steps)
        make_state = state_maker(parts.init, parts.apply, optimizer, averages(config.train))
        shapes_of_state = state_shapes(make_state)
    part, shares = batch_part(mesh)
    with hosts.stage("planning the batches"):
        batch_plan = plan(dataset, config.data, seed=config.seed, devices=batch_shards(mesh))
        check_batches(config, batch_plan.buckets)
    shardings = infer_shardings(shapes_of_state, mesh)
    step_fn = make_train_step(parts.apply, parts.objective, optimizer, config, mesh, shardings)
    shapes = [batch_shapes(config, mesh, bucket.edge, bucket.batch) for bucket in batch_plan.buckets]
    check_best_metric(keep, step_fn, shapes_of_state, shapes[0])
    hosts.require_same({"fingerprint": batch_plan.fingerprint}, "data order")
    with RunDir(workdir, config, extend=extend) as run:
        stop.before_exit(run.close)
        checkpoints = Checkpoints(run.path, keep)
        try:
            state, clock, first = _start(config, run.path, checkpoints, make_state, mesh, parts, batch_plan.fingerprint)
            run.write_changes()
            run.write_environment(dataset, tokenizer)
            loop = _Loop(config, run.path, checkpoints, clock, first, shares, stop)
            if first < config.train.steps:
                batches = train_batches(
                    dataset, config.data, tokenizer, seed=config.seed, start_step=first, host=part, hosts=shares
                )
                steps = CompiledSteps(step_fn, state, shapes)
                try:
                    with collector, loop.compiles:
                        state = loop.run(state, steps, batches, mesh, dataset, collector)
                finally:
                    batches.close()
                    steps.close()
            elif not complete(run.path):
                loop.save(first, state)
        finally:
            with hosts.stage("writing the last checkpoint", quiet=True):
                checkpoints.close()
        stop.leave_at_once(lambda: f"after step {config.train.steps}, which is saved; run it again")
        summary = _summary(config, run.path, parameters(state["params"]), clock)
        if hosts.is_primary():
            write_json(run.path / SUMMARY, summary.to_json())
    return summary.to_json()


def _start(
    config: RunConfig, path: pathlib.Path, checkpoints: Checkpoints, make_state, mesh, parts, fingerprint: str
) -> tuple[Any, dict, int]:
    """(state, clock, first step): fresh ones, or those of the last checkpoint."""
    clock = {"data_fingerprint": fingerprint, "samples_seen": 0, "audio_seconds": 0.0}
    clock |= {"flops": 0.0, "train_seconds": 0.0}
    first = checkpoints.latest()
    shapes = state_shapes(make_state)
    if config.train.steps > (first or 0):
        checkpoints.check_space(shapes, min(config.train.save_every, config.train.steps))
    if first is None:
        with hosts.stage("initialising", f"{parameters(shapes['params']):,} parameters"):
            return create_state(make_state, config.seed, mesh, parts.start), clock, 0
    with hosts.stage("restoring", f"step {first}"):
        state, saved = checkpoints.restore(first, abstract_state(make_state, mesh))
    return state, _resume_clock(saved, clock, path, config.train.accept_data_change), first


def _resume_clock(saved: dict, fresh: dict, path: pathlib.Path, accept: bool) -> dict:
    """What goes on from ``saved``; a change of the data's order is refused, or accepted and written down."""
    old, new = saved["data_fingerprint"], fresh["data_fingerprint"]
    if old != new and not accept:
        raise UserError(
            f"--workdir {path} was trained on data order {old}, this configuration gives {new}: the shards, the "
            "tokenizer or settings of config.data changed; start a new run folder, or go on with the other data by "
            "--config.train.accept_data_change=true"
        )
    if old != new and hosts.is_primary():
        with open(path / DATA_CHANGES, "a", encoding="utf-8") as file:
            file.write(json.dumps({"samples_seen": saved["samples_seen"], "from": old, "to": new}) + "\n")
    return {**saved, "data_fingerprint": new}


def _summary(config: RunConfig, path: pathlib.Path, params: int, clock: dict) -> RunSummary:
    return RunSummary(
        run=path.name,
        objective=config.objective.name,
        init=config.init,
        model=config.model.name,
        params=params,
        pairs=config.data.pairs,
        steps=config.train.steps,
        samples_seen=clock["samples_seen"],
        audio_seconds=clock["audio_seconds"],
        flops=clock["flops"],
        seed=config.seed,
        wall_seconds=clock["train_seconds"],
    )


class _Loop:
    """The moving parts of one stretch of training."""

    def __init__(
        self,
        config: RunConfig,
        path: pathlib.Path,
        checkpoints: Checkpoints,
        clock: dict,
        first: int,
        shares: int,
        stop: Stop,
    ):
        self.config, self.path, self.checkpoints, self.clock, self.first = config, path, checkpoints, clock, first
        self._shares = shares  # in how many parts processes read a batch
        self._stop = stop
        self._began, self._seconds_before = time.monotonic(), clock["train_seconds"]
        self.compiles = CompileCount()
        self._sums: dict[str, float] = {}  # of the finite steps since the last save
        self._finite = 0

    def run(self, state: Any, step_fn: CompiledSteps, batches, mesh, dataset, collector: Collector) -> Any:
        """Steps from ``first`` to the end; saves on the way, at the end and when a signal asks to stop."""
        total = self.config.train.steps
        kind = mesh.devices.flat[0].device_kind
        traffic = Traffic(self.config, of_kind(kind), mesh.size)
        rates = Rates(self.config, mesh.size, kind, self._seconds_before)
        log = RunLog(self.path, self.config, self.first, rates) if hosts.is_primary() else None
        profile = Profile(parse_steps(self.config.train.profile_steps if log else ""), self.path / "profile")
        if self.first:
            self._stop.leave_at_once(
                lambda: f"before the first step after step {self.first}, which is saved; run it again"
            )
        previous = None  # (step, metrics on device, rows, what it took): read while the next step runs
        try:
            for step in range(self.first, total):
                self.checkpoints.poll()
                profile.before(step, previous and previous[1])
                stopping = step > self.first and self._stop.due(step)
                if step > self.first and (step % self.config.train.save_every == 0 or stopping):
                    self.save(step, state)
                    if stopping:
                        self._report(log, dataset, *previous)
                        self._leave(step)
                waited = time.monotonic()
                with hosts.stage("reading the first batch", quiet=True) if previous is None else _NOTHING:
                    batch = next(batches)
                waited = time.monotonic() - waited
                rows, cut = batch.pop("row"), batch.pop("text_cut")
                took = self._count(batch, waited, int(cut.sum()))
                batch = put_batch(batch, mesh)
                took = dataclasses.replace(took, moved=traffic.of(step_fn, batch))
                state, metrics = step_fn(state, batch)
                if previous is None:
                    self._stop.leave_at_once(None)
                else:
                    self._report(log, dataset, *previous)
                previous = (step, metrics, rows, took)
                collector.after(step)
            self._report(log, dataset, *previous)
            self.save(total, state)
            if self._stop.due(total):
                self._leave(total)
        finally:
            profile.close()
            if log is not None:
                log.close()
        return state

    def save(self, step: int, state: Any) -> None:
        self.clock["train_seconds"] = self._seconds_before + time.monotonic() - self._began
        means = {name: total / self._finite for name, total in self._sums.items()}
        with hosts.stage("saving", quiet=True, every=self.config.train.save_every):
            self.checkpoints.save(step, state, dict(self.clock), means)
        self._sums, self._finite = {}, 0

    def _leave(self, step: int) -> None:
        with hosts.stage("saving", quiet=True):
            self.checkpoints.wait()
        raise Preempted(f"stopped by signal {self._stop.number} after step {step}, which is saved; run it again")

    def _count(self, batch: dict, waited: float, cut: int) -> Work:
        """Adds a batch to the clock; returns its work, of all processes."""
        shares = self._shares
        clips = int(batch["mask"].sum()) * shares
        seconds = float(batch["audio_len"].sum()) / SAMPLE_RATE * shares
        rows, samples = batch["audio"].shape
        longest = samples / SAMPLE_RATE
        flops = rows * shares * self._row_flops(longest)
        self.clock["samples_seen"] += clips
        self.clock["audio_seconds"] += seconds
        self.clock["flops"] += flops
        return Work(waited, clips, seconds, rows * shares * longest, cut * shares, flops)

    def _row_flops(self, seconds: float) -> float:
        """FLOPs of a row of the batch as it is computed, padding included."""
        return train_flops(self.config.model, self.config.objective.name, seconds, self.config.data.text_budget)

    def _report(self, log: RunLog | None, dataset, step: int, metrics: dict, rows, took: Work) -> None:
        """Looks at a finished step: logs it when due, names its clips when it was not finite."""
        if log is not None:
            log.count(took)
        bad = int(metrics["bad_steps"])
        if bad:
            clips = [dataset.read(int(row)).id for row in rows]
            with open(self.path / BAD_STEPS, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "clips": clips}) + "\n")
            if bad >= self.config.train.max_bad_steps:
                raise NumericsError(
                    f"{bad} non-finite steps in a row up to step {step}; their clips are in "
                    f"{self.path / 'bad_steps.jsonl'}; lower config.optim.lr or look at the clips"
                )
            return
        if self.config.train.keep_best:
            self._finite += 1
            for name, value in metrics.items():
                self._sums[name] = self._sums.get(name, 0.0) + float(value)
        last = step + 1 == self.config.train.steps
        if log is not None and (step % self.config.train.log_every == 0 or last):
            values = {name: float(value) for name, value in metrics.items()}
            log.write(step, values | {"compiles": float(self.compiles.programs)})
