"""The floor under every number: what log-mel frames reach in the place of an encoder's.

Floors depend on data and settings, not on the run, so runs on the same data share them through one file.
"""

from collections.abc import Callable

import jax

from alp_jax.config.schema import FeatureConfig
from alp_jax.core import files, storage
from alp_jax.core.errors import UserError
from alp_jax.evaluation.model import EvalModel
from alp_jax.features.logmel import log_mel

NAME = "log-mel statistics"


def log_mel_model(config: FeatureConfig) -> EvalModel:
    """An ``EvalModel`` whose frames are the log-mel features themselves."""
    return EvalModel(name=NAME, frames=jax.jit(lambda audio_BS, audio_len_B: log_mel(audio_BS, audio_len_B, config)))


def shared_floors(
    path: storage.Location, identity: str, names: list[str], compute: Callable[[list[str]], dict[str, dict]]
) -> dict[str, dict]:
    """Floors of ``names`` (task -> metric -> value), read from ``path``; those it lacks are computed and added to it.

    ``identity`` stands for data and settings; floors that the file holds for other identities are left alone.

    Of several runs that add to it at once the last one stays: what is missing then is computed again.

    Raises:
      UserError: the file is not one of floors.
      StorageError: it cannot be written.
    """
    stored = files.read_object(path, "floors file", storage.read) if storage.size(path) >= 0 else {}
    known = stored.get(identity, {})
    if not isinstance(known, dict) or not all(isinstance(floor, dict) for floor in known.values()):
        raise UserError(f"floors file {path}: {identity} does not hold floors by task: remove the file or name another")
    missing = [name for name in names if name not in known]
    if missing:
        known = {**known, **{name: {} for name in missing}, **compute(missing)}
        storage.write(path, files.json_text({**stored, identity: known}).encode())
    return {name: known[name] for name in names}
