"""Whether a test set is complete: clips that the data set should hold from its sources but does not."""

from collections.abc import Iterable, Mapping

MAX_MISSING = 0.02  # a result is marked incomplete above this share
CHOSEN = ("duplicate_stretch", "filtered_captions", "other_task")  # left out of a data set by choice


def completeness(accounting: Mapping | None, sources: Iterable[str]) -> dict:
    """``{"expected", "missing", "reasons", "share", "incomplete"}`` over all splits of ``sources``.

    Counts come from the accounting of the build, which records for every source how many clips its metadata listed and
    why some are not stored. ``{"unknown": why}`` for a data set that was built without it.
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
    return {
        "expected": expected,
        "missing": missing,
        "reasons": dict(sorted(reasons.items())),
        "share": round(share, 6),
        "incomplete": share > MAX_MISSING,
    }
