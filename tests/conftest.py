"""Every test sees eight CPU devices; compiled programs are kept between runs so the suite stays fast."""

import os
import pathlib
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
    (
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        # Compiling is most of what the suite does, so the code generator is told to hurry; the programs stay the same.
        "--xla_backend_optimization_level=0",
        # The older emitter compiles a step in half the time; nightly's golden check runs with the one that users have.
        "--xla_cpu_use_fusion_emitters=false",
        # Devices that share two cores can begin independent collectives in different orders and wait for each other.
        "--xla_cpu_enable_concurrency_optimized_scheduler=false",
    )
)
# Two steps in flight on eight devices of two cores can wait for each other's threads for ever.
os.environ["JAX_CPU_ENABLE_ASYNC_DISPATCH"] = "false"

import jax
import pytest

_cache = pathlib.Path(os.environ.get("ALP_CACHE", pathlib.Path(tempfile.gettempdir()) / "alp_jax_test_cache"))
jax.config.update("jax_compilation_cache_dir", str(_cache / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


SLOW = (
    "tests/train/test_loop.py",
    "tests/train/",
    "tests/golden/",
    "tests/interop/",
    "tests/models/",
    "tests/parallel/",
    "tests/evaluation/",
    "tests/test_readme.py",
    "tests/compat/",
    "tests/planning/",
)


def pytest_collection_modifyitems(items):
    """Files that take minutes come first, so that two processes end at about the same time."""
    items.sort(key=lambda item: next((i for i, part in enumerate(SLOW) if part in str(item.path)), len(SLOW)))


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """A file's compiled programs go with it: kept to the end they would take some gigabytes."""
    yield
    jax.clear_caches()
