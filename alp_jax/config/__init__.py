"""Settings: one tree of frozen dataclasses, resolved once, used everywhere below."""

from alp_jax.config.arguments import format_count, parse_arguments, parse_count
from alp_jax.config.errors import ConfigError
from alp_jax.config.resolve import from_dict, resolve, to_config_dict, to_dict
from alp_jax.config.rules import check_run
from alp_jax.config.schema import RunConfig
from alp_jax.config.sizes import MODELS
from alp_jax.config.stored import model_in

__all__ = [
    "MODELS",
    "ConfigError",
    "RunConfig",
    "check_run",
    "format_count",
    "from_dict",
    "model_in",
    "parse_arguments",
    "parse_count",
    "resolve",
    "to_config_dict",
    "to_dict",
]
