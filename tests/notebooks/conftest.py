"""The notebooks are executed on tiny runs."""

from tests.tiny_runs import config_file, tiny, tones  # noqa: F401
