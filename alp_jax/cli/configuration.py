"""``--config=FILE:ARGUMENTS --config.key=value`` to a resolved configuration, with ml_collections' flags."""

import argparse
import textwrap

from alp_jax.config import MODELS, ConfigError, RunConfig, check_run, hints, resolve, shipped
from alp_jax.config.domain import Setting
from alp_jax.core.errors import UserError

HELP = "config file and its arguments, FILE.py:key=value,...; any setting is a flag too: --config.optim.lr=0.01"
_WIDTH = 100


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config`` and ``--help_settings``; ``--config.key=value`` flags arrive in ``args.overrides``."""
    parser.add_argument("--config", required=True, metavar="FILE[:ARGS]", help=f"{HELP} (--help_settings lists them)")
    parser.add_argument(
        "--help_settings",
        action=_HelpSettings,
        help="print every setting with its default, range and meaning, and exit",
    )


def load_config(config: str, overrides: list[str]) -> RunConfig:
    """The frozen configuration for the two kinds of flags.

    Raises:
      UserError: no such file, an unknown setting (what was probably meant is named), a value of the wrong type or out
        of its range, or settings that do not go together.
    """
    from absl import flags  # here, as ``--help`` needs neither
    from ml_collections import config_flags

    from alp_jax.objectives.registry import check_objective

    file, colon, values_of_file = config.partition(":")
    path = shipped.find(file)
    if path is None:
        raise UserError(f"--config {file} does not exist; shipped are {', '.join(shipped.names())}")
    arguments = [f"--config={path}{colon}{values_of_file}", *overrides]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
    try:
        rest = values(["alp", *arguments])
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, SyntaxError) as error:
        raise UserError(_explain(error, config, overrides)) from None
    if len(rest) > 1:
        raise UserError(f"unknown argument {rest[1]!r}{hints.of_name(rest[1])}")
    run_config = resolve(values["config"].value.to_dict())
    _check_preset(run_config, config, overrides)
    check_run(run_config)
    check_objective(run_config)
    return run_config


def _explain(error: Exception, config: str, overrides: list[str]) -> str:
    """One line for what ml_collections reports; the settings it could not find or convert are named in full."""
    while isinstance(error.__context__, ConfigError | AttributeError | KeyError | TypeError | ValueError):
        error = error.__context__
    if isinstance(error, ConfigError):
        return str(error)
    known = hints.known()
    for override in overrides:
        if not override.startswith("--config."):
            return f"unknown argument {override!r}{hints.of_name(override)}"
        name, given, text = override.removeprefix("--").partition("=")
        if any(one.startswith(f"{name}.") for one in known):
            return hints.of_group(name, text, config)
        if name not in known:
            return hints.unknown(name)
        if not hints.can_be(name, text if given else None):
            return hints.of_value(name, text if given else None)
    return f"{' '.join(overrides)}: {error}"


def _check_preset(run_config: RunConfig, config: str, overrides: list[str]) -> None:
    """A preset's name alone would call another model by it."""
    preset = MODELS.get(run_config.model.name)
    if any(one.startswith("--config.model.name=") for one in overrides) and preset is not None:
        parts = ("encoder_kind", "encoder", "vit", "conformer", "encoder_settings")
        if any(getattr(preset, part) != getattr(run_config.model, part) for part in parts):
            raise UserError(
                f"config.model.name is only what reports call the model, whose sizes are not those of the preset "
                f"{run_config.model.name}: use {hints.argument(config, 'model', run_config.model.name)}"
            )


class _HelpSettings(argparse.Action):
    """Prints the table of settings in place of running the verb."""

    def __init__(self, **options):
        super().__init__(nargs=0, **options)

    def __call__(self, parser, namespace, values, option_string=None):
        print(settings_help())
        parser.exit()


def settings_help() -> str:
    """Every setting of a run: its flag with the default, then meaning, range, unit, and whether a run may change it."""
    lines, section = [], ""
    for name, one in hints.known().items():
        group = name.rpartition(".")[0]
        if group != section:
            lines.append(f"{chr(10) if section else ''}{group}")
            section = group
        lines.append(f"  --{name}={_default(one)}")
        lines += textwrap.wrap(_meaning(one), _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def _default(one: Setting) -> str:
    return f"({','.join(map(str, one.default))},)" if isinstance(one.default, tuple) else str(one.default)


def _meaning(one: Setting) -> str:
    domain = one.domain
    limits = [" ".join(filter(None, (domain.range(), domain.unit)))] + ["free on resume"] * domain.free
    text = ", ".join(filter(None, limits))
    return f"{domain.meaning} [{text}]" if text else domain.meaning
