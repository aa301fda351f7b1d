"""Every file here trains tiny runs on tones."""

from tests.tiny_runs import config_file, tiny, tones  # noqa: F401
