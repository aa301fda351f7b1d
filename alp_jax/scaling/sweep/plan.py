"""Turns a sweep file into the list of its runs, with the name of each and the arguments that train it."""

import dataclasses
import importlib.util
import math
import pathlib
import re
from typing import Any

from alp_jax.config import ConfigError, format_count, shipped, to_dict
from alp_jax.config.flags import load_config
from alp_jax.core.errors import UserError
from alp_jax.core.hashing import fingerprint


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep.

    Attributes:
      id: folder name, a readable part and the hash of the resolved configuration.
      kind: ``trained`` or ``untrained`` (no steps: the baseline of the probes).
      config: ``FILE:ARGUMENTS`` for ``--config``.
      flags: ``--config.key=value`` for everything that is not an argument of the file.
      settings: the resolved configuration as nested dictionaries.
      seconds: what the sweep file expects the run to take, or None.
      overrides: the run as the sweep file states it.
    """

    id: str
    kind: str
    config: str
    flags: tuple[str, ...]
    settings: dict[str, Any] = dataclasses.field(hash=False)
    seconds: float | None = None
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)


def load_sweep(spec: str | pathlib.Path) -> list[dict[str, Any]]:
    """Calls ``get_sweep`` of ``FILE`` or ``FILE:ARGUMENTS`` and checks the shape of what it returns.

    Returns:
      Flat override dictionaries: ``config`` (path of a config file), its arguments, ``config.*`` settings, ``seconds``.

    Raises:
      UserError: no such file, an error inside it, or anything but a list of such dictionaries.
    """
    file, _, arguments = str(spec).partition(":")
    path = shipped.find(file)
    if path is None:
        raise UserError(f"--sweep {file} does not exist; shipped are {', '.join(shipped.names('sweeps'))}")
    loader = importlib.util.spec_from_file_location(f"sweep_{path.stem}", path)
    if loader is None:
        raise UserError(f"--sweep {file} is not a Python file")
    module = importlib.util.module_from_spec(loader)
    try:
        loader.loader.exec_module(module)
        runs = module.get_sweep(arguments or None)
    except ConfigError as error:  # its message already says what is wrong
        raise UserError(f"--sweep {spec}: {error}") from None
    except Exception as error:  # a sweep file is the user's own code: whatever it raises becomes one line
        raise UserError(f"--sweep {file}: {type(error).__name__}: {error}") from None
    if not isinstance(runs, list) or not runs or not all(isinstance(run, dict) for run in runs):
        raise UserError(f"--sweep {spec}: get_sweep() must return a list of dictionaries, one per run")
    for run in runs:
        if not isinstance(run.get("config"), str):
            raise UserError(f"--sweep {spec}: run {run} names no config file: give it the key 'config'")
    return runs


def sweep_name(spec: str) -> str:
    """``configs/sweeps/hybrid.py:size=mini`` -> ``hybrid:size=mini``: the name by which a folder knows its sweep."""
    file, colon, arguments = str(spec).partition(":")
    return pathlib.Path(file).stem + colon + arguments


def plan_runs(runs: list[dict[str, Any]], data: str | None = None) -> list[PlannedRun]:
    """Resolves every run before anything starts, so that a misspelt setting costs nothing.

    Args:
      runs: what ``load_sweep`` returns.
      data: data set folder that replaces the configuration's own. Where the data lies is not part of a run's id.

    Raises:
      UserError: an unknown setting, a value that it cannot have, or two runs that are the same.
    """
    planned: dict[str, PlannedRun] = {}
    for run in runs:
        values = dict(run)
        file, seconds = values.pop("config"), _seconds(run, values.pop("seconds", None))
        arguments = ",".join(f"{key}={value}" for key, value in values.items() if not key.startswith("config."))
        config = f"{file}:{arguments}" if arguments else file
        texts = {k: repr(v).replace(" ", "") if isinstance(v, list | tuple) else v for k, v in values.items()}
        flags = [f"--{key}={text}" for key, text in texts.items() if key.startswith("config.")]
        flags += [f"--config.data.path={data}"] if data else []
        try:
            settings = to_dict(load_config(config, flags))
        except (ConfigError, UserError) as error:
            raise UserError(f"sweep run {run}: {error}") from None
        name = run_name(settings)
        if name in planned:
            raise UserError(f"sweep run {run} is in the list twice: {name}")
        kind = "trained" if settings["train"]["steps"] else "untrained"
        planned[name] = PlannedRun(name, kind, config, tuple(flags), settings, seconds, run)
    return list(planned.values())


def run_name(settings: dict[str, Any]) -> str:
    """``contrastive-4k-zipformer_xxs-seed1-`` and the hash of everything except the paths of data and vocabulary.

    It follows from the settings alone: neither the order in which a sweep states them nor its other runs matter.
    """
    data = {key: value for key, value in settings["data"].items() if key not in ("path", "tokenizer")}
    digest = fingerprint({**settings, "data": data})
    parts = [] if settings["train"]["steps"] else ["untrained"]
    parts += [settings["objective"]["name"], format_count(settings["data"]["pairs"]), settings["model"]["name"]]
    parts += [] if settings["init"] == "scratch" else ["init"]
    return re.sub(r"[^A-Za-z0-9._]+", "-", "-".join([*parts, f"seed{settings['seed']}", digest[:8]]))


def _seconds(run: dict[str, Any], value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise UserError(f"sweep run {run}: seconds {value!r} must be a number above 0")
    return float(value)
