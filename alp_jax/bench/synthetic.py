"""A data set of any size whose clips share the records of a small one, to measure indexes, orders and memory on.

Ids are hashed and ranked as a build does it; lengths are log-normal, sources of unequal size. Every row points to some
record of the small data set, so batches can be read from it.
"""

import pathlib

import numpy as np
import pyarrow as pa

from alp_jax.core import files
from alp_jax.core.clip import SAMPLE_RATE, SPLITS
from alp_jax.core.hashing import fingerprint
from alp_jax.core.progress import Progress
from alp_jax.core.storage import resolve
from alp_jax.data.store import ladder
from alp_jax.data.store.dataset import Dataset
from alp_jax.data.store.mapped import write_table
from alp_jax.data.store.schema import AUDIT_SCHEMA, INDEX, INDEX_SCHEMA, INFO

# Sources with the sizes of the published corpora, in thousands of clips; see the paper's table of them.
SOURCES = {
    "audiosetcaps": 6117,
    "fusionaudio": 1200,
    "paraspeechcaps": 925,
    "wavcaps": 403,
    "jamendomaxcaps": 1800,
    "audiocaps": 91,
    "clotho": 19,
    "musiccaps": 5,
}
WEIGHTS = dict(zip(SOURCES, (6, 3, 4, 2, 3, 1, 1, 1), strict=True))  # of a mixture to try
_PIECE = 1 << 20


def make(base: Dataset, folder: pathlib.Path, clips: int, seed: int = 0) -> None:
    """Writes a data set of ``clips`` training clips into ``folder``, unless there is one already."""
    if (folder / INFO).exists():
        return
    rng = np.random.default_rng(seed)
    # source of every clip before it is hashed, each at its place in one long list; int32[clips]
    upto = np.cumsum(list(SOURCES.values()))
    source_N = np.searchsorted(upto * clips // upto[-1], np.arange(clips), side="right").astype(np.int32)
    hash_N = np.empty(clips, np.uint64)
    with Progress("hash ids", clips, "clips") as progress:
        for start in range(0, clips, _PIECE):
            ends = range(start, min(clips, start + _PIECE))
            hash_N[start : ends.stop] = [ladder.id_hash(f"synthetic:{i}") for i in ends]
            progress.update(len(ends))
    source_N = source_N[np.argsort(hash_N)]
    row_N = np.arange(clips) * len(base) // clips  # of the small data set, so shards stay in order
    seconds = np.clip(np.exp(rng.normal(np.log(8), 0.6, clips)), 1, 30)
    rows = pa.array(row_N)
    columns = {
        "id": base.id.take(rows),
        "recording": base.recording.take(rows),
        "group": base.recording.take(rows),
        "source": _coded(source_N, list(SOURCES), pa.int32()),
        "split": _coded(np.zeros(clips, np.int8), list(SPLITS), pa.int8()),
        "num_samples": pa.array((seconds * SAMPLE_RATE).astype(np.int32)),
        "num_captions": pa.array(np.ones(clips, np.uint16)),
        "excluded": _coded(np.zeros(clips, np.int8), [""], pa.int8()),
        "ladder": pa.array(np.arange(clips, dtype=np.int32)),
    }
    columns |= {name: pa.array(base.column(name)[row_N]) for name in ("shard", "row", "offset", "length")}
    table = pa.table({field.name: columns[field.name].cast(field.type) for field in INDEX_SCHEMA}, INDEX_SCHEMA)
    write_table(folder / INDEX, table)
    write_table(folder / "none.arrow", AUDIT_SCHEMA.empty_table())
    _describe(base, folder, clips, seed)


def _coded(codes: np.ndarray, names: list[str], kind: pa.DataType) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes, kind), names)


def _describe(base: Dataset, folder: pathlib.Path, clips: int, seed: int) -> None:
    info = {key: value for key, value in base.info.items() if key not in ("checksum", "accounting")}
    info["shards"] = [entry | {"name": resolve(base.path, entry["name"])} for entry in base.info["shards"]]
    info |= {"fingerprint": fingerprint(["synthetic", base.fingerprint, clips, seed]), "num_clips": clips}
    for key, name in (("index", INDEX), ("audit", "none.arrow")):
        path = folder / name
        info[key] = {"name": name, "bytes": path.stat().st_size, "sha256": files.sha256(path)}
    files.write_json(folder / INFO, info | {"checksum": fingerprint(info)})
