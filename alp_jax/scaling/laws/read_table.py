"""Reads a ledger, or any CSV (comma-separated values) with a header, and names what is missing from it."""

import csv
import os
import pathlib
from typing import Any

from alp_jax.core import storage
from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json
from alp_jax.core.run_files import SWEEP
from alp_jax.scaling.laws.curves import state_best
from alp_jax.scaling.sweep.folder import local_sweep
from alp_jax.scaling.sweep.ledger import Ledger


def read_table(path: storage.Location, best: dict[str, float] | None = None) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of ``ledger.jsonl`` or of a CSV with a header, and the problems met on the way.

    Runs that the ``sweep.json`` beside a ledger calls anything but done are among the problems: their points are
    missing from every curve.

    Args:
      best: metrics of other tools that count as well, with the value of a perfect result: see ``state_best``.

    Raises:
      UserError: no such file, a column named twice, a row whose number of cells differs from the header's, or no rows.
    """
    if storage.is_remote(path):
        parent, _, name = os.fspath(path).rpartition("/")
        with local_sweep(parent) as folder:
            return read_table(folder / name, best)
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"--ledger {path} does not exist")
    if path.suffix == ".jsonl":
        ledger = Ledger(path)
        rows, problems = ledger.table(), list(ledger.problems)
    elif path.suffix == ".csv":
        rows, problems = _read_csv(path), []
    else:
        raise UserError(f"--ledger {path}: expected a .jsonl ledger or a .csv table")
    if path.stem == "ledger" and (path.parent / SWEEP).is_file():
        problems += _missing_runs(path.parent / SWEEP)
    if not rows:
        raise UserError(f"--ledger {path} has no rows" + (f" ({problems[0]})" if problems else ""))
    return state_best(rows, best or {}), problems


def _read_csv(path: pathlib.Path) -> list[dict[str, Any]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, header = list(reader), reader.fieldnames or []
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--ledger {path} is not CSV text: {error}") from None
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"--ledger {path} names the column {twice!r} twice: rename or remove one")
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise UserError(f"--ledger {path} line {number} does not have as many cells as the header")
    return rows


def _missing_runs(file: pathlib.Path) -> list[str]:
    state = read_json(file, "sweep state")
    runs = state.get("runs", []) if isinstance(state, dict) else []
    lost = [run for run in runs if isinstance(run, dict) and run.get("status", "done") != "done"]
    return [f"run {run.get('id')} of {file.name} is {run['status']}: its points are missing" for run in lost]
