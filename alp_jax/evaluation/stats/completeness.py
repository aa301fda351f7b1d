"""Whether a data set is complete: clips that it should hold from its sources but does not, and clips it does not use.

What its sources should hold is told twice: by the metadata that it was built from, which may already lack clips, and
for published sets by the official count of every split.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from alp_jax.data.audit.audit import LEAK

MAX_MISSING = 0.02  # a result is marked incomplete above this share
CHOSEN = ("duplicate_stretch", "filtered_captions", "other_task")  # left out of a data set by choice
_ANY = "any split"
# source -> clips of every split as published; of a set without an official split, of all splits together
OFFICIAL: Mapping[str, Mapping[str, int]] = {
    "fsd50k": {"train": 36_796, "valid": 4_170, "test": 10_231},
    "vggsound": {"train": 183_730, "test": 15_446},
    "voxceleb1": {"train": 138_361, "valid": 6_904, "test": 8_251},
    "voxceleb2": {_ANY: 1_092_009},
    "crema_d": {_ANY: 7_442},
    "magnatagatune": {"train": 18_709, "valid": 1_825, "test": 5_329},
    "nsynth": {"train": 289_205, "valid": 12_678, "test": 4_096},
    "audioset_strong": {"train": 103_463, "test": 16_996},
    "audiocaps": {"train": 49_838, "valid": 495, "test": 975},
    "audiocaps_v2": {"train": 91_256, "valid": 495, "test": 975},
    "musiccaps": {"train": 2_663, "test": 2_858},
    "paraspeechcaps": {"train": 116_516, "valid": 11_967, "test": 14_756},  # of the smaller training table, train_base
    "clotho": {"train": 3_839, "valid": 1_045, "test": 1_045},
}


def completeness(accounting: Mapping | None, sources: Iterable[str]) -> dict[str, Any]:
    """What is missing from ``sources`` and what is not used of them.

    Args:
      accounting: of the build: for every source how many clips its metadata listed, why some are not stored, how many
        are in use in each split, and why others are not.

    Returns:
      ``{"expected", "missing", "reasons", "share", "incomplete", "official", "leaks"}``. The first four are by the
      metadata, over all splits; ``official`` is {source: {split: [clips in use, clips as published]}} of the published
      ones among ``sources``; ``leaks`` counts training clips that were dropped as they are evaluation clips. A data set
      is incomplete if more than MAX_MISSING are missing by either count, dropped ones apart. ``{"unknown": why}`` for a
      data set that was built without an accounting.
    """
    known = (accounting or {}).get("sources", {})
    wanted = sorted(set(sources))
    if not wanted or any(source not in known for source in wanted):
        return {"unknown": "the data set does not say how many clips were expected"}
    reasons: dict[str, int] = {}
    for source in wanted:
        for reason, count in known[source]["unusable"].items():
            if reason not in CHOSEN:
                reasons[reason] = reasons.get(reason, 0) + count
    expected, missing = sum(known[source]["expected"] for source in wanted), sum(reasons.values())
    share = missing / max(expected, 1)
    official = {source: _official(source, known[source]) for source in wanted if source in OFFICIAL}
    leaks = {source: _leaks(known[source]) for source in wanted}
    short = [
        have + (leaks[source] if split in ("train", _ANY) else 0) < (1 - MAX_MISSING) * full
        for source, splits in official.items()
        for split, (have, full) in splits.items()
    ]
    return {
        "expected": expected,
        "missing": missing,
        "reasons": dict(sorted(reasons.items())),
        "share": round(share, 6),
        "incomplete": share > MAX_MISSING or any(short),
        "official": official,
        "leaks": sum(leaks.values()),
    }


def _official(source: str, account: Mapping) -> dict[str, list[int]]:
    used = {split: entry["clips"] for split, entry in account.get("splits", {}).items()}
    counts = OFFICIAL[source].items()
    return {split: [sum(used.values()) if split == _ANY else used.get(split, 0), full] for split, full in counts}


def _leaks(account: Mapping) -> int:
    return sum(count for reason, count in account.get("excluded", {}).items() if reason.startswith(LEAK))


def completeness_lines(task: str, missing: Mapping[str, Any]) -> list[str]:
    """The lines about one task's clips that qualify its result; none for a complete set."""
    if "unknown" in missing:
        return []
    lines, mark = [], "INCOMPLETE, " if missing["incomplete"] else ""
    if missing["missing"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in missing["reasons"].items())
        clips = f"{missing['missing']} of {missing['expected']} clips of its sources"
        lines.append(f"{task}: {mark}{clips} are not stored ({reasons})")
    for source, splits in missing.get("official", {}).items():  # results of earlier versions do not have it
        short = [f"{have} of {full} in {split}" for split, (have, full) in splits.items() if have < full]
        if short:
            lines.append(f"{task}: {mark}{source} as published has more clips: here are {', '.join(short)}")
    return [*lines, *(f"{task}: {line}" for line in _dropped(missing.get("leaks", 0)))]


def dropped_leaks(accounting: Mapping | None) -> list[str]:
    """A line about the training clips that a data set has lost as they are evaluation clips; none if there are none."""
    return _dropped(sum(_leaks(account) for account in (accounting or {}).get("sources", {}).values()))


def _dropped(leaks: int) -> list[str]:
    return [f"{leaks} training clips were dropped, as they are evaluation clips"] if leaks else []
