"""Settings out of folders that runs and imports leave behind."""

import os
import pathlib

from alp_jax.config.resolve import resolve
from alp_jax.config.schema import ModelConfig
from alp_jax.core.files import read_object
from alp_jax.core.run_files import CONFIG


def model_in(folder: str | os.PathLike) -> ModelConfig | None:
    """The model of a run or an import, for configurations that begin with it; None where ``folder`` is neither.

    Raises:
      UserError: its configuration cannot be read.
    """
    path = pathlib.Path(folder, CONFIG)
    return resolve(read_object(path, "run configuration")).model if path.is_file() else None
