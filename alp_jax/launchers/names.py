"""What a name, an argument or a command that goes to a scheduler may contain."""

import re
from collections.abc import Sequence

from alp_jax.core.errors import UserError

# flag -> (pattern, what it is)
_LABEL = (r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", "a letter, then up to 39 lower-case letters, digits and hyphens")
_WORD = (r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", "letters, digits, dots, hyphens and underscores")
PATTERNS = {
    **dict.fromkeys(("name", "cluster", "namespace", "claim"), _LABEL),
    **dict.fromkeys(("partition", "account"), _WORD),
    "project": (r"[a-z][-a-z0-9]{4,28}[a-z0-9]", "a project id: 6 to 30 lower-case letters, digits and hyphens"),
    "zone": (r"[a-z]+-[a-z]+\d+-[a-z]", "a zone such as us-central2-b"),
    "time": (r"(\d+-)?\d{1,2}:\d{2}:\d{2}", "[DAYS-]HH:MM:SS"),
    "image": (r"[a-z0-9][A-Za-z0-9._/:@-]{0,254}", "an image such as REGISTRY/NAME:TAG"),
    "accelerator": (r"[a-z0-9][a-z0-9-]{0,62}", "lower-case letters, digits and hyphens"),
    "topology": (r"\d{1,4}(x\d{1,4}){1,2}", "such as 4x4 or 4x4x8"),
    "runtime": (r"[a-z0-9][a-z0-9._-]{0,62}", "a runtime version such as v2-alpha-tpuv5-lite"),
    "repository": (r"https://[A-Za-z0-9.-]+(:\d+)?(/[A-Za-z0-9._~-]+)+", "an https address of a git repository"),
    "revision": (r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}", "a branch, tag or commit"),
}


def check(flag: str, value: str) -> str:
    """Returns ``value``, given as ``--flag``, unchanged.

    Raises:
      UserError: it is not of the form that the flag requires.
    """
    pattern, form = PATTERNS[flag]
    if not re.fullmatch(pattern, value, re.ASCII):
        raise UserError(f"--{flag} {value!r} cannot be used: it must be {form}")
    return value


def check_count(flag: str, value: int, most: int) -> int:
    """Returns ``value``, given as ``--flag``; raises UserError unless it is from 1 to ``most``."""
    if not 1 <= value <= most:
        raise UserError(f"--{flag} {value} must be from 1 to {most}")
    return value


LAUNCHED = ("train", "sweep", "eval", "doctor")  # that any launcher can start


def check_command(command: Sequence[str], verbs: Sequence[str] = LAUNCHED) -> list[str]:
    """Returns the arguments of ``alp``, a verb first, with a ``--workdir`` where the verb writes into one.

    Raises:
      UserError: the command is empty, cannot be launched, or has an argument with control characters.
    """
    command = list(command[1:] if command[:1] == ["--"] else command)
    if not command:
        raise UserError("there is no command: end with -- train --workdir DIR --config=FILE ...")
    if command[0] not in verbs:
        raise UserError(f"command {command[0]!r} cannot be launched: one of {', '.join(verbs)} can")
    for argument in command:
        if not argument.isprintable():
            raise UserError(f"argument {argument!r} holds a control character and cannot be passed on")
    return command


def option(command: Sequence[str], flag: str) -> str | None:
    """The value of ``--flag VALUE`` or ``--flag=VALUE``; None where it is not given."""
    for at, argument in enumerate(command):
        if argument == flag and at + 1 < len(command):
            return command[at + 1]
        if argument.startswith(flag + "="):
            return argument[len(flag) + 1 :]
    return None


def for_cluster(command: Sequence[str], kind: str) -> list[str]:
    """``command`` with ``--cluster``, which says how a process learns its number, unless it has that flag already.

    A build of data has no such flag: its processes need not know of each other.
    """
    alone = command[0] == "data" or option(command, "--cluster") is not None
    return list(command) if alone else [*command, "--cluster", kind]
