"""Clips to a data set: shards written in parallel, one index table, and an account of every clip.

The clip's place (shard and row) follows from the ladder's hash order, so the same clips give the same bytes with any
engine and number of workers, and a small rung lies in the first shards. A build that was stopped resumes where it was.
"""

import contextlib
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alp_jax.core import files, storage
from alp_jax.core.clip import SAMPLE_RATE, Clip, Rejected
from alp_jax.core.cores import usable_cores
from alp_jax.core.errors import DataError, StorageError, UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.core.names import choose
from alp_jax.core.progress import Progress
from alp_jax.data.audio import reader
from alp_jax.data.building import plan, shard, staging, tables, worker
from alp_jax.data.building.account import FAILURES, account, bad, reasons_line
from alp_jax.data.building.filters import CaptionFilter
from alp_jax.data.store import records
from alp_jax.data.store.schema import ACCOUNTING, AUDIT_SCHEMA, INDEX_SCHEMA, INFO, PLAN, SCHEMA_VERSION

ENGINES = ("pool", "beam")
PLAN_ROWS = "plan.arrow"
_CLIPS_PER_SHARD, _MAX_SHARDS = 256, 1024
_SPOOL = ".plan.spool"
_PIECE = 65_536  # clips that a preview handles at a time
_LONGEST_S = 60_000.0  # seconds; samples and bytes of such a clip still fit the index


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the content of a data set besides its clips.

    Attributes:
      codec: ``flac`` or ``pcm``.
      shards: number of shards; 0 chooses 256 clips a shard and at most 1024 shards.
      limits: limits of a clip.
      dedupe: ``source``, ``all`` or ``none``: among which clips a stretch of a recording, and a sound, may be used
        only once.
      captions: which captions of training clips are kept.
    """

    codec: str = "flac"
    shards: int = 0
    limits: reader.Limits = dataclasses.field(default_factory=reader.Limits)
    dedupe: str = "source"
    captions: CaptionFilter = dataclasses.field(default_factory=CaptionFilter)

    def __post_init__(self):
        choose(self.codec, records.CODECS, "codec")
        choose(self.dedupe, plan.DEDUPE, "dedupe")
        if self.shards < 0:
            raise UserError(f"shards = {self.shards}: must not be negative")
        if not 0 < self.limits.min_seconds <= self.limits.max_seconds:
            limits = self.limits
            raise UserError(f"max_seconds = {limits.max_seconds}: must be at least min_seconds = {limits.min_seconds}")
        if self.limits.max_seconds > _LONGEST_S:
            raise UserError(f"max_seconds = {self.limits.max_seconds}: must be at most {_LONGEST_S:g}")

    @classmethod
    def of(cls, **settings) -> "Settings":
        """Settings from keywords, ``min_seconds`` and ``max_seconds`` for ``limits``; UserError names a bad one."""
        limits = {name: settings.pop(name) for name in ("min_seconds", "max_seconds") if name in settings}
        return cls(**settings, limits=reader.Limits(**limits))


def build(
    clips: Iterable[Clip | Rejected],
    out_dir: storage.Location,
    *,
    source_name: str,
    max_bad_share: float = 0.05,
    engine: str = "pool",
    workers: int = 0,
    beam_options: Sequence[str] = (),
    watch: Mapping[str, float] | None = None,
    split_rule: Mapping | None = None,
    **settings,
) -> dict:
    """Builds the data set ``out_dir`` from a stream of clips and returns its accounting (as in ``dataset.json``).

    Args:
      source_name: name of the collection, kept in ``dataset.json``.
      max_bad_share: share of clips and rows that may be unusable before the build fails.
      engine: ``pool``, processes on this machine, or ``beam``.
      workers: decoding processes of the pool; 0 takes one per core.
      beam_options: command line options of Apache Beam, such as ``--runner=DataflowRunner``.
      watch: keyword arguments of ``worker.run``.
      split_rule: how clips without a stated split were split, kept in ``dataset.json``.
      settings: as of ``Settings.of``.

    Raises:
      UserError: no clips, a bad setting, or ``out_dir`` holds something else, which is not overwritten.
      DataError: too many unusable clips; ``accounting.json`` in ``out_dir`` says which and why.
      StorageError: shards could not be written.
    """
    if not 0 <= max_bad_share <= 1:
        raise UserError(f"max_bad_share = {max_bad_share}: must be between 0 and 1")
    run = _engine(engine, workers, beam_options, watch or {})
    chosen = Settings.of(**settings)
    out = os.fspath(out_dir)
    if not storage.is_remote(out) and storage.local(out).exists() and not storage.local(out).is_dir():
        raise UserError(f"{out} is a file; choose a folder for the data set")
    names = set(storage.names(out)) - {_SPOOL, staging.NAME, staging.OFFSETS}
    if names and not names & {INFO, PLAN}:
        raise UserError(f"{out} is not empty and is not a data set; choose an empty folder")
    # This order makes a stopped build safe to repeat: settings are checked before anything is read, the plan is claimed
    # before a shard is written, and dataset.json, without which nothing opens the folder, comes last.
    with _spool_path(out) as path:
        spooled = plan.spool(clips, path, dedupe=chosen.dedupe, captions=chosen.captions)
        if not len(spooled):
            raise UserError(f"no clips to build {out} from{_rejected_line(spooled)}")
        order = plan.arrange(spooled, chosen.dedupe)
        shards = _num_shards(len(order), chosen.shards)
        identity = fingerprint([SCHEMA_VERSION, plan.digest(spooled, order), dataclasses.asdict(chosen), shards])
        if _claim(out, identity):
            return tables.read_json(out, INFO)["accounting"]
        counts = plan.write(spooled, order, shards, storage.join(out, PLAN_ROWS))
    tasks = [
        shard.Task(
            storage.join(out, shard.name(s, shards)),
            identity,
            storage.join(out, PLAN_ROWS),
            s,
            counts[s],
            chosen.codec,
            chosen.limits,
        )
        for s in range(shards)
    ]
    run([task for task in tasks if not shard.finished(task)], out)
    about = {"collection": source_name, "plan": identity} | ({"split_rule": dict(split_rule)} if split_rule else {})
    return _finish(out, tasks, spooled, chosen, about, max_bad_share)


def _engine(
    name: str, workers: int, beam_options: Sequence[str], watch: Mapping[str, float]
) -> Callable[[Sequence[shard.Task], str], None]:
    """The function that carries out the tasks of the data set in a folder."""
    if choose(name, ENGINES, "engine") == "beam":
        from alp_jax.data.building import beam

        on_beam = beam.engine(beam_options, watch)
        return lambda tasks, _: on_beam(tasks)
    if beam_options:
        raise UserError(f"beam_options {' '.join(beam_options)}: they need engine = beam")

    def run(tasks: Sequence[shard.Task], out: str) -> None:
        if not tasks:
            return
        with (
            Progress("build shards", sum(task.clips for task in tasks), "clips") as progress,
            contextlib.closing(staging.waves(tasks, out)) as waves,
        ):
            for wave in waves:
                for started in worker.run(wave, workers or len(usable_cores()), **watch):
                    progress.update(started)

    return run


@contextlib.contextmanager
def _spool_path(out: str) -> Iterator[pathlib.Path]:
    """Where clips are spooled: in the folder of a local data set, which is removed again if left empty."""
    if storage.is_remote(out):
        with tempfile.TemporaryDirectory() as folder:
            yield pathlib.Path(folder, _SPOOL)
        return
    folder = storage.local(out)
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder / _SPOOL
    except PermissionError as error:
        raise UserError(f"{folder} cannot be written: {error}") from None
    except OSError as error:
        raise StorageError(f"the plan of {folder} could not be written: {error}") from None
    finally:
        (folder / _SPOOL).unlink(missing_ok=True)
        if made and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


def _num_shards(clips: int, asked: int) -> int:
    """Number of shards for so many clips: ``asked``, or one chosen here if that is 0."""
    return min(clips, asked or min(_MAX_SHARDS, -(-clips // _CLIPS_PER_SHARD)))


def _rejected_line(spooled: plan.Spool) -> str:
    """Why rows were rejected, as the end of a message: ``: 3 empty_caption, such as FILE row 1``."""
    left_out = sorted(spooled.left_out.items(), key=lambda item: -item[1].count)
    return ": " + ", ".join(f"{e.count} {reason}, such as {e.names[0]}" for reason, e in left_out) if left_out else ""


def _claim(out: str, identity: str) -> bool:
    """Claims the folder for this build; True if the data set is already complete."""
    names = set(storage.names(out))
    for name in (INFO, PLAN):
        if name in names:
            if tables.read_json(out, name).get("plan") != identity:
                raise UserError(
                    f"{out} holds a different build (clips, codec, shards, limits or filters); choose an empty folder"
                )
            return name == INFO
    storage.write(storage.join(out, PLAN), files.json_text({"plan": identity}).encode())
    return False


def _finish(
    out: str, tasks: list[shard.Task], spooled: plan.Spool, chosen: Settings, about: dict, max_bad_share: float
) -> dict:
    """Assembles the tables, checks that enough clips are usable, and makes the folder a data set."""
    collected = tables.collect([task.path for task in tasks])
    index = _index(collected.clips, chosen.dedupe)
    accounting = account(spooled.expected, spooled.left_out, collected.failures, index)
    unusable = bad(accounting)
    if unusable / accounting["expected"] > max_bad_share or not len(index):
        storage.write(storage.join(out, ACCOUNTING), files.json_text(accounting).encode())
        raise DataError(
            f"{unusable} of {accounting['expected']} clips are unusable ({unusable / accounting['expected']:.1%}, "
            f"above max_bad_share = {max_bad_share:g}): {reasons_line(accounting)}; "
            f"{storage.join(out, ACCOUNTING)} names them"
        )
    info = tables.facts() | about
    info |= {
        "codec": chosen.codec,
        "limits": dataclasses.asdict(chosen.limits),
        "dedupe": chosen.dedupe,
        "caption_filter": dataclasses.asdict(chosen.captions) | {"dropped": spooled.dropped_captions},
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


def preview(clips: Iterable[Clip | Rejected], chosen: Settings) -> dict:
    """The account that ``build`` would start from; nothing is written and no audio is opened.

    Returns:
      As ``build``, where ``usable`` counts the clips it would try to decode, and hours are those stated by the
      metadata. The only check of a file is whether it is there and readable, so of the reader's reasons only
      ``missing``, ``unreadable`` and ``not_a_file`` occur, and none of them where clips were read without a folder of
      audio. Also ``shards``, ``without_length`` (clips whose length the metadata does not state, by source) and
      ``dropped_captions`` (by reason).

    Raises:
      UserError: no clips.
    """
    with tempfile.TemporaryDirectory() as folder:
        spooled = plan.spool(clips, pathlib.Path(folder, "spool"), dedupe=chosen.dedupe, captions=chosen.captions)
        if not len(spooled):
            raise UserError(f"no clips to build from{_rejected_line(spooled)}")
        order = plan.arrange(spooled, chosen.dedupe)
        pieces = list(_pieces(spooled, order))
    failures, stored = (pa.concat_tables(parts) for parts in zip(*pieces, strict=True))
    unknown = stored.filter(pc.equal(stored["num_samples"], 0)).group_by("source").aggregate([([], "count_all")])
    return account(spooled.expected, spooled.left_out, failures, stored) | {
        "shards": _num_shards(len(stored), chosen.shards),
        "without_length": dict(sorted((row["source"], row["count_all"]) for row in unknown.to_pylist())),
        "dropped_captions": spooled.dropped_captions,
    }


def _pieces(spooled: plan.Spool, order: np.ndarray) -> Iterator[tuple[pa.Table, pa.Table]]:
    """(clips whose file is missing, the others as columns of an index), in the order they came."""
    known: dict[str, tuple[str, str]] = {}  # cached, because a container holds many clips
    order = np.sort(order)
    for first in range(0, len(order), _PIECE):
        batch = pa.table(spooled.gather(order[first : first + _PIECE]))
        files = zip(batch["audio_path"].to_pylist(), batch["member"].to_pylist(), strict=True)
        why = [_why_not(path, member, known) for path, member in files]
        there = pa.array([not reason for reason, _ in why])
        lost, kept = batch.filter(pc.invert(there)), batch.filter(there)
        told = [pa.array([pair[part] for pair in why if pair[0]], pa.string()) for part in (0, 1)]
        failures = pa.table([lost["id"], lost["source"], lost["audio_path"], *told], schema=FAILURES)
        samples = pc.round(pc.multiply(pc.coalesce(kept["duration_s"], kept["stated_s"], 0.0), float(SAMPLE_RATE)))
        columns = {
            "source": kept["source"],
            "split": kept["split"],
            "excluded": pa.array([""] * len(kept), pa.string()),
            "num_samples": samples.cast(pa.int64()),
            "num_captions": pc.list_value_length(kept["captions"]),
        }
        yield failures, pa.table(columns)


def _why_not(path: str, member: str, known: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """Why a file cannot be opened: reason and detail, both "" if it can, or if there is no path."""
    if not path:
        return "", ""
    if not member:
        return reader.status(path)[1:]
    if path not in known:
        known[path] = reader.status(path)[1:]
    return known[path]
