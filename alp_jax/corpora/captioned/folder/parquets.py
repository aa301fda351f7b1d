"""Rows of parquet files as Hugging Face datasets writes them, with the audio inside, and of plain parquet tables.

Audio is a column of ``struct{bytes, path}`` or of bytes; only its ``path`` is read here. A row without bytes names a
file. If the audio is beside the table, a column names the file, as in any other table.
"""

import pathlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from alp_jax.core.errors import UserError
from alp_jax.corpora import tables
from alp_jax.corpora.captioned.folder.columns import AUDIO, FILE, Columns, normalised
from alp_jax.corpora.captioned.folder.tables import Rows, row_of

_BYTES = (AUDIO, "audio_bytes", "bytes", "wav", "flac", "mp3", "ogg")  # names of a column of encoded files


def rows(path: pathlib.Path, known: Columns) -> Rows:
    """The rows of a parquet file in their order.

    Raises:
      UserError: it cannot be read, has audio in several columns or in another form, or has unknown columns.
    """
    with tables.open_parquet(path) as file:
        schema = file.schema_arrow
        sound = _sound(path, schema)
        columns_known = known.of(
            tuple(schema.names),
            str(path.with_name("*.parquet")),
            f"{path} columns",
            inside=normalised(sound) if sound else "",
        )
        used = [column for column in columns_known if column.meaning != AUDIO]
        for column in used:
            if pa.types.is_struct(schema.field(column.name).type):
                raise UserError(f"{path}: column {column.name!r} is {schema.field(column.name).type}, not text")
        names = [column.name for column in used]
        held = _held(path, file, schema, sound) if sound else None
        plain = bool(sound) and pa.types.is_struct(schema.field(sound).type)
        wanted = [*names, *([f"{sound}.path"] if plain else [])]
        container = {"container": str(path.absolute())} if sound else {}
        number = 0
        for batch in tables.batches(path, file, wanted) if wanted else _empty(file):
            columns = [batch.column(name).to_pylist() for name in names]
            called = batch.column(sound).field("path").to_pylist() if plain else [None] * len(batch)
            for values in zip(called, *columns, strict=True):
                where = f"{path} row {number + 1}"
                pairs = list(enumerate(used))
                if held is None:
                    yield row_of(where, values[1:], pairs)
                elif next(held):
                    member = str(number) if sound == AUDIO else f"{number}:{sound}"
                    yield row_of(where, values[1:], pairs, member=member, name=f"row_{number}", **container)
                else:
                    row = row_of(where, values[1:], pairs, folder=path.absolute().parent)
                    row.cells[FILE] = values[0] or ""
                    yield row
                number += 1


def _empty(file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """As many rows as the file has, without a column."""
    for group in range(file.num_row_groups):
        yield pa.record_batch([pa.nulls(file.metadata.row_group(group).num_rows)], names=["none"])


def _sound(path: pathlib.Path, schema: pa.Schema) -> str:
    """The column that holds audio, "" if none does."""
    candidates = []
    for field in schema:
        if pa.types.is_struct(field.type):
            parts = {part.name for part in field.type}
            if {"bytes", "path"} <= parts:
                candidates.append(field.name)
            elif {"array", "sampling_rate"} <= parts:
                raise UserError(f"{path}: column {field.name!r} holds samples; write it with encoded bytes")
        elif field.name.lower() in _BYTES and (pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)):
            candidates.append(field.name)
    if len(candidates) > 1:
        candidates = [name for name in candidates if name == AUDIO] or candidates
    if len(candidates) > 1:
        raise UserError(f"{path}: audio in {' and '.join(map(repr, candidates))}; rename the one to use to 'audio'")
    return candidates[0] if candidates else ""


def _held(path: pathlib.Path, file: pq.ParquetFile, schema: pa.Schema, sound: str) -> Iterator[bool]:
    """Whether each row has audio bytes, from the statistics of row groups or, if these do not tell, from the rows."""
    struct = pa.types.is_struct(schema.field(sound).type)
    leaf = f"{sound}.bytes" if struct else sound
    for group in range(file.num_row_groups):
        facts = file.metadata.row_group(group)
        columns = {facts.column(n).path_in_schema: facts.column(n) for n in range(facts.num_columns)}
        statistics = columns[leaf].statistics
        nulls = statistics.null_count if statistics is not None and statistics.has_null_count else None
        if nulls in (0, facts.num_rows):
            yield from [nulls == 0] * facts.num_rows
            continue
        for batch in file.iter_batches(16, row_groups=[group], columns=[leaf], use_threads=False):
            column = batch.column(0).field("bytes") if struct else batch.column(0)
            yield from column.is_valid().to_pylist()
