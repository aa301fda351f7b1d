"""Clips to a data set: shards written in parallel, one index table, and an account of every clip.

The clip's place (shard and row) follows from the ladder's hash order, so the same clips give the same bytes with any
number of workers, and a small rung lies in the first shards. A build that stops goes on where it stopped.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import soundfile
import soxr

from alp_jax.core import files
from alp_jax.core.clip import SPLITS, Clip
from alp_jax.core.cores import usable_cores
from alp_jax.core.errors import DataError, UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.core.names import choose
from alp_jax.core.progress import Progress
from alp_jax.data import audio, example, ladder
from alp_jax.data.building import shard, worker
from alp_jax.data.schema import ACCOUNTING, AUDIT, AUDIT_SCHEMA, INDEX, INDEX_SCHEMA, INFO, PLAN, SCHEMA_VERSION

NAMES_PER_REASON = 1000
_CLIPS_PER_SHARD, _MAX_SHARDS = 256, 1024


def build(
    clips: Sequence[Clip],
    out_dir: str | os.PathLike,
    *,
    source_name: str,
    codec: str = "flac",
    shards: int = 0,
    workers: int = 0,
    max_bad_share: float = 0.05,
    min_seconds: float = 0.1,
    max_seconds: float = 600.0,
    settings: Mapping[str, float] | None = None,
) -> dict:
    """Builds the data set ``out_dir`` from ``clips`` and returns its accounting (what ``dataset.json`` holds).

    Args:
      source_name: name of the collection, kept in ``dataset.json``.
      codec: ``flac`` or ``pcm``.
      shards: number of shards; 0 chooses 256 clips a shard and at most 1024 shards.
      workers: decoding processes; 0 takes one per core.
      max_bad_share: share of clips that may be unusable before the build fails.
      settings: keyword arguments of ``worker.run``.

    Raises:
      UserError: no clips, a bad setting, or ``out_dir`` holds something else; nothing is overwritten.
      DataError: too many unusable clips; ``accounting.json`` in ``out_dir`` says which and why.
      StorageError: shards could not be written.
    """
    choose(codec, example.CODECS, "codec")
    if not 0 <= max_bad_share <= 1:
        raise UserError(f"max_bad_share = {max_bad_share}: must be between 0 and 1")
    if not 0 < min_seconds <= max_seconds:
        raise UserError(f"max_seconds = {max_seconds}: must be at least min_seconds = {min_seconds}")
    out = pathlib.Path(out_dir)
    unique, duplicates = _unique(clips)
    if not unique:
        raise UserError(f"no clips to build {out} from")
    limits = audio.Limits(min_seconds, max_seconds)
    tasks = _tasks(unique, out, codec, limits, shards or min(_MAX_SHARDS, -(-len(unique) // _CLIPS_PER_SHARD)))
    if _claim(out, tasks[0].plan):
        return files.read_json(out / INFO)["accounting"]
    metas = _write_shards(tasks, workers or len(usable_cores()), dict(settings or {}))
    table, hashes = _index(tasks, metas)
    accounting = account(clips, table, [f for meta in metas for f in meta["failures"]] + duplicates)
    bad = accounting["unusable"] / accounting["expected"]
    if bad > max_bad_share or not len(table):
        files.write_json(out / ACCOUNTING, accounting)
        raise DataError(
            f"{accounting['unusable']} of {accounting['expected']} clips are unusable ({bad:.1%}, above max_bad_share "
            f"= {max_bad_share:g}): {reasons_line(accounting)}; {out / ACCOUNTING} names them"
        )
    _finish(
        out,
        table,
        hashes,
        accounting,
        {"collection": source_name, "codec": codec, "plan": tasks[0].plan} | limits_of(limits),
    )
    return accounting


def limits_of(limits: audio.Limits) -> dict:
    return {"limits": dataclasses.asdict(limits)}


def reasons_line(accounting: Mapping) -> str:
    """``3 missing, 1 corrupt``, most frequent first."""
    counts = {reason: entry["count"] for reason, entry in accounting["reasons"].items()}
    return ", ".join(f"{counts[reason]} {reason}" for reason in sorted(counts, key=lambda r: (-counts[r], r)))


def _unique(clips: Sequence[Clip]) -> tuple[list[Clip], list]:
    seen, unique, duplicates = set(), [], []
    for clip in clips:
        if clip.id in seen:
            duplicates.append([clip.id, clip.audio_path, "duplicate_id", -1])
        else:
            seen.add(clip.id)
            unique.append(clip)
    return unique, duplicates


def _tasks(clips: list[Clip], out: pathlib.Path, codec: str, limits: audio.Limits, shards: int) -> list[shard.Task]:
    """Cuts the hash order into ``shards`` stretches; the plan covers everything but the folder the audio lies in."""
    clips = sorted(clips, key=lambda clip: ladder.place(clip.id))
    digest = hashlib.blake2b(digest_size=16)
    for clip in clips:
        row = dataclasses.asdict(clip) | {"audio_path": pathlib.Path(clip.audio_path).name, "labels": dict(clip.labels)}
        digest.update(json.dumps(row, sort_keys=True).encode())
    plan = fingerprint([SCHEMA_VERSION, digest.hexdigest(), codec, limits_of(limits), shards])
    bounds = [len(clips) * s // shards for s in range(shards + 1)]
    return [
        shard.Task(str(out / shard.name(s, shards)), plan, tuple(clips[bounds[s] : bounds[s + 1]]), codec, limits)
        for s in range(shards)
    ]


def _claim(out: pathlib.Path, plan: str) -> bool:
    """Makes the folder this build's; True when the data set is already complete."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; choose a folder for the data set")
    for name in (INFO, PLAN):
        if (out / name).exists():
            if files.read_json(out / name).get("plan") != plan:
                raise UserError(
                    f"{out} holds another build (other clips, codec, shards or limits); choose an empty folder"
                )
            return name == INFO
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty and is not a data set; choose an empty folder")
    files.write_json(out / PLAN, {"plan": plan})
    return False


