"""From a sweep file to the list of runs: what each is called, and the command line that trains it."""

import dataclasses
import importlib.util
import pathlib
import re
from collections.abc import Callable
from typing import Any

from alp_jax.config import ConfigError, RunConfig, to_dict
from alp_jax.core.errors import UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.core.names import choose

KINDS = ("trained", "untrained")
_KEYS = ("config", "shared", "runs", "typical_seconds")


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep.

    Attributes:
      id: folder name, a readable part and the hash of the resolved configuration.
      kind: ``trained`` or ``untrained`` (no steps: the baseline of the probes).
      config: ``FILE:ARGUMENTS`` for ``--config``.
      flags: ``--config.key=value`` for everything that is no argument of the file.
      settings: the resolved configuration as nested dictionaries.
      typical_seconds: what the estimate of its duration starts from.
    """

    id: str
    kind: str
    config: str
    flags: tuple[str, ...]
    settings: dict[str, Any] = dataclasses.field(hash=False)
    typical_seconds: float


def load_sweep(file: str | pathlib.Path) -> dict[str, Any]:
    """Calls ``get_sweep()`` of a sweep file and checks the shape of what it returns.

    Returns:
      ``config`` (path of a config file), ``shared`` (overrides of every run), ``runs`` (flat override dictionaries,
      each with its ``kind``) and ``typical_seconds`` (kind -> seconds, and ``step`` -> seconds of every step beside).

    Raises:
      UserError: no such file, an error inside it, or a missing or unknown key.
    """
    path = pathlib.Path(file)
    if not path.is_file():
        raise UserError(f"--sweep {file} does not exist")
    spec = importlib.util.spec_from_file_location(f"sweep_{path.stem}", path)
    if spec is None:
        raise UserError(f"--sweep {file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        sweep = module.get_sweep()
    except Exception as error:  # a sweep file is the user's own code: whatever it raises is said in one line
        raise UserError(f"--sweep {file}: {type(error).__name__}: {error}") from None
    for key in sweep:
        choose(key, _KEYS, f"key of sweep {file}")
    missing = [key for key in _KEYS if key not in sweep]
    if missing or not sweep["runs"]:
        raise UserError(f"--sweep {file}: get_sweep() returns no {missing[0] if missing else 'runs'}")
    return sweep


def plan_runs(
    sweep: dict[str, Any], resolve: Callable[[str, list[str]], RunConfig], data: str | None = None
) -> list[PlannedRun]:
    """Resolves every run before anything starts, so that a misspelt setting costs nothing.

    Args:
      sweep: what ``load_sweep`` returns.
      resolve: ``(FILE:ARGUMENTS, flags)`` to the resolved configuration.
      data: data set folder put in place of the configuration's own. Where the data lies is no part of a run's id.

    Raises:
      UserError: an unknown setting or kind, or two runs that are the same.
    """
    runs: dict[str, PlannedRun] = {}
    for overrides in sweep["runs"]:
        own = dict(overrides)
        kind = choose(own.pop("kind", "nothing"), KINDS, f"kind of sweep run {overrides}")
        values = {**sweep["shared"], **own}
        arguments = ",".join(f"{key}={value}" for key, value in values.items() if not key.startswith("config."))
        config = f"{sweep['config']}:{arguments}" if arguments else str(sweep["config"])
        flags = [f"--{key}={_text(value)}" for key, value in values.items() if key.startswith("config.")]
        flags += [f"--config.data.path={data}"] if data else []
        try:
            settings = to_dict(resolve(config, flags))
        except ConfigError as error:
            raise UserError(f"sweep run {overrides}: {error}") from None
        if (kind == "untrained") != (settings["train"]["steps"] == 0):
            raise UserError(f"sweep run {overrides}: kind {kind!r} does not fit config.train.steps")
        identity = _identity(settings)
        if identity in runs:
            raise UserError(f"sweep run {overrides} is in the list twice, the other time as {runs[identity].id}")
        name = f"{_slug(kind, own)}-{identity[:8]}"
        typical = sweep["typical_seconds"]
        seconds = float(typical[kind]) + float(typical.get("step", 0.0)) * settings["train"]["steps"]
        runs[identity] = PlannedRun(name, kind, config, tuple(flags), settings, seconds)
    return list(runs.values())


def _text(value: Any) -> str:
    return repr(value).replace(" ", "") if isinstance(value, list | tuple) else str(value)


def _identity(settings: dict[str, Any]) -> str:
    data = {key: value for key, value in settings["data"].items() if key not in ("path", "tokenizer")}
    return fingerprint({**settings, "data": data})


def _slug(kind: str, own: dict[str, Any]) -> str:
    """``contrastive-4k-seed1`` from the overrides that set this run apart."""
    parts = [kind] if kind != "trained" else []
    for key, value in own.items():
        parts.append(f"{key.rpartition('.')[2]}{value}" if key.startswith("config.") else str(value))
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts)).strip("-")[:60]
