"""What tells the runs of a sweep apart besides objective, model, start, pairs and seed."""

from collections.abc import Iterator
from typing import Any

from alp_jax.scaling.glossary import setting_words

AXES = ("objective", "model", "init")  # columns of a ledger that tell curves apart
_POINT = (*AXES, "pairs", "seed")


def add_variants(rows: list[dict[str, Any]], configs: dict[str, dict[str, Any]]) -> list[str]:
    """Gives every row the column ``variant`` and a column for each setting that the sweep varies on purpose.

    A setting is varied on purpose where two trained runs of equal objective, model, start, pairs and seed differ in it;
    what follows from those (as steps do from pairs) is not. Without this, such runs would count as seeds of one point.

    Args:
      configs: run -> its configuration, as far as there is one.

    Returns:
      The settings; settings that always change together are one, named by the first.
    """
    flat = {run: {k: str(v) for k, v in flatten(config) if k != "seed"} for run, config in configs.items()}
    runs = {row["run"]: row for row in rows if row["steps"] and row["run"] in flat}
    names, partitions = [], set()
    for name in sorted({name for run in runs for name in flat[run]}):
        values_at: dict[tuple, set] = {}
        for run, row in runs.items():
            values_at.setdefault(tuple(str(row[c]) for c in _POINT), set()).add(flat[run].get(name))
        values = [flat[run].get(name) for run in runs]
        partition = tuple(map(values.index, values))  # which runs have the same value
        if any(len(several) > 1 for several in values_at.values()) and partition not in partitions:
            names.append(name)
            partitions.add(partition)
    families: dict[tuple, dict[str, set]] = {}
    for run, row in runs.items():
        for name in names:
            family = families.setdefault(tuple(str(row[c]) for c in AXES), {})
            family.setdefault(name, set()).add(flat[run].get(name))
    for row in rows:
        settings = flat.get(row["run"], {})
        varied = families.get(tuple(str(row[c]) for c in AXES), {})
        own = [name for name in names if len(varied.get(name, ())) > 1] if row["steps"] else []
        row["variant"] = ", ".join(f"{setting_words(name)} {settings.get(name)}" for name in own)
        row |= {name: settings.get(name, "") for name in names}
    return names


def flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(``a.b.c``, value) of nested dictionaries."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
