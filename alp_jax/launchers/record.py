"""A record of what was submitted, kept in the run folder: ``launch/1/launch.json`` and the submitted file."""

import datetime
import pathlib
from collections.abc import Mapping, Sequence

from alp_jax.core import storage
from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json, write_json, write_text
from alp_jax.core.mirror import local_home
from alp_jax.core.run_files import LAUNCH, LAUNCHES
from alp_jax.launchers.names import option


def new_folder(command: Sequence[str]) -> pathlib.Path:
    """Makes ``launch/N`` in the ``--workdir`` of a command, with the next free N.

    Of a run in an object store it is in the cache of this host: schedulers write their logs there.

    Raises:
      UserError: the command names no ``--workdir``, none can be there, or it cannot be written.
    """
    workdir = option(command, "--workdir")
    if workdir is None:
        raise UserError("the command names no --workdir, where the launch is recorded")
    storage.check_scheme(workdir, "--workdir")
    home = local_home("launches", workdir) if storage.is_remote(workdir) else storage.local(workdir)
    root, number = home / LAUNCHES, 1
    try:
        root.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                (root / str(number)).mkdir()
                return root / str(number)
            except FileExistsError:
                number += 1
    except OSError as error:
        raise UserError(f"--workdir {workdir}: the launch cannot be recorded: {error}") from None


def write_record(
    folder: pathlib.Path,
    kind: str,
    commands: Sequence[Sequence[str]],
    settings: Mapping[str, object],
    rendered: Mapping[str, str],
) -> None:
    """Writes the record of ``commands`` (arguments of ``alp``) with the flags of a ``kind``, and ``rendered`` files."""
    for name, text in rendered.items():
        write_text(folder / name, text)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    content = {"kind": kind, "commands": [list(command) for command in commands], "settings": dict(settings)}
    write_json(folder / LAUNCH, {**content, "time": now, "submitted": []})


def submitted(folder: pathlib.Path, kind: str, output: str) -> tuple[dict, str]:
    """The result of a launch, and lines to print."""
    return {"kind": kind, "record": str(folder), "output": output}, f"{output}\nrecorded in {folder}"


def add_submitted(folder: pathlib.Path, argv: Sequence[str], code: int, output: str) -> None:
    """Appends one call of a scheduler's program, with its output, to the record."""
    content = read_json(folder / LAUNCH, "record of a launch")
    content["submitted"].append({"argv": list(argv), "exit_code": code, "output": output[-2000:]})
    write_json(folder / LAUNCH, content)
