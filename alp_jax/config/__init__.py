"""Settings: one tree of frozen dataclasses, resolved once, used everywhere below."""

from alp_jax.config.resolve import ConfigError, from_dict, resolve, to_config_dict, to_dict
from alp_jax.config.schema import RunConfig

__all__ = ["ConfigError", "RunConfig", "from_dict", "resolve", "to_config_dict", "to_dict"]
