"""The paper's findings checked against these runs; trained encoders against untrained ones, the floor and chance."""

from typing import Any

from alp_jax.scaling.report.against_floor import against_floor
from alp_jax.scaling.report.study import Study
from alp_jax.scaling.report.summary import family_verdicts, retrieval_verdicts

TIMES_CHANCE = 5.0  # the multiple of chance that retrieval should reach


def context(study: Study) -> dict[str, Any]:
    return {
        "verdicts": study.laws["verdicts"],
        "families": family_verdicts(study.panels),
        "floors": against_floor(study.panels),
        "retrieval": retrieval_verdicts(study.panels),
        "times_chance": TIMES_CHANCE,
    }
