"""Settings of the JAX runtime that every command shares."""

import jax

from alp_jax.core.paths import cache_dir


def setup_runtime() -> None:
    """Turns on the persistent compilation cache, so that a second start of the same program compiles nothing."""
    jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
