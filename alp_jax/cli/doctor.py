"""``alp doctor``: what this machine offers a run."""

import argparse
import importlib.util
import os
import platform
import shutil
from importlib import metadata

EXAMPLE = "alp doctor"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "sentencepiece")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--path", default=".", metavar="DIR", help="folder whose free disk space is shown")


def run(args: argparse.Namespace) -> dict:
    import jax

    import alp_jax

    report = {
        "alp_jax": alp_jax.__version__,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "torch": metadata.version("torch") if importlib.util.find_spec("torch") else None,
        "backend": jax.default_backend(),
        "devices": [str(device) for device in jax.devices()],
        "cpus": os.cpu_count(),
        "disk_free_gb": round(shutil.disk_usage(args.path).free / 1e9, 1),
        "apt_get": shutil.which("apt-get"),
        "dpkg_deb": shutil.which("dpkg-deb"),
    }
    if not args.json:
        for name, value in report.items():
            if isinstance(value, dict):
                value = ", ".join(f"{k} {v}" for k, v in value.items())
            elif isinstance(value, list):
                value = ", ".join(value)
            print(f"{name:<13} {'not installed' if value is None else value}")
    return report
