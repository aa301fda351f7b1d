"""Merges several built data sets into one: an index over their shards, which stay where they are."""

import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from alp_jax.core import storage
from alp_jax.core.errors import UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.core.names import choose
from alp_jax.data.building import account, tables
from alp_jax.data.building.plan import DEDUPE, NAMES_PER_REASON
from alp_jax.data.store import ladder
from alp_jax.data.store.dataset import Dataset, open_dataset


def merge(
    folders: Sequence[storage.Location], out: storage.Location, *, dedupe: str = "source", least: int = 2
) -> dict:
    """Makes ``out`` a data set of the clips of ``folders`` and returns its accounting; no audio is copied.

    The ladder is the one that a single build of all clips would have. What a set has excluded stays excluded. Of clips
    with the same id only that of the first set is used; of training clips of the same stretch or sound only the first
    in ladder order.

    Args:
      dedupe: ``source``, ``all`` or ``none``: among which clips stretches and sounds are compared.
      least: how many data sets there have to be.

    Raises:
      UserError: fewer than ``least`` data sets, one given twice, ``out`` holds anything but them, or it is on another
        kind of storage.
      DataError: a data set is damaged.
      StorageError: ``out`` cannot be written.
    """
    choose(dedupe, DEDUPE, "dedupe")
    sets = [open_dataset(folder) for folder in folders]
    if len(sets) < least or len({s.fingerprint for s in sets}) < len(sets):
        raise UserError("merge needs two or more different data sets")
    if set(storage.names(out)) - {_inside(out, s.path).partition("/")[0] for s in sets}:
        raise UserError(f"{out} is not empty; choose an empty folder")
    starts = np.cumsum([0, *(len(s.info["shards"]) for s in sets)])
    indices = []
    for s, first in zip(sets, starts, strict=False):
        index = tables.read_table(s.path, s.info["index"])
        indices.append(tables.replaced(index, "shard", pa.array(index["shard"].to_numpy() + np.int32(first))))
    audits = [tables.read_table(s.path, s.info["audit"]) for s in sets]
    index = pa.concat_tables(indices).unify_dictionaries().combine_chunks()
    compared = pa.concat_tables(audits, promote_options="default")  # null where a set lacks a column
    order = ladder.order(compared["place"].to_numpy(), lambda row: index["id"][row].as_py())
    index = tables.with_ladder(_without_repeats(index, compared, order, dedupe), order)
    shards = [entry | {"name": _place(s, entry, out)} for s in sets for entry in s.info["shards"]]
    content = tables.content_fingerprint(shards, index["excluded"])
    accounting = account.in_use(_sum([s.info["accounting"] for s in sets]), index)
    info = tables.facts() | {
        "collection": "merged",
        "plan": fingerprint([content, dedupe]),
        "merged": [{"path": _inside(out, s.path) or os.fspath(s.path), "fingerprint": s.fingerprint} for s in sets],
        "codec": _codec(sets),
        "dedupe": dedupe,
        "fingerprint": content,
        "num_clips": len(index),
        "shards": shards,
        "index": tables.write_index(out, index),
        "audit": tables.write_audit(out, compared),
        "accounting": accounting,
    }
    tables.write_info(out, info)
    return accounting


def _codec(sets: list[Dataset]) -> str:
    """The codec of all ``sets``, or "mixed"."""
    codecs = {s.codec for s in sets}
    return codecs.pop() if len(codecs) == 1 else "mixed"


def _inside(out: storage.Location, path: storage.Location) -> str:
    """``path`` relative to ``out``; "" if it lies elsewhere."""
    whole = [os.fspath(one) if storage.is_remote(one) else os.path.abspath(storage.local(one)) for one in (out, path)]
    top = f"{whole[0].rstrip('/')}/"
    return whole[1].removeprefix(top) if whole[1].startswith(top) else ""


