"""The names of all corpora: the modules of captioned/ and benchmarks/, and those that other distributions add.

A distribution adds one through the entry point group GROUP, whose entries refer to a ``Corpus`` of the entry's name.
Listing the names imports no corpus, so a help text that lists them costs nothing.
"""

import functools
import pkgutil
from importlib import metadata

from alp_jax.core.errors import UserError
from alp_jax.corpora import benchmarks, captioned

GROUP = "alp_jax.corpora"


@functools.cache
def modules() -> dict[str, str]:
    """Name -> module of the corpora that are part of this package. UserError: two have the same name."""
    named: dict[str, str] = {}
    for package in (captioned, benchmarks):
        for entry in pkgutil.iter_modules(package.__path__):
            if entry.name in named:
                raise UserError(f"two corpora are called {entry.name!r}: {named[entry.name]} and {package.__name__}")
            named[entry.name] = f"{package.__name__}.{entry.name}"
    return named


def outside() -> list[str]:
    """The names of corpora that other distributions add."""
    return sorted(metadata.entry_points(group=GROUP).names)


def names() -> list[str]:
    """Captioned corpora, benchmarks, then those of other distributions."""
    return list(dict.fromkeys([*modules(), *outside()]))