def _write_shards(tasks: list[shard.Task], workers: int, settings: dict) -> list[dict]:
    """Writes the shards that are not finished yet; returns the metadata of all of them in order."""
    metas = {task.path: shard.finished(task) for task in tasks}
    todo = [task for task in tasks if metas[task.path] is None]
    with Progress("build shards", sum(len(task.clips) for task in todo), "clips") as progress:
        for started, meta in worker.run(todo, workers, **settings):
            progress.update(started)
            if meta:
                metas[str(pathlib.Path(todo[0].path).with_name(meta["name"]))] = meta
    return [metas[task.path] for task in tasks]


def _index(tasks: list[shard.Task], metas: list[dict]) -> tuple[pa.Table, list[dict]]:
    """All columns of the data set, and name, size, record count and SHA-256 of every shard."""
    tables = [shard.read_index(task.path)[0].replace_schema_metadata(None) for task in tasks]
    table = pa.concat_tables(tables).combine_chunks()
    counts = [len(t) for t in tables]
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    columns["shard"] = pa.array(np.repeat(np.arange(len(tables), dtype=np.int32), counts))
    columns["row"] = pa.array(np.concatenate([np.arange(count, dtype=np.int32) for count in counts]))
    columns["excluded"] = pa.array([""] * len(table), pa.string())
    in_ladder = np.array(pc.equal(table["split"], "train")) & (np.array(table["num_captions"]) > 0)
    columns["ladder"] = pa.array(ladder.ranks(table["id"].to_pylist(), in_ladder).astype(np.int32))
    for name in ("source", "split", "excluded"):
        columns[name] = columns[name].dictionary_encode().cast(INDEX_SCHEMA.field(name).type)
    table = pa.table(columns)
    return table, [{key: meta[key] for key in ("name", "records", "bytes", "sha256")} for meta in metas]


