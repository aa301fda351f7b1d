"""Every run: what it saw, how long it took and how it ended."""

from typing import Any

from alp_jax.scaling.report.study import Study

_COLUMNS = ("objective", "pairs", "seed", "steps", "samples_seen", "audio_seconds", "flops", "params", "wall_seconds")


def context(study: Study) -> dict[str, Any]:
    by_run = {row["run"]: row for row in study.rows}
    empty = dict.fromkeys(_COLUMNS)
    return {"runs": [empty | by_run.get(run["id"], {}) | run for run in study.runs], "problems": study.problems}
