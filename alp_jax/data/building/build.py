"""Clips to a data set: shards written in parallel, one index table, and an account of every clip.

The clip's place (shard and row) follows from the ladder's hash order, so the same clips give the same bytes with any
engine, number of workers and number of parts, and a small rung lies in the first shards. A build that was stopped
resumes where it was.
"""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from alp_jax.core import files, storage
from alp_jax.core.clip import Clip, Rejected
from alp_jax.core.cores import usable_cores
from alp_jax.core.errors import DataError, UserError
from alp_jax.core.names import choose
from alp_jax.core.progress import Progress
from alp_jax.data.building import shard, staging, tables, worker
from alp_jax.data.building.account import account, bad, reasons_line
from alp_jax.data.building.part import WHOLE_BUILD, BuildPart
from alp_jax.data.building.planned import PLAN_ROWS, WORK, Planned, plan_build, work_folder
from alp_jax.data.building.settings import BuildSettings
from alp_jax.data.store.schema import ACCOUNTING, AUDIT_SCHEMA, INDEX_SCHEMA, INFO, PLAN

ENGINES = ("pool", "beam")
Engine = Callable[
    [Sequence[shard.Task], str, BuildPart], None
]  # carries out the tasks of a part of the data set in a folder


def build(
    clips: Iterable[Clip | Rejected],
    out_dir: storage.Location,
    *,
    source_name: str,
    max_bad_share: float = 0.05,
    part: BuildPart | None = None,
    split_rule: Mapping | None = None,
    engine: str = "pool",
    workers: int = 0,
    beam_options: Sequence[str] = (),
    watch: Mapping[str, float] | None = None,
    **settings,
) -> dict:
    """Builds the data set ``out_dir`` from a stream of clips and returns its accounting (as in ``dataset.json``).

    Args:
      source_name: name of the collection, kept in ``dataset.json``.
      max_bad_share: share of clips and rows that may be unusable before the build fails.
      part: write only the shards of this part, and return ``written``'s account of them. When all parts are written, a
        call without ``part`` makes a data set of them.
      split_rule: how clips without a stated split were split, kept in ``dataset.json``.
      engine, workers, beam_options, watch: see ``engine_of``.
      settings: as of ``BuildSettings.of``.

    Raises:
      UserError: no clips, a bad setting, or ``out_dir`` holds something else, which is not overwritten.
      DataError: too many unusable clips; ``accounting.json`` in ``out_dir`` says which and why.
      StorageError: shards could not be written.
    """
    check_bad_share(max_bad_share)
    run = engine_of(engine, workers, beam_options, watch or {})
    chosen = BuildSettings.of(**settings)
    out = os.fspath(out_dir)
    planned = plan_build(clips, out, chosen, part or WHOLE_BUILD)
    if part is not None:
        return write_part(planned, chosen, run, part)
    if planned.complete:
        return tables.read_json(out, INFO)["accounting"]
    write_part(planned, chosen, run)
    about = {"collection": source_name} | ({"split_rule": dict(split_rule)} if split_rule else {})
    return finish(planned, chosen, about, max_bad_share)


def check_bad_share(max_bad_share: float) -> None:
    """Raises UserError unless ``max_bad_share`` is a share."""
    if not 0 <= max_bad_share <= 1:
        raise UserError(f"max_bad_share = {max_bad_share}: must be between 0 and 1")


def engine_of(engine: str, workers: int, beam_options: Sequence[str], watch: Mapping[str, float]) -> Engine:
    """What carries out tasks.

    Args:
      engine: ``pool``, processes on this machine, or ``beam``.
      workers: decoding processes of the pool; 0 takes one per core.
      beam_options: command line options of Apache Beam, such as ``--runner=DataflowRunner``.
      watch: keyword arguments of ``worker.run``.

    Raises:
      UserError: an unknown name, Beam is not installed, or options that it rejects.
    """
    if choose(engine, ENGINES, "engine") == "beam":
        from alp_jax.data.building import beam

        on_beam = beam.engine(beam_options, watch)

        def run_beam(tasks: Sequence[shard.Task], out: str, part: BuildPart) -> None:
            if storage.is_remote(out):  # audio laid out on this machine would be out of reach
                on_beam(tasks)
                return
            with work_folder(out, part) as work, contextlib.closing(staging.waves(tasks, work)) as waves:
                for wave in waves:
                    on_beam(wave)

        return run_beam
    if beam_options:
        raise UserError(f"beam_options {' '.join(beam_options)}: they need engine = beam")

    def run(tasks: Sequence[shard.Task], out: str, part: BuildPart) -> None:
        if not tasks:
            return
        with (
            Progress("build shards", sum(task.clips for task in tasks), "clips") as progress,
            work_folder(out, part) as work,
            contextlib.closing(staging.waves(tasks, work)) as waves,
        ):
            for wave in waves:
                for started in worker.run(wave, workers or len(usable_cores()), **watch):
                    progress.update(started)

    return run


