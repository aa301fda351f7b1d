"""The fitted laws, and whether they predict a rung that was left out."""

from typing import Any

from alp_jax.scaling.report.study import Study


def context(study: Study) -> dict[str, Any]:
    laws = {name: study.laws[name] for name in ("fits", "fit_note", "held_out", "excluded")}
    warnings = dict.fromkeys(warning for fit in laws["fits"] for warning in fit["warnings"])
    return laws | {"fit_warnings": list(warnings)}
