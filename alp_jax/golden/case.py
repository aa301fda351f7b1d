"""A folder of reference vectors: ``config.json``, ``io*.safetensors`` and, for models, ``weights.safetensors``."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json

# Files that are a case by themselves, without a config.json beside them -> their kind.
TABLES = {"table.json": "eden", "init_stats.json": "init_stats", "scheduled_float_values.json": "schedules"}


class Named(dict):
    """A dictionary whose missing keys are errors that name the file."""

    def __init__(self, values: dict[str, Any], path: pathlib.Path):
        super().__init__(values)
        self.path = path

    def __missing__(self, key):
        raise UserError(f"{self.path} lacks {key}")


@dataclasses.dataclass(frozen=True)
class Case:
    """``name`` is the folder's path below the folder that was searched; ``config`` its ``config.json``."""

    name: str
    folder: pathlib.Path
    config: Named

    def tensors(self, stem: str = "io") -> dict[str, np.ndarray]:
        """The arrays of ``<stem>.safetensors``; a missing or damaged file and a missing name are UserErrors."""
        path = self.folder / f"{stem}.safetensors"
        try:
            return Named(load_file(path), path)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} cannot be read: {error}") from None

    def table(self) -> Any:
        """The content of the JSON file that is a case by itself."""
        return read_json(self.config.path, "golden table")


def find_cases(root: pathlib.Path) -> list[Case]:
    """Every folder at or below ``root`` with a ``config.json`` of some ``kind`` or a table of known name, by name.

    Raises:
      UserError: no such folder, or a config.json that is not a JSON object with a kind.
    """
    if not root.is_dir():
        raise UserError(f"--dir {root} is not a folder")
    cases = []
    for path in sorted(path for name in ("config.json", *TABLES) for path in root.rglob(name)):
        config = {"kind": TABLES[path.name]} if path.name in TABLES else read_json(path, "golden config")
        if not isinstance(config, dict) or not isinstance(config.get("kind"), str):
            raise UserError(f"{path} does not say its kind")
        name = path.parent.relative_to(root).as_posix()
        cases.append(Case(path.parent.name if name == "." else name, path.parent, Named(config, path)))
    if not cases:
        raise UserError(f"--dir {root} has no folder with a config.json")
    return cases