def _without_repeats(index: pa.Table, compared: pa.Table, order: np.ndarray, dedupe: str) -> pa.Table:
    """``index`` with repeated ids, stretches and sounds marked as excluded."""
    column = index["excluded"].combine_chunks()
    own = ("duplicate_id", "duplicate_stretch", "duplicate_audio")
    reasons = list(dict.fromkeys([*column.dictionary.to_pylist(), tables.IN_USE, *own]))
    number = {reason: code for code, reason in enumerate(reasons)}
    codes = column.indices.to_numpy().copy()
    # ids first, so that the first set keeps a repeated id; only clips still in use after that push out others
    place = compared["place"].to_numpy()[order]
    same_place = np.flatnonzero(place[1:] == place[:-1])  # rows of one id are adjacent, in the order of their sets
    for at in same_place.tolist():
        if index["id"][int(order[at])] == index["id"][int(order[at + 1])]:
            codes[order[at + 1]] = number["duplicate_id"]
    train = tables.named(index["split"], "train")
    source = index["source"].combine_chunks().indices.to_numpy()
    if dedupe != "none":
        stretch, known = _stretches(index, compared)
        richest = tables.richest_first(order, index["num_captions"].to_numpy())
        for reason, key, among, best_first in (
            ("duplicate_stretch", stretch, known & train, order),
            ("duplicate_audio", compared["audio_hash"].to_numpy(), train, richest),
        ):
            in_use = codes == number[tables.IN_USE]
            codes[tables.repeats(tables.scoped(key, source, dedupe), best_first, among & in_use)] = number[reason]
    return tables.replaced(index, "excluded", tables.exclusions(reasons, codes))


def _stretches(index: pa.Table, compared: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """A number for every stretch of a recording, to a tenth of a second, uint64[N]; and which are known, bool[N]."""
    start = compared["start_s"].to_numpy()
    known = ~np.isnan(start)
    start = np.rint(np.where(known, start, 0.0) * 10).astype(np.uint64)
    seconds = np.rint(index["num_samples"].to_numpy() / 1600).astype(np.uint64)
    recording = index["recording"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.uint64)
    stretch = np.unique(recording << np.uint64(32) | start, return_inverse=True)[1].astype(np.uint64)
    return stretch << np.uint64(32) | seconds, known


def _place(dataset: Dataset, entry: dict, out: storage.Location) -> str:
    """The name of the shard in ``out``: a path relative to it, or the shard's URL."""
    path = storage.resolve(dataset.path, entry["name"])
    if storage.is_remote(path):
        return path
    if storage.is_remote(out):
        raise UserError(f"{out} is remote and {path} is not: copy that data set to where the merged one is to be")
    return os.path.relpath(os.path.abspath(path), os.path.abspath(storage.local(out)))


def _sum(accountings: Sequence[dict]) -> dict:
    """Adds up several accounts; the clips in use are filled in later."""
    named: dict[str, dict] = {"reasons": {}, "notes": {}}
    sources = {}
    for accounting in accountings:
        for part, entries in named.items():
            for name, entry in accounting.get(part, {}).items():
                known = entries.setdefault(name, {"meaning": entry["meaning"], "count": 0, "clips": []})
                known["count"] += entry["count"]
                known["clips"] = sorted([*known["clips"], *entry["clips"]])[:NAMES_PER_REASON]
        for source, entry in accounting["sources"].items():
            known = sources.setdefault(source, {"expected": 0, "unusable": {}})
            known["expected"] += entry["expected"]
            for reason, count in entry["unusable"].items():
                known["unusable"][reason] = known["unusable"].get(reason, 0) + count
            for note, count in entry.get("notes", {}).items():
                of_source = known.setdefault("notes", {})
                of_source[note] = of_source.get(note, 0) + count
            if "measured" in entry:
                known["measured"] = account.add_measured(known.get("measured"), entry["measured"])
    total = {key: sum(accounting[key] for accounting in accountings) for key in ("expected", "usable", "unusable")}
    return total | named | {"sources": sources}
