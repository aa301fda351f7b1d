"""The account of a data set: what was expected, what is stored, what is not and why, by split and source."""

from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from alp_jax.core.clip import REJECTIONS, SAMPLE_RATE, SPLITS
from alp_jax.data.audio import errors
from alp_jax.data.building.plan import NAMES_PER_REASON, LeftOut

MEANINGS = (
    errors.REASONS
    | REJECTIONS
    | {
        "duplicate_id": "an id that an earlier clip already has",
        "duplicate_stretch": "the same stretch of a recording as another clip",
        "duplicate_audio": "the same sound as another training clip",
        "filtered_captions": "no caption that passes the filter",
    }
)
CURATED = ("duplicate_stretch", "filtered_captions", "other_task")  # left out by choice, not for a fault in the data
FAILURES = pa.schema([(name, pa.string()) for name in ("id", "source", "path", "reason", "detail")])
_CLIPPED, _QUIET_DB, _SHORT_S = 1e-3, -50.0, 0.1


def account(expected: Mapping[str, int], left_out: Mapping[str, LeftOut], failures: pa.Table, stored: pa.Table) -> dict:
    """Every clip accounted for: expected = usable + unusable, usable = those in the splits + excluded.

    Args:
      expected: clips by source.
      left_out: clips and rows that never reached a shard.
      failures: table of schema FAILURES, the clips that could not be decoded.
      stored: the columns of the index, and the measurements of every clip if they are known.
    """
    reasons, unusable = _failed(failures)
    for reason, entry in left_out.items():
        known = reasons.setdefault(reason, {"meaning": MEANINGS[reason], "count": 0, "clips": []})
        known["count"] += entry.count
        known["clips"] = sorted([*known["clips"], *entry.names])[:NAMES_PER_REASON]
        for source, count in entry.sources.items():
            of_source = unusable.setdefault(source, {})
            of_source[reason] = of_source.get(reason, 0) + count
    rejected = sum(entry.count - sum(entry.sources.values()) for entry in left_out.values())
    measured = _measured(stored) if "level_db" in stored.column_names else {}
    notes, noted = _noted(stored) if "notes" in stored.column_names else ({}, {})
    sources = {
        source: {"expected": count, "unusable": unusable.get(source, {})}
        | measured.get(source, {})
        | ({"notes": noted[source]} if source in noted else {})
        for source, count in expected.items()
    }
    return in_use(
        {
            "expected": sum(expected.values()) + rejected,
            "usable": len(stored),
            "unusable": sum(entry["count"] for entry in reasons.values()),
            "reasons": reasons,
            "notes": notes,
            "sources": sources,
        },
        stored,
    )


def in_use(accounting: Mapping, index: pa.Table) -> dict:
    """Adds to ``accounting`` the clips in use by split and source, those excluded by reason, and training clips without
    captions."""
    grouped = index.select(["source", "split", "excluded", "num_samples", "num_captions"]).group_by(
        ["source", "split", "excluded"]
    )
    rows = grouped.aggregate([("num_samples", "sum"), ("num_samples", "count"), ("num_captions", "sum")]).to_pylist()
    sources = {
        source: {key: value for key, value in entry.items() if key not in ("splits", "excluded")}
        | {"splits": {}, "excluded": {}}
        for source, entry in accounting["sources"].items()
    }
    excluded: dict[str, int] = {}
    for row in sorted(rows, key=lambda row: (row["source"], SPLITS.index(row["split"]), row["excluded"])):
        entry, count = sources[row["source"]], row["num_samples_count"]
        if row["excluded"]:
            entry["excluded"][row["excluded"]] = entry["excluded"].get(row["excluded"], 0) + count
            excluded[row["excluded"]] = excluded.get(row["excluded"], 0) + count
        else:
            entry["splits"][row["split"]] = {
                "clips": count,
                "hours": round(row["num_samples_sum"] / SAMPLE_RATE / 3600, 4),
                "captions": row["num_captions_sum"],
            }
    splits = {}
    for split in SPLITS:
        parts = [entry["splits"][split] for entry in sources.values() if split in entry["splits"]]
        if parts:
            splits[split] = {key: round(sum(part[key] for part in parts), 4) for key in ("clips", "hours", "captions")}
    bare = pc.and_(pc.equal(index["split"], "train"), pc.equal(index["excluded"], ""))
    bare = pc.sum(pc.and_(bare, pc.equal(index["num_captions"], 0))).as_py() or 0
    return {**accounting, "splits": splits, "sources": sources, "excluded": excluded, "without_captions": bare}


