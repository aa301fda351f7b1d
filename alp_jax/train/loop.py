"""The one training loop: restore, save, take the next batch, step; nothing in it waits for the device."""

import contextlib
import dataclasses
import gc
import json
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from alp_jax.config import RunConfig
from alp_jax.core import storage
from alp_jax.core.accelerators import of_kind
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import NumericsError, Preempted, StorageError, UserError
from alp_jax.core.files import write_json
from alp_jax.core.run_files import BAD_STEPS, DATA_CHANGES, RESULTS, SUMMARY, RunSummary
from alp_jax.data.pipeline import train_batches
from alp_jax.data.store.dataset import Dataset
from alp_jax.models.accounting import parameters
from alp_jax.parallel import hosts
from alp_jax.parallel.mesh import batch_part, put_batch
from alp_jax.train.checkpoint import Checkpoints
from alp_jax.train.checkpoint_folder import complete
from alp_jax.train.host import Collector, CompileCount, CompiledSteps, Profile, Size, parse_steps
from alp_jax.train.lease import Lease, StoreLease
from alp_jax.train.run_dir import RunDir
from alp_jax.train.run_log import Rates, RunLog, StepCosts, StepWork
from alp_jax.train.setup import RunSetup, prepare
from alp_jax.train.state import State, abstract_state, create_state
from alp_jax.train.stopping import Stop
from alp_jax.train.validation import Validation

_NOTHING = contextlib.nullcontext()


def train(config: RunConfig, workdir: storage.Location, *, extend: bool = False) -> dict:
    """Trains ``config`` in run folder ``workdir``, from its last checkpoint if it has one; returns the summary.

    ``workdir`` is a path or a URL. ``extend`` allows an existing run to be made longer, up to ``config.train.steps``.

    Raises:
      ConfigError: a setting out of its range, or settings that do not go together.
      UserError: settings, data and run folder do not fit together.
      Preempted: SIGTERM or SIGINT arrived; everything is saved (exit status 42). Before the first step has finished
        there is nothing to save, and the process ends at once with that status.
      StorageError: a checkpoint could not be written, is damaged, or does not fit on the disk; or another process has
        taken over the run, and nothing more is written.
      NumericsError: ``config.train.max_bad_steps`` non-finite steps in a row; a good checkpoint is left.
    """
    storage.check_run_folder(workdir, "--workdir")  # now: nothing has been opened, planned or compiled
    with Stop() as stop:
        stop.leave_at_once(lambda: "before the first step: there is nothing to save; run it again")
        return _train(config, workdir, stop, extend)


def _train(config: RunConfig, workdir: storage.Location, stop: Stop, extend: bool) -> dict:
    collector = Collector(config.train.gc_every)
    setup = prepare(config)
    part, shares = batch_part(setup.mesh)
    hosts.require_same({"fingerprint": setup.batches.fingerprint}, "data order")
    with RunDir(workdir, config, extend=extend) as run:
        stop.before_exit(run.leave)
        checkpoints = Checkpoints(run.path, setup.keep, run.uploads, run.parts)
        try:
            state, clock, first = _start(config, run.path, checkpoints, setup)
            run.write_changes()
            run.write_environment(setup.dataset, setup.tokenizer)
            loop = _Loop(config, run.path, checkpoints, clock, first, shares, stop, run.lease, setup.validation)
            if first < config.train.steps:
                batches = train_batches(
                    setup.dataset,
                    config.data,
                    setup.tokenizer,
                    seed=config.seed,
                    start_step=first,
                    host=part,
                    hosts=shares,
                )
                with contextlib.closing(batches):
                    steps = CompiledSteps(setup.step, state, setup.shapes)
                    with contextlib.closing(steps), collector, loop.compiles:
                        state = loop.run(state, steps, batches, setup.mesh, setup.dataset, collector)
            elif not complete(run.path):
                loop.save(first, state)
        finally:
            with hosts.stage("writing the last checkpoint", quiet=True):
                checkpoints.close()
        stop.leave_at_once(lambda: f"after step {config.train.steps}, which is saved; run it again")
        summary = RunSummary(
            run=run.path.name,
            objective=config.objective.name,
            init=config.init,
            model=config.model.name,
            params=parameters(state["params"]),
            pairs=config.data.pairs,
            steps=config.train.steps,
            samples_seen=clock["samples_seen"],
            audio_seconds=clock["audio_seconds"],
            flops=clock["flops"],
            seed=config.seed,
            wall_seconds=clock["train_seconds"],
        ).to_json()
        if hosts.is_primary():
            write_json(run.path / SUMMARY, summary)
    return summary


