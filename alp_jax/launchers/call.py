"""Calls a scheduler's own program, with its arguments as a list."""

import pathlib
import shutil
import subprocess
from collections.abc import Sequence

from alp_jax.core.errors import AlpError, UserError
from alp_jax.launchers.record import add_submitted


def need(program: str, hint: str) -> str:
    """The path of ``program``; a UserError with ``hint`` where it is not installed."""
    path = shutil.which(program)
    if path is None:
        raise UserError(f"{program} is not installed here: {hint}, or add --dry_run to see what would be submitted")
    return path


def call(argv: Sequence[str], record: pathlib.Path | None, *, timeout_s: float | None = 120.0) -> tuple[int, str]:
    """(exit code, output) of ``argv``, which is also appended to the ``record``.

    Raises:
      AlpError: it did not answer in time.
    """
    try:
        done = subprocess.run(list(argv), capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise AlpError(f"{argv[0]} did not answer in {timeout_s:g} s") from None
    output = (done.stdout + done.stderr).strip()
    if record is not None:
        add_submitted(record, argv, done.returncode, output)
    return done.returncode, output


def stream(argv: Sequence[str], record: pathlib.Path | None) -> int:
    """The exit code of ``argv``, which is recorded; its output goes straight to the terminal, not to the ``record``."""
    code = subprocess.run(list(argv), stdin=subprocess.DEVNULL).returncode
    if record is not None:
        add_submitted(record, argv, code, "")
    return code


def must(argv: Sequence[str], record: pathlib.Path | None, **options) -> str:
    """The output of ``argv``; an AlpError with its last line where it fails."""
    code, output = call(argv, record, **options)
    if code:
        last = output.splitlines()[-1] if output else "it said nothing"
        raise AlpError(f"{argv[0]} ended with {code}: {last}")
    return output
