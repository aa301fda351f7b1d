"""Every test sees eight CPU devices; compiled programs are kept between runs so the suite stays fast."""

import os
import pathlib
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
# Compiling is most of what the suite does, so the code generator is told to hurry; the programs stay the same.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
)

import jax

_cache = pathlib.Path(os.environ.get("ALP_CACHE", pathlib.Path(tempfile.gettempdir()) / "alp_jax_test_cache"))
jax.config.update("jax_compilation_cache_dir", str(_cache / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
