"""A file of JSON lines that grows record by record, survives interruption, and gets its name once it is complete."""

import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json, write_json, write_text
from alp_jax.evaluation.qa.format import jsonl


class Journal:
    """Records by ``uniq_id``, in ``<path>.partial`` until ``finish``; ``<path>.from.json`` holds their identity.

    Args:
      identity: what the records depend on; nothing is added to a file with another identity.

    Attributes:
      done: uniq_id -> record, for all records so far.

    Raises:
      UserError: ``path`` or its partial file was made from something else.
    """

    def __init__(self, path: str | os.PathLike, identity: dict[str, Any]):
        self.path = pathlib.Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        origin = self.path.with_name(self.path.name + ".from.json")
        there = self.path.exists() or self.partial.exists()
        if there and (not origin.exists() or read_json(origin) != identity):
            raise UserError(f"{self.path} was made from other inputs: choose another --out or remove it")
        write_json(origin, identity)
        self.done: dict[int | str, dict] = {}
        for file in (self.path, self.partial):
            self.done |= {record["uniq_id"]: record for record in _whole_lines(file)}
        write_text(self.partial, jsonl(self.done.values()))

    def add(self, records: Iterable[dict[str, Any]]) -> None:
        """Appends records; they are on disk when this returns."""
        records = list(records)
        with self.partial.open("a", encoding="utf-8") as file:
            file.write(jsonl(records))
            file.flush()
            os.fsync(file.fileno())
        self.done |= {record["uniq_id"]: record for record in records}

    def finish(self, order: Iterable[int | str]) -> list[dict[str, Any]]:
        """Writes the records with the ids in ``order`` to ``path``, atomically, and returns them."""
        records = [self.done[uniq_id] for uniq_id in order]
        write_text(self.path, jsonl(records))
        self.partial.unlink()
        return records


def _whole_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The records of a file up to the first line that an interruption cut off."""
    records: list[dict[str, Any]] = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.split("\n")[:-1]:  # what follows the last line break was cut off
        try:
            record = json.loads(line)
        except ValueError:
            return records
        if not isinstance(record, dict) or "uniq_id" not in record:
            return records
        records.append(record)
    return records
