"""Every setting of a set of runs, spelled out with the meaning, unit and range of its field."""

from typing import Any

from alp_jax.config import RunConfig
from alp_jax.config.domain import settings_of
from alp_jax.scaling.report.study import Study
from alp_jax.scaling.report.variants import flatten


def context(study: Study) -> dict[str, Any]:
    return {"settings": setting_rows(list(study.configs.values()))}


def setting_rows(configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``name``, ``value``, ``unit``, ``meaning`` and ``range`` of every setting, and whether it ``varies``.

    Values that differ between runs are all listed. Settings known only to an earlier version have nothing but a value.
    """
    domains = {one.name: one.domain for one in settings_of(RunConfig)}
    flat = [dict(flatten(config)) for config in configs]
    rows = []
    for name in sorted({name for one in flat for name in one}):
        values = list(dict.fromkeys(_show(one[name]) for one in flat if name in one))
        domain = domains.get(name)
        rows.append(
            {
                "name": name,
                "value": " | ".join(values),
                "unit": domain.unit if domain else "",
                "meaning": domain.meaning if domain else "",
                "range": domain.range() if domain else "",
                "varies": len(values) > 1,
            }
        )
    return rows


def _show(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_show, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