def write_part(planned: Planned, chosen: BuildSettings, run: Engine, part: BuildPart = WHOLE_BUILD) -> dict:
    """Writes the shards of a part that are not finished.

    Returns:
      ``part``, how many ``shards`` it has, how many were ``written`` now, and how many of the whole build are ``left``.

    Raises:
      StorageError: a shard could not be written.
    """
    tasks = [] if planned.complete else planned.tasks(chosen)
    todo = [task for task in part.share_of(tasks) if not shard.finished(task)]
    run(todo, planned.out, part)
    others = [task for task in tasks if (task.number - part.number + 1) % part.of]
    left = sum(not shard.finished(task) for task in others)
    return {"part": str(part), "shards": len(part.share_of(planned.counts)), "written": len(todo), "left": left}


def finish(planned: Planned, chosen: BuildSettings, about: dict, max_bad_share: float) -> dict:
    """Assembles the tables, checks that enough clips are usable, and makes the folder a data set; its accounting.

    Args:
      about: what ``dataset.json`` says besides.

    Raises:
      DataError: a shard is not finished, or too many clips are unusable.
    """
    out = planned.out
    collected = tables.collect([task.path for task in planned.tasks(chosen)])
    index = _index(collected.clips, chosen.dedupe)
    accounting = account(planned.expected, planned.left_out, collected.failures, index)
    unusable = bad(accounting)
    if unusable / accounting["expected"] > max_bad_share or not len(index):
        storage.write(storage.join(out, ACCOUNTING), files.json_text(accounting).encode())
        raise DataError(
            f"{unusable} of {accounting['expected']} clips are unusable ({unusable / accounting['expected']:.1%}, "
            f"above max_bad_share = {max_bad_share:g}): {reasons_line(accounting)}; "
            f"{storage.join(out, ACCOUNTING)} names them"
        )
    info = tables.facts() | about | {"plan": planned.identity}
    info |= {
        "codec": chosen.codec,
        "limits": dataclasses.asdict(chosen.limits),
        "dedupe": chosen.dedupe,
        "caption_filter": dataclasses.asdict(chosen.captions) | {"dropped": planned.dropped_captions},
        "fingerprint": tables.content_fingerprint(collected.shards, index["excluded"]),
        "num_clips": len(index),
        "shards": collected.shards,
        "index": tables.write_index(out, index),
        "audit": tables.write_audit(out, collected.clips),
        "accounting": accounting,
    }
    tables.write_info(out, info)  # from here on it is a data set, and the plan is no longer needed
    for name in storage.names(out):
        if name in (PLAN, PLAN_ROWS, ACCOUNTING) or name.startswith((".clips-", ".index.", ".plan.", ".staged.")):
            storage.remove(storage.join(out, name))  # the latter are left by killed workers
        elif name.startswith(WORK):
            shutil.rmtree(storage.local(storage.join(out, name)))  # by a killed part
    return accounting


def _index(clips: pa.Table, dedupe: str) -> pa.Table:
    """The columns of the index, and the measurements; of training clips with equal sound only one stays in use."""
    for name in ("source", "split"):
        coded = clips[name].combine_chunks().dictionary_encode().cast(INDEX_SCHEMA.field(name).type)
        clips = tables.replaced(clips, name, coded)
    order = np.arange(len(clips))  # rows come in ladder order
    again = np.zeros(len(clips), bool)
    if dedupe != "none":
        source = clips["source"].combine_chunks().indices.to_numpy()
        sound = tables.scoped(clips["audio_hash"].to_numpy(), source, dedupe)
        richest = tables.richest_first(order, clips["num_captions"].to_numpy())
        again = tables.repeats(sound, richest, tables.named(clips["split"], "train"))
    excluded = tables.exclusions((tables.IN_USE, "duplicate_audio"), again.astype(int))
    index = clips.drop_columns(AUDIT_SCHEMA.names).append_column("excluded", excluded)
    return tables.with_ladder(index, order)