def _start(
    config: RunConfig, path: pathlib.Path, checkpoints: Checkpoints, setup: RunSetup
) -> tuple[State, dict[str, Any], int]:
    """(state, clock, first step): fresh ones, or those of the last checkpoint."""
    fingerprint = setup.batches.fingerprint
    first = checkpoints.latest()
    if config.train.steps > (first or 0):
        checkpoints.check_space(setup.state, min(config.train.save_every, config.train.steps))
    if first is None:
        clock = {"data_fingerprint": fingerprint, "samples_seen": 0, "audio_seconds": 0.0}
        clock |= {"flops": 0.0, "train_seconds": 0.0}
        with hosts.stage("initialising", f"{parameters(setup.state['params']):,} parameters"):
            return create_state(setup.make_state, config.seed, setup.mesh, setup.parts.start), clock, 0
    with hosts.stage("restoring", f"step {first}"):
        state, saved = checkpoints.restore(first, abstract_state(setup.make_state, setup.mesh))
    return state, _resume_clock(saved, fingerprint, path, config.train.accept_data_change), first


def _resume_clock(saved: dict[str, Any], new: str, path: pathlib.Path, accept: bool) -> dict[str, Any]:
    """The clock to continue from ``saved``; a change in the data's order is refused, or accepted and recorded."""
    old = saved["data_fingerprint"]
    if old != new and not accept:
        raise UserError(
            f"--workdir {path} was trained on data order {old}, this configuration gives {new}: the shards, the "
            "tokenizer or settings of config.data changed; start a new run folder, or continue on the new data with "
            "--config.train.accept_data_change=true"
        )
    if old != new and hosts.is_primary():
        with open(path / DATA_CHANGES, "a", encoding="utf-8") as file:
            file.write(json.dumps({"samples_seen": saved["samples_seen"], "from": old, "to": new}) + "\n")
    return {**saved, "data_fingerprint": new}


@dataclasses.dataclass(frozen=True)
class _Dispatched:
    """A step that was handed to the device; its metrics are read while the next one runs."""

    step: int
    metrics: dict[str, jax.Array]  # on the device
    rows: np.ndarray  # of the data set, of the clips of this process
    work: StepWork


