"""The error of this package."""


class ConfigError(ValueError):
    """A configuration key or value that cannot be used; the message names the key."""
