"""``--config=FILE:ARGUMENTS --config.key=value`` to a resolved configuration, with ml_collections' flags."""

from alp_jax.config import hints, shipped
from alp_jax.config.errors import ConfigError
from alp_jax.config.resolve import resolve
from alp_jax.config.rules import check_run
from alp_jax.config.schema import RunConfig
from alp_jax.config.sizes import MODELS


def load_config(config: str, overrides: list[str]) -> RunConfig:
    """The frozen configuration for the two kinds of flags.

    Raises:
      ConfigError: no such file, an unknown setting (what was probably meant is named), a value of the wrong type or out
        of its range, or settings that do not go together.
    """
    from absl import flags  # here, as ``--help`` needs neither
    from ml_collections import config_flags

    file, colon, values_of_file = config.partition(":")
    path = shipped.find(file)
    if path is None:
        raise ConfigError(f"--config {file} does not exist; shipped are {', '.join(shipped.names())}")
    arguments = [f"--config={path}{colon}{values_of_file}", *overrides]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
    try:
        rest = values(["alp", *arguments])
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, SyntaxError) as error:
        raise ConfigError(_explain(error, config, overrides)) from None
    if len(rest) > 1:
        raise ConfigError(f"unknown argument {rest[1]!r}{hints.of_name(rest[1])}")
    run_config = resolve(values.config.to_dict())
    _check_preset(run_config, config, overrides)
    check_run(run_config)
    return run_config


def given_config(config: str | None, overrides: list[str]) -> RunConfig | None:
    """``load_config`` of an optional ``--config``; None without it. ConfigError also for overrides of no file."""
    if overrides and not config:
        raise ConfigError(f"{overrides[0]} needs --config=FILE")
    return load_config(config, overrides) if config else None


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
    """Refuses a preset's name set on its own, which would give that name to another model."""
    preset = MODELS.get(run_config.model.name)
    if any(one.startswith("--config.model.name=") for one in overrides) and preset is not None:
        parts = ("encoder_kind", "encoder", "vit", "conformer", "encoder_settings")
        if any(getattr(preset, part) != getattr(run_config.model, part) for part in parts):
            raise ConfigError(
                f"config.model.name is only what reports call the model, whose sizes are not those of the preset "
                f"{run_config.model.name}: use {hints.argument(config, 'model', run_config.model.name)}"
            )
