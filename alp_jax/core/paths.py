"""Where things are kept between runs."""

import os
import pathlib


def cache_dir() -> pathlib.Path:
    """Downloads and compiled programs: ``$ALP_CACHE``, else ``alp_jax`` in the user's cache folder."""
    if "ALP_CACHE" in os.environ:
        return pathlib.Path(os.environ["ALP_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "alp_jax"