class _Loop:
    """The moving parts of one stretch of training."""

    def __init__(
        self,
        config: RunConfig,
        path: pathlib.Path,
        checkpoints: Checkpoints,
        clock: dict[str, Any],
        first: int,
        shares: int,
        stop: Stop,
        lease: Lease | StoreLease | None = None,
        validation: Validation | None = None,
    ):
        self.config, self.path, self.checkpoints, self.clock, self.first = config, path, checkpoints, clock, first
        self._shares = shares  # in how many parts processes read a batch
        self._stop, self._lease = stop, lease
        self._began, self._seconds_before = time.monotonic(), clock["train_seconds"]
        self.compiles = CompileCount()
        self.validation = validation
        self._validated: dict[int, dict[str, float]] = {}  # step -> what is not yet written
        self._sums: dict[str, float] = {}  # of the finite steps since the last save
        self._finite = 0

    def run(
        self,
        state: State,
        steps: CompiledSteps,
        batches: Iterator[dict[str, np.ndarray]],
        mesh: Mesh,
        dataset: Dataset,
        collector: Collector,
    ) -> State:
        """Steps from ``first`` to the end; saves on the way, at the end and when a signal asks to stop."""
        total = self.config.train.steps
        kind = mesh.devices.flat[0].device_kind
        costs = StepCosts(self.config, of_kind(kind), mesh.size)
        rates = Rates(self.config, mesh.size, kind, self._seconds_before)
        log = RunLog(self.path, self.config, self.first, rates) if hosts.is_primary() else None
        profile = Profile(parse_steps(self.config.train.profile_steps if log else ""), self.path / "profile")
        if self.first:
            self._stop.leave_at_once(
                lambda: f"before the first step after step {self.first}, which is saved; run it again"
            )
        previous: _Dispatched | None = None
        # The order of what follows is a contract: each comment says what breaks if its lines move. Evaluation of tasks
        # has no line here: it reads what 3 saved (``alp eval --follow``, or after the last step), the state before a
        # step. The validation loss is of that state too, and so comparable with the loss that the step reports.
        try:
            for step in range(self.first, total):
                # 1. The loss of the run to another process, and an error of the save in flight, are raised first.
                #    Without this, training would go on for nobody, or with a full disk, until the next save.
                self._check_held()
                if self.checkpoints.in_flight:
                    self.checkpoints.poll()
                # 2. A trace begins and ends between steps. After 6, it would miss this step or hold one too many.
                if (step in profile.steps) != profile.running:
                    profile.turn(previous.metrics if previous else None)
                # 3. All processes agree on stopping, then save the state that ``step`` steps made. After 5 the clock on
                #    disk would count a batch that this state never saw; after 6 the state is of another step than the
                #    folder's number says, and a resumed run would train on a batch twice.
                if previous:
                    stopping = self._asks_to_stop(step)
                    if stopping or step % self.config.train.save_every == 0:
                        self.save(step, state)
                    if stopping:
                        self._report(log, dataset, previous)
                        self._leave(step)
                self._validate(step, state)
                # 4. Take the next batch, while the device is busy with the step before. Before 3, a stop would wait for
                #    a batch that nobody trains on; after 7, the device would wait for the loader.
                waited = time.monotonic()
                with hosts.stage("reading the first batch", quiet=True) if previous is None else _NOTHING:
                    batch = next(batches)
                waited = time.monotonic() - waited
                rows, cut = batch.pop("row"), batch.pop("text_cut")
                # 5. Count it while its arrays are on the host: after put_batch each of these sums would wait for the
                #    device, and cover the rows of all processes.
                work, size = self._count(batch, waited, int(cut.sum()), costs, steps)
                placed = put_batch(batch, mesh)
                # 6. The step is handed to the device, and this returns at once. The old state is gone from here on.
                program = steps.ready.get(size) or steps.program(size)
                state, metrics = program(state, placed)
                # 7. Only now look at the step before: reading its metrics waits for it, while the device has this one
                #    to go on with. Before 6 the device would stand still for as long as the host is at work.
                if previous is None:
                    self._stop.leave_at_once(None)
                else:
                    self._report(log, dataset, previous)
                previous = _Dispatched(step, metrics, rows, work)
                # 8. Garbage is collected after the hand-over, at the same step everywhere: before it, or whenever
                #    Python likes, every device would wait for the slowest host.
                if collector.every and (step + 1) % collector.every == 0:
                    gc.collect()
            if previous:
                self._report(log, dataset, previous)
            self._validate_last(log, state)
            self.save(total, state)
            if self._asks_to_stop(total):
                self._leave(total)
        finally:
            profile.close()
            if log is not None:
                log.close()
        return state

    def _validate(self, step: int, state: State) -> None:
        """Measures the validation loss of the state before ``step`` where it is due; written beside that step's."""
        if self.validation and step % self.config.train.validate_every == 0:
            self._validated[step] = self.validation.of(state)

    def _validate_last(self, log: RunLog | None, state: State) -> None:
        """The validation loss of the last state, as a line of its own and as results."""
        if self.validation is None:
            return
        values, step = self.validation.of(state), self.config.train.steps
        if log is not None:
            log.write_validation(step, values)
            for result in self.validation.results(values, step):
                result.write(self.path / RESULTS)

    def _check_held(self) -> None:
        """Raises StorageError once it is known that another process has taken over the run; asks nobody."""
        if self._lease and self._lease.lost:
            raise StorageError(self._lease.lost)

    def save(self, step: int, state: State) -> None:
        self._check_held()
        self.clock["train_seconds"] = self._seconds_before + time.monotonic() - self._began
        means = {name: total / self._finite for name, total in self._sums.items()}
        with hosts.stage("saving", quiet=True, every=self.config.train.save_every):
            self.checkpoints.save(step, state, dict(self.clock), means)
        self._sums, self._finite = {}, 0

    def _asks_to_stop(self, step: int) -> bool:
        """Whether a signal ends this run before ``step``; with other processes, whether they agreed to that."""
        return (bool(self._stop.number) or not self._stop.alone) and self._stop.due(step)

    def _leave(self, step: int) -> None:
        with hosts.stage("saving", quiet=True):
            self.checkpoints.wait()
        raise Preempted(f"stopped by signal {self._stop.number} after step {step}, which is saved; run it again")

    def _count(
        self, batch: dict[str, np.ndarray], waited: float, cut: int, costs: StepCosts, steps: CompiledSteps
    ) -> tuple[StepWork, Size]:
        """Adds a batch to the clock; returns its work and its size over all processes."""
        shares, width = self._shares, batch["text"].shape[1]
        rows, samples = batch["audio"].shape
        clips = int(batch["mask"].sum()) * shares
        seconds = float(batch["audio_len"].sum()) / SAMPLE_RATE * shares
        tokens = int(batch["text_len"].sum()) * shares
        rows *= shares
        size = rows, samples, width
        flops, moved = costs.known.get(size) or costs.of(size, steps)
        self.clock["samples_seen"] += clips
        self.clock["audio_seconds"] += seconds
        self.clock["flops"] += flops
        padded_s, cut = rows * (samples / SAMPLE_RATE), cut * shares
        work = StepWork(waited, clips, seconds, padded_s, tokens, rows * width, cut, flops, moved)
        return work, size

    def _report(self, log: RunLog | None, dataset: Dataset, done: _Dispatched) -> None:
        """Looks at a finished step: logs it when due, names its clips when it was not finite."""
        step, metrics = done.step, done.metrics
        if self.checkpoints.uploads:
            self.checkpoints.uploads.reported = step  # the logs have the numbers of all steps before it
        if log is not None:
            log.progress.done = step + 1
            log.work.append(done.work)
        bad = int(metrics["bad_steps"])
        if bad:
            clips = [dataset.read(int(row)).id for row in done.rows]
            with open(self.path / BAD_STEPS, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "clips": clips}) + "\n")
            if bad >= self.config.train.max_bad_steps:
                raise NumericsError(
                    f"{bad} non-finite steps in a row up to step {step}; their clips are in "
                    f"{self.path / BAD_STEPS}; lower config.optim.lr or look at the clips"
                )
            return
        if self.config.train.keep_best:
            self._finite += 1
            for name, value in metrics.items():
                self._sums[name] = self._sums.get(name, 0.0) + float(value)
        measured = self._validated.pop(step, {})
        due = step % self.config.train.log_every == 0 or step + 1 == self.config.train.steps or bool(measured)
        if log is not None and due:
            values = {name: float(value) for name, value in metrics.items()} | measured
            log.write(step, values | {"compiles": float(self.compiles.programs)})
