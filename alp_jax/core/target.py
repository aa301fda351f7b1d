"""Which kind of device a program is traced for, when that differs from the one it is traced on."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

_planned: contextvars.ContextVar[str | None] = contextvars.ContextVar("planned_backend", default=None)


def backend(present: Callable[[], str]) -> str:
    """``cpu``, ``gpu`` or ``tpu``: what is planned for, else what ``present`` (``jax.default_backend``) finds here."""
    return _planned.get() or present()


@contextlib.contextmanager
def planned_for(name: str) -> Iterator[None]:
    """A context in which forms that differ between kinds of devices are those for ``name``."""
    token = _planned.set(name)
    try:
        yield
    finally:
        _planned.reset(token)
