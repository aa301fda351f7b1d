"""The plan of a build on disk: which clips go into which shard, claimed for the folder before any shard is written."""

import contextlib
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from alp_jax.core import files, storage
from alp_jax.core.clip import Clip, Rejected
from alp_jax.core.errors import StorageError, UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.data.building import plan, shard, staging, tables
from alp_jax.data.building.part import WHOLE_BUILD, BuildPart
from alp_jax.data.building.settings import BuildSettings
from alp_jax.data.store.schema import INFO, PLAN, SCHEMA_VERSION

PLAN_ROWS = "plan.arrow"
WORK = ".part"  # begins the names of the folders in which parts keep what they need for a while
_SPOOL = ".plan.spool"
_CLIPS_PER_SHARD, _MAX_SHARDS = 256, 1024


@dataclasses.dataclass(frozen=True)
class Planned:
    """A build whose clips are arranged.

    Attributes:
      out: the folder of the data set.
      identity: of the clips, settings and number of shards.
      counts: clips of each shard.
      expected, left_out, dropped_captions: as of ``plan.Spool``.
      lengths: source -> how many clips are planned, the seconds that their metadata states together, and how many
        state none.
      complete: whether the data set is there already.
    """

    out: str
    identity: str
    counts: list[int]
    expected: Mapping[str, int]
    left_out: Mapping[str, plan.LeftOut]
    dropped_captions: Mapping[str, int]
    lengths: Mapping[str, tuple[int, float, int]]
    complete: bool = False

    def tasks(self, chosen: BuildSettings) -> list[shard.Task]:
        """The work, one task for each shard."""
        return [
            shard.Task(
                storage.join(self.out, shard.name(number, len(self.counts))),
                self.identity,
                storage.join(self.out, PLAN_ROWS),
                number,
                count,
                chosen.codec,
                chosen.limits,
            )
            for number, count in enumerate(self.counts)
        ]


def plan_build(
    clips: Iterable[Clip | Rejected], out: str, chosen: BuildSettings, part: BuildPart = WHOLE_BUILD
) -> Planned:
    """Plans a build and claims its folder; writes the plan unless it is there.

    Every part of a build plans all of it. The plans are the same, so it does no harm that each writes it.

    Raises:
      UserError: no clips, or ``out`` holds something else.
      StorageError: the plan cannot be written.
    """
    if not storage.is_remote(out) and storage.local(out).exists() and not storage.local(out).is_dir():
        raise UserError(f"{out} is a file; choose a folder for the data set")
    try:
        names = set(storage.names(out))
    except OSError as error:
        raise UserError(f"{out} cannot be listed: {error}") from None
    own = {_SPOOL, PLAN_ROWS, staging.NAME, staging.OFFSETS}
    if not names & {INFO, PLAN} and any(name not in own and not name.startswith((WORK, ".plan.")) for name in names):
        raise UserError(f"{out} is not empty and is not a data set; choose an empty folder")
    with work_folder(out, part) as work:
        try:
            spooled = plan.spool(clips, work / _SPOOL, dedupe=chosen.dedupe, captions=chosen.captions)
            if not len(spooled):
                raise UserError(f"no clips to build {out} from{rejected_line(spooled)}")
            order = plan.arrange(spooled, chosen.dedupe)
            shards = num_shards(len(order), chosen.shards)
            identity = fingerprint([SCHEMA_VERSION, plan.digest(spooled, order), dataclasses.asdict(chosen), shards])
            complete = _claimed(out, identity) == INFO
            if not complete:
                # The order makes a stopped build safe to repeat: the plan is there before the claim that promises it.
                if PLAN not in names or PLAN_ROWS not in names:
                    plan.write(spooled, order, shards, storage.join(out, PLAN_ROWS))
                storage.write(storage.join(out, PLAN), files.json_text({"plan": identity}).encode())
        finally:
            (work / _SPOOL).unlink(missing_ok=True)
    return Planned(
        out,
        identity,
        np.diff(plan.bounds(len(order), shards)).tolist(),
        spooled.expected,
        spooled.left_out,
        spooled.dropped_captions,
        spooled.lengths(order),
        complete,
    )


@contextlib.contextmanager
def work_folder(out: str, part: BuildPart = WHOLE_BUILD) -> Iterator[pathlib.Path]:
    """A folder on this machine for what a part needs for a while: the data set's own, or one inside it for a part.

    Folders that are left empty are removed again.
    """
    if storage.is_remote(out):
        with tempfile.TemporaryDirectory() as temporary:
            yield pathlib.Path(temporary)
        return
    folder = storage.local(out)
    made = [] if folder.exists() else [folder]
    work = folder / f"{WORK}{part.suffix}" if part.suffix else folder
    try:
        work.mkdir(parents=True, exist_ok=True)
        yield work
    except PermissionError as error:
        raise UserError(f"{folder} cannot be written: {error}") from None
    except OSError as error:
        raise StorageError(f"{folder} could not be written: {error}") from None
    finally:
        for one in [work] * (work != folder) + made:
            with contextlib.suppress(OSError):  # not empty, or removed by another part
                os.rmdir(one)


def num_shards(clips: int, asked: int) -> int:
    """Number of shards for this many clips: ``asked``, or one chosen here if that is 0."""
    return min(clips, asked or min(_MAX_SHARDS, -(-clips // _CLIPS_PER_SHARD)))


def rejected_line(spooled: plan.Spool) -> str:
    """Why rows were rejected, as the end of a message: ``: 3 empty_caption, such as FILE row 1``."""
    left_out = sorted(spooled.left_out.items(), key=lambda item: -item[1].count)
    return ": " + ", ".join(f"{e.count} {reason}, such as {e.names[0]}" for reason, e in left_out) if left_out else ""


def _claimed(out: str, identity: str) -> str:
    """The file by which ``out`` belongs to this build, "" if it is free; UserError if it is another's."""
    names = set(storage.names(out))
    for name in (INFO, PLAN):
        if name in names:
            if tables.read_json(out, name).get("plan") != identity:
                raise UserError(
                    f"{out} holds a different build (clips, codec, shards, limits or filters); choose an empty folder"
                )
            return name
    return ""