def reasons_line(accounting: Mapping) -> str:
    """What ``bad`` counts as text, most frequent first: ``3 missing, 1 corrupt``."""
    counts = {reason: entry["count"] for reason, entry in accounting["reasons"].items() if reason not in CURATED}
    return ", ".join(f"{counts[reason]} {reason}" for reason in sorted(counts, key=lambda r: (-counts[r], r)))


def bad(accounting: Mapping) -> int:
    """Number of clips and rows that are unusable through a fault of their own."""
    return sum(entry["count"] for reason, entry in accounting["reasons"].items() if reason not in CURATED)


def _failed(failures: pa.Table) -> tuple[dict, dict]:
    def described(row: dict) -> str:
        return f"{row['id']} ({row['path']})" + (f": {row['detail']}" if row["detail"] else "")

    return _by_kind(failures, "reason", MEANINGS, described)


def _noted(stored: pa.Table) -> tuple[dict, dict]:
    lists = stored["notes"].combine_chunks()
    rows = pc.list_parent_indices(lists)
    table = pa.table({"id": stored["id"].take(rows), "source": stored["source"].take(rows), "note": lists.flatten()})
    return _by_kind(table, "note", errors.NOTES, lambda row: row["id"])


def _by_kind(table: pa.Table, kind: str, meanings: Mapping[str, str], name: Callable[[dict], str]) -> tuple[dict, dict]:
    """{kind: {meaning, count, clips (the names of the first)}} and {source: {kind: count}} of the column ``kind``."""
    kinds, by_source = {}, {}
    for row in table.group_by(["source", kind]).aggregate([([], "count_all")]).to_pylist():
        by_source.setdefault(row["source"], {})[row[kind]] = row["count_all"]
    for value in sorted(pc.unique(table[kind]).to_pylist()):
        rows = table.filter(pc.equal(table[kind], value))
        first = rows.take(pc.select_k_unstable(rows, NAMES_PER_REASON, [("id", "ascending")])).to_pylist()
        kinds[value] = {"meaning": meanings[value], "count": len(rows), "clips": [name(row) for row in first]}
    return kinds, by_source


def _measured(stored: pa.Table) -> dict:
    """By source: numbers of clips with samples at full scale, quiet ones and ones that end early; mean level."""
    table = pa.table(
        {
            "source": stored["source"],
            "clipped": pc.greater(stored["clipped"], _CLIPPED),
            "quiet": pc.less(stored["level_db"], _QUIET_DB),
            "shorter_than_stated": pc.greater(stored["short_s"], _SHORT_S),
            "level_db": stored["level_db"],
        }
    )
    counted = ("clipped", "quiet", "shorter_than_stated")
    measured = table.group_by("source").aggregate(
        [*((name, "sum") for name in counted), ("level_db", "mean"), ("level_db", "count")]
    )
    return {
        row["source"]: {
            "measured": {name: row[f"{name}_sum"] for name in counted}
            | {"clips": row["level_db_count"], "mean_level_db": round(row["level_db_mean"], 2)}
        }
        for row in measured.to_pylist()
    }


def add_measured(first: Mapping | None, second: Mapping) -> dict:
    """The measurements of two sets of clips together; ``first`` None: there are none yet."""
    if first is None:
        return dict(second)
    total = {key: first[key] + second[key] for key in first if key != "mean_level_db"}
    weighted = sum(part["mean_level_db"] * part["clips"] for part in (first, second))
    return total | {"mean_level_db": round(weighted / total["clips"], 2)}
