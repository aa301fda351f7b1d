"""What other distributions add to our registries through entry points (``importlib.metadata``).

A distribution names what it adds in its ``pyproject.toml``, for instance::

    [project.entry-points."alp_jax.evaluators"]
    loudness = "their_package.loudness:EVALUATOR"
"""

from collections.abc import Iterable
from importlib import metadata

from alp_jax.core.errors import UserError


def load(group: str, built_in: Iterable[str] = ()) -> dict[str, object]:
    """Name -> what its entry point in ``group`` refers to, sorted by name.

    Args:
      built_in: names of ours, which no entry point may take.

    Raises:
      UserError: one line that names the distribution and the entry point: it does not load, or its name is taken by a
        built-in or by another distribution.
    """
    built_in, loaded = set(built_in), {}
    owners: dict[str, tuple[str, str]] = {}  # name -> (distribution, what it points to)
    for point in sorted(metadata.entry_points(group=group), key=lambda point: point.name):
        distribution = point.dist.name if point.dist else "unknown"
        label = f"entry point {point.name!r} of distribution {distribution!r} (group {group})"
        if owners.get(point.name) == (distribution, point.value):
            continue  # the same distribution found twice on sys.path, as an editable install is
        if point.name in built_in:
            raise UserError(f"{label} clashes with a built-in name: rename it or uninstall {distribution}")
        if point.name in owners:
            raise UserError(f"{label} clashes with that of {owners[point.name][0]!r}: uninstall one of the two")
        try:
            loaded[point.name] = point.load()
        except Exception as error:  # foreign code may raise anything on import, and the user must learn whose it is
            reason = " ".join(str(error).split())
            raise UserError(f"{label} does not load: {type(error).__name__}: {reason}") from error
        owners[point.name] = distribution, point.value
    return loaded
