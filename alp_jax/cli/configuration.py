"""``--config=FILE:ARGUMENTS --config.key=value`` to a resolved configuration, with ml_collections' flags."""

import argparse
import difflib
import pathlib

from absl import flags
from ml_collections import config_flags

from alp_jax.config import ConfigError, RunConfig, resolve, to_dict
from alp_jax.core.errors import UserError

HELP = "config file and its arguments, FILE.py:key=value,...; any setting is a flag too: --config.optim.lr=0.01"


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config``; ``--config.key=value`` flags arrive in ``args.overrides``."""
    parser.add_argument("--config", required=True, metavar="FILE[:ARGS]", help=HELP)


def load_config(config: str, overrides: list[str]) -> RunConfig:
    """The frozen configuration for the two kinds of flags.

    Raises:
      UserError: no such file, an unknown setting (the nearest is named), or a value of the wrong type.
    """
    file = config.partition(":")[0]
    if not pathlib.Path(file).is_file():
        raise UserError(f"--config {file} does not exist")
    arguments = [f"--config={config}", *overrides]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
    try:
        rest = values(["alp", *arguments])
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(_explain(error, overrides)) from None
    if len(rest) > 1:
        raise UserError(f"unknown argument {rest[1]!r}")
    return resolve(values["config"].value.to_dict())


def _explain(error: Exception, overrides: list[str]) -> str:
    """One line for what ml_collections reports; the settings it could not find or convert are named in full."""
    while isinstance(error.__context__, ConfigError | AttributeError | KeyError | TypeError | ValueError):
        error = error.__context__
    if isinstance(error, ConfigError):
        return str(error)
    known = to_dict(RunConfig())
    for override in overrides:
        path = override.partition("=")[0].removeprefix("--").split(".")
        level = known
        for i, key in enumerate(path[1:], 2):
            if not isinstance(level, dict) or key not in level:
                where = ".".join(path[: i - 1])
                close = difflib.get_close_matches(key, level, n=1, cutoff=0.0) if isinstance(level, dict) else []
                hint = f" (nearest: {where}.{close[0]})" if close else ""
                return f"unknown setting {where}.{key}{hint}"
            level = level[key]
    return f"{' '.join(overrides)}: {error}"
