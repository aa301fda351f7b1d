"""Settings of the JAX runtime that every command shares."""

import os
import pathlib

import jax


def cache_dir() -> pathlib.Path:
    """Where compiled programs and downloads are kept: ``$ALP_CACHE``, else ``alp_jax`` in the user's cache folder."""
    if "ALP_CACHE" in os.environ:
        return pathlib.Path(os.environ["ALP_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "alp_jax"


def setup_runtime() -> None:
    """Turns the persistent compilation cache on; a second start of the same program compiles nothing."""
    jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
