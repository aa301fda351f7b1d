"""The table of all settings of a run, for ``--help_settings``."""

import textwrap

from alp_jax.config import hints
from alp_jax.config.domain import Setting

_WIDTH = 100


def settings_help() -> str:
    """Every setting of a run: its flag with the default, then meaning, range, unit, and whether a run may change it."""
    lines, section = [], ""
    for name, one in hints.known().items():
        group = name.rpartition(".")[0]
        if group != section:
            lines.append(f"{chr(10) if section else ''}{group}")
            section = group
        lines.append(f"  --{name}={_default(one)}")
        lines += textwrap.wrap(_meaning(one), _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def _default(one: Setting) -> str:
    return f"({','.join(map(str, one.default))},)" if isinstance(one.default, tuple) else str(one.default)


def _meaning(one: Setting) -> str:
    domain = one.domain
    limits = [" ".join(filter(None, (domain.range(), domain.unit)))] + ["free on resume"] * domain.free
    text = ", ".join(filter(None, limits))
    return f"{domain.meaning} [{text}]" if text else domain.meaning
