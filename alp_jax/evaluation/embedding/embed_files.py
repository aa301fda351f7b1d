"""The files of ``alp embed``: parts while it runs, then one .npz or .parquet file.

npz: ``path`` <U[N] relative to the audio folder, ``seconds`` float64[N], ``embedding`` float32[N,D], ``bad_path``,
``bad_reason`` and ``bad_detail`` <U[M], ``identity`` <U[] (JSON), no pickles. parquet: columns ``path`` string,
``seconds`` double, ``embedding`` list of D floats, and in the schema's metadata, under ``alp_jax.embed``, JSON with
``identity`` and ``bad``, a list of [path, reason, detail].
"""

import dataclasses
import io
import json
import os
import pathlib
import zipfile
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alp_jax.core import files
from alp_jax.core.errors import UserError

SUFFIXES = (".npz", ".parquet")
_META = b"alp_jax.embed"
_BAD = ("bad_path", "bad_reason", "bad_detail")


@dataclasses.dataclass(frozen=True)
class Part:
    """N embedded files, and M that could not be used.

    Attributes:
      path: <U[N], relative to the audio folder.
      seconds: float64[N], durations.
      embedding: float32[N,D], or [0,0] if N is 0.
      bad: [path, reason, detail] of every file that could not be used.
    """

    path: np.ndarray
    seconds: np.ndarray
    embedding: np.ndarray
    bad: list[list[str]]

    @property
    def count(self) -> int:
        """Number of embedded files."""
        return len(self.path)


def check_name(out: pathlib.Path) -> None:
    """Raises UserError unless ``out`` has a known suffix and is not a folder."""
    if out.suffix not in SUFFIXES:
        raise UserError(f"--out {out} must end in {' or '.join(SUFFIXES)}")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder: name a file in it")


def write_part(path: pathlib.Path, good: Sequence[tuple[str, float, np.ndarray]], bad: Sequence[Sequence[str]]) -> None:
    """Writes a part atomically: (path, seconds, vector) per file, and (path, reason, detail) per unusable one."""
    buffer = io.BytesIO()
    paths, seconds, vectors = zip(*good, strict=True) if good else ((), (), ())
    np.savez(buffer, **_arrays(paths, seconds, np.stack(vectors) if good else np.zeros((0, 0)), bad))
    files.write_bytes(path, buffer.getvalue())


def _arrays(paths, seconds, embedding_ND, bad) -> dict[str, np.ndarray]:
    columns = zip(*bad, strict=True) if bad else ((), (), ())
    return {
        "path": np.array(paths, np.str_),
        "seconds": np.array(seconds, np.float64),
        "embedding": np.asarray(embedding_ND, np.float32),
    } | {name: np.array(column, np.str_) for name, column in zip(_BAD, columns, strict=True)}


def read_part(path: pathlib.Path) -> Part:
    """Reads what ``write_part`` wrote."""
    with np.load(path) as stored:
        bad = [list(row) for row in zip(*(stored[name].tolist() for name in _BAD), strict=True)]
        return Part(stored["path"], stored["seconds"], stored["embedding"], bad)


def reasons(paths: Sequence[pathlib.Path]) -> dict[str, int]:
    """Reason -> number of unusable files with it, over the parts ``paths``."""
    return dict(Counter(reason for path in paths for _, reason, _ in read_part(path).bad))


def join(paths: Sequence[pathlib.Path], out: pathlib.Path, identity: dict) -> None:
    """Writes the parts as one file, atomically; at least one part must hold an embedded file."""
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        if out.suffix == ".npz":
            _join_npz(paths, partial, identity)
        else:
            _join_parquet(paths, partial, identity)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)


def _join_npz(paths: Sequence[pathlib.Path], out: pathlib.Path, identity: dict) -> None:
    parts = [read_part(path) for path in paths]
    full = [part for part in parts if part.count]
    arrays = _arrays(
        np.concatenate([part.path for part in full]),
        np.concatenate([part.seconds for part in full]),
        np.concatenate([part.embedding for part in full]),
        [row for part in parts for row in part.bad],
    )
    with open(out, "wb") as file:
        np.savez(file, **arrays, identity=np.array(json.dumps(identity, sort_keys=True)))
        file.flush()
        os.fsync(file.fileno())


def _join_parquet(paths: Sequence[pathlib.Path], out: pathlib.Path, identity: dict) -> None:
    """Writes part by part, so that only one is in memory."""
    bad, width = [], 0
    for path in paths:
        part = read_part(path)
        bad, width = bad + part.bad, max(width, part.embedding.shape[1])
    schema = pa.schema(
        [("path", pa.string()), ("seconds", pa.float64()), ("embedding", pa.list_(pa.float32(), width))],
        metadata={_META: json.dumps({"identity": identity, "bad": bad}, sort_keys=True)},
    )
    with pq.ParquetWriter(out, schema) as writer:
        for path in paths:
            part = read_part(path)
            if part.count:
                vectors = pa.FixedSizeListArray.from_arrays(pa.array(part.embedding.reshape(-1)), width)
                columns = [pa.array(part.path.tolist(), pa.string()), pa.array(part.seconds), vectors]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def read_identity(out: pathlib.Path) -> dict | None:
    """The ``identity`` that ``join`` wrote; None if ``out`` is another kind of file."""
    try:
        if out.suffix == ".npz":
            with np.load(out) as stored:
                return json.loads(str(stored["identity"]))
        return json.loads(pq.read_schema(out).metadata[_META])["identity"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, pa.ArrowException):
        return None


def summary(out: pathlib.Path) -> dict:
    """``embedded``, ``failed``, ``reasons``, ``seconds`` and ``width`` of a finished file."""
    if out.suffix == ".npz":
        part = read_part(out)
        seconds, bad, width = part.seconds, part.bad, part.embedding.shape[1]
    else:
        schema = pq.read_schema(out)
        seconds = pq.read_table(out, columns=["seconds"])["seconds"].to_numpy()
        bad, width = json.loads(schema.metadata[_META])["bad"], schema.field("embedding").type.list_size
    return {
        "embedded": len(seconds),
        "failed": len(bad),
        "reasons": dict(sorted(Counter(reason for _, reason, _ in bad).items())),
        "seconds": round(float(seconds.sum()), 3),
        "width": int(width),
    }