def account(clips: Sequence[Clip], table: pa.Table, failures: list) -> dict:
    """Every clip accounted for: totals, reasons with names (capped), and a row per source and split."""
    reasons = {}
    for clip_id, path, reason, _ in sorted(failures):
        entry = reasons.setdefault(reason, {"meaning": audio.REASONS[reason], "count": 0, "clips": []})
        entry["count"] += 1
        if len(entry["clips"]) < NAMES_PER_REASON:
            entry["clips"].append(f"{clip_id} ({path})")
    sources = {}
    for clip in clips:
        entry = sources.setdefault(clip.source, {"expected": 0, "unusable": {}, "splits": {}})
        entry["expected"] += 1
    source_of = {clip.id: clip.source for clip in clips}
    for clip_id, _, reason, _ in failures:
        unusable = sources[source_of[clip_id]]["unusable"]
        unusable[reason] = unusable.get(reason, 0) + 1
    grouped = table.select(["source", "split", "num_samples", "num_captions"]).group_by(["source", "split"])
    for row in grouped.aggregate(
        [("num_samples", "sum"), ("num_samples", "count"), ("num_captions", "sum")]
    ).to_pylist():
        sources[row["source"]]["splits"][row["split"]] = {
            "clips": row["num_samples_count"],
            "hours": round(row["num_samples_sum"] / example.SAMPLE_RATE / 3600, 4),
            "captions": row["num_captions_sum"],
        }
    splits = {}
    for split in SPLITS:
        parts = [entry["splits"][split] for entry in sources.values() if split in entry["splits"]]
        if parts:
            splits[split] = {key: round(sum(part[key] for part in parts), 4) for key in ("clips", "hours", "captions")}
    return {
        "expected": len(clips),
        "usable": len(table),
        "unusable": len(failures),
        "reasons": reasons,
        "splits": splits,
        "sources": sources,
    }


def _finish(out: pathlib.Path, table: pa.Table, shards: list[dict], accounting: dict, facts: dict) -> None:
    tables = {"index": (INDEX, INDEX_SCHEMA), "audit": (AUDIT, AUDIT_SCHEMA)}
    for name, schema in tables.values():
        files.write_bytes(out / name, shard.ipc_bytes(table.select(schema.names).cast(schema)))
    info = facts | {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": content_fingerprint(shards, table["excluded"].chunk(0)),
        "sample_rate": example.SAMPLE_RATE,
        "num_clips": len(table),
        "ladder_seed": ladder.SEED,
        "resampler": "soxr HQ",
        "versions": {
            "soundfile": soundfile.__version__,
            "libsndfile": soundfile.__libsndfile_version__,
            "soxr": soxr.__version__,
            "numpy": np.__version__,
            "pyarrow": pa.__version__,
        },
        "shards": shards,
        "accounting": accounting,
    }
    for key, (name, _) in tables.items():
        info[key] = {"name": name, "bytes": (out / name).stat().st_size, "sha256": files.sha256(out / name)}
    files.write_json(out / INFO, info | {"checksum": fingerprint(info)})
    for partial in out.glob(".*"):  # left by killed workers
        partial.unlink()
    (out / PLAN).unlink(missing_ok=True)
    (out / ACCOUNTING).unlink(missing_ok=True)


def content_fingerprint(shards: list[dict], excluded: pa.DictionaryArray) -> str:
    """Identity of the data: changes when a stored byte or the set of excluded clips changes, and with nothing else."""
    codes, reasons = excluded.indices.to_numpy(), excluded.dictionary.to_pylist()
    out = {
        reason: hashlib.blake2b(np.flatnonzero(codes == code).astype("<i8").tobytes(), digest_size=16).hexdigest()
        for code, reason in enumerate(reasons)
        if reason
    }
    return fingerprint([SCHEMA_VERSION, ladder.SEED, [(entry["name"], entry["sha256"]) for entry in shards], out])
