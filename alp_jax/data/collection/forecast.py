"""What a build of several corpora will cost, told before a sound is decoded: hours, disk, core-hours."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from alp_jax.core.pace import duration

# Measured with ``shard.write`` (decode, resample, encode, landmarks, hashes) on one core of a shared two-core machine,
# for files of 4 to 60 s as wav, flac, m4a and mp3 at 16 to 44.1 kHz: 1.3 to 3.0 ms a second. Other machines differ.
_CLIP_S, _SECOND_S = 1e-3, 2.0e-3  # processor seconds of a clip, and of a second of its audio
_PLAN_S = 60e-6  # of a row of metadata: read, hashed, put in order
_BYTES = {"flac": 18_700, "pcm": 32_000}  # of a second at 16 kHz; that of flac is a mean, of 15,000 to 24,000
_CLIP_BYTES = 1_500  # of a clip besides its audio: captions, indexes, landmarks
_PLAN_BYTES = 600  # of a row, while it is built: spool and plan
_USUAL_S = 10.0  # length of a clip where nothing is known of it


@dataclasses.dataclass(frozen=True)
class Load:
    """What is to be built of one corpus.

    Attributes:
      clips: their number.
      hours: that their metadata states together.
      unknown: number of clips whose length it does not state.
      published: whether these are the published figures of a corpus that is not there.
      cost: see ``corpora.captionstew.Member``.
    """

    clips: int
    hours: float
    unknown: int = 0
    published: bool = False
    cost: float = 1.0

    @classmethod
    def of(cls, lengths: Mapping[str, tuple[int, float, int]], cost: float) -> "Load":
        """From ``plan.Spool.lengths``."""
        clips, seconds, unknown = (sum(entry[part] for entry in lengths.values()) for part in range(3))
        return cls(int(clips), seconds / 3600, int(unknown), cost=cost)

    @classmethod
    def of_account(cls, account: Mapping, cost: float = 1.0) -> "Load":
        """From the account of ``preview``."""
        hours = sum(split["hours"] for split in account["splits"].values())
        return cls(account["usable"], hours, sum(account["without_length"].values()), cost=cost)


def costs(load: Load, codec: str) -> dict:
    """``hours`` (clips of unknown length as long as the others), ``core_hours`` and ``bytes``; ``temporary_bytes``
    until it is done."""
    known = load.clips - load.unknown
    usual = load.hours / known if known and load.hours else _USUAL_S / 3600
    hours = load.hours + usual * (load.unknown if load.hours else load.clips)
    seconds = hours * 3600
    busy = load.clips * (_CLIP_S + _PLAN_S) + seconds * _SECOND_S * load.cost
    return {
        "clips": load.clips,
        "hours": round(hours, 2),
        "core_hours": round(busy / 3600, 4),
        "bytes": round(seconds * _BYTES[codec] + load.clips * _CLIP_BYTES),
        "temporary_bytes": load.clips * _PLAN_BYTES,
        "unknown": load.unknown,
        "published": load.published,
    }


def cost_forecast(loads: Mapping[str, Load], codec: str) -> dict:
    """``costs`` of each corpus under ``corpora``, and their sums."""
    corpora = {name: costs(load, codec) for name, load in loads.items()}
    keys = ("clips", "hours", "core_hours", "bytes", "temporary_bytes")
    return {"corpora": corpora} | {key: round(sum(one[key] for one in corpora.values()), 4) for key in keys}


def cost_lines(told: Mapping, cores: int, parts: int, free: int | None) -> Iterator[str]:
    """``forecast`` as a table, and what it means for ``cores`` cores on each of ``parts`` machines.

    Args:
      free: bytes that are free where the data set goes; None if that is not known.
    """
    yield f"  {'corpus':<18}{'clips':>12}{'hours':>11}{'core-hours':>12}{'disk, GB':>11}"
    for name, one in (*told["corpora"].items(), ("together", told)):
        figures = f"{one['clips']:>12,}{one['hours']:>11,.1f}{one['core_hours']:>12,.1f}{one['bytes'] / 1e9:>11,.1f}"
        yield f"  {name:<18}{figures}{'  ' + _note(one) if _note(one) else ''}"
    machines = f"{parts} machines of {cores} cores" if parts > 1 else f"{cores} core{'s' * (cores > 1)}"
    yield (
        f"on {machines} that is about {duration(told['core_hours'] * 3600 / (cores * parts))}, within a factor of two; "
        f"plans take {told['temporary_bytes'] / 1e9:.1f} GB until they are carried out"
    )
    needed = told["bytes"] + told["temporary_bytes"]
    if free is not None and needed > free:
        yield f"NOT ENOUGH DISK: about {needed / 1e9:,.1f} GB are needed, {free / 1e9:,.1f} GB are free"


def _note(one: Mapping) -> str:
    if one.get("published"):
        return "not there: as published"
    return f"{one['unknown']:,} clips of unstated length" if one.get("unknown") else ""


def published_loads(members: Sequence) -> dict[str, Load]:
    """The published figures of corpora (``corpora.captionstew.Member``), of those that state any."""
    return {one.name: Load(one.clips, one.hours, 0, True, one.cost) for one in members if one.clips}
