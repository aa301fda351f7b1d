"""What the runs cost."""

from typing import Any

from alp_jax.scaling.report.costs import make_costs
from alp_jax.scaling.report.figures import cost_svg
from alp_jax.scaling.report.study import Study


def context(study: Study) -> dict[str, Any] | None:
    costs = make_costs(study.rows)
    seconds = sum(cost.seconds * cost.runs for cost in costs if cost.seconds is not None)
    usable = [cost for cost in costs if cost.score is not None and cost.flops]
    title = "Mean probe score in percent against floating-point operations of training"
    # runs that share no probe or do not state their FLOPs are not drawn
    figure = cost_svg(usable, study.styles, title) if len({cost.flops for cost in usable}) > 1 else None
    return {"costs": costs, "training_seconds": seconds, "cost_figure": figure} if costs else None
