"""Runs the scripts beside this file: ``python -I SCRIPT ARGUMENTS``."""

import importlib.util
import os
import pathlib
import subprocess
import sys

from alp_jax.core.errors import AlpError, UserError

TIMEOUT_S = 1800


def installed(*packages: str) -> bool:
    """Whether every one of ``packages`` can be imported."""
    return all(importlib.util.find_spec(package) is not None for package in packages)


def require(*packages: str, user: str, extras: str) -> None:
    """Raises UserError unless ``packages``, which the ``extras`` of this project bring, are installed."""
    for package in packages:
        if not installed(package):
            raise UserError(f"{user} needs {package}, which is not installed: pip install 'alp_jax[{extras}]'")


def run_isolated(script: str, *arguments: object, problem: str, error: type[AlpError], **environment: str) -> None:
    """Runs ``script`` to its end.

    Raises:
      error: it failed; the message is ``problem`` and the last line that it printed.
    """
    command = [sys.executable, "-I", str(pathlib.Path(__file__).with_name(script)), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=os.environ | environment
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise error(f"{problem}: {lines[-1][:300]}")
