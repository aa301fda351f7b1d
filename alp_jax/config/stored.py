"""Settings out of folders that runs and imports leave behind."""

import os

from alp_jax.config.resolve import resolve
from alp_jax.config.schema import ModelConfig
from alp_jax.core.run_files import settings_in


def model_in(folder: str | os.PathLike) -> ModelConfig | None:
    """The model of a run or an import, for configurations that begin with it; None where ``folder`` is neither.

    Raises:
      UserError: its configuration, or the store that ``folder`` is a URL of, cannot be read.
    """
    settings = settings_in(folder)
    return None if settings is None else resolve(settings).model
