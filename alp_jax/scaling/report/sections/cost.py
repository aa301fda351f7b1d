"""What the runs took."""

from typing import Any

from alp_jax.scaling.report.costs import Cost, make_costs
from alp_jax.scaling.report.figures import Style, cost_svg
from alp_jax.scaling.report.study import Study


def context(study: Study) -> dict[str, Any] | None:
    costs = make_costs(study.rows)
    seconds = sum(cost.seconds * cost.runs for cost in costs if cost.seconds is not None)
    figure = cost_figure(costs, study.styles)
    return {"costs": costs, "training_seconds": seconds, "cost_figure": figure} if costs else None


def cost_figure(costs: list[Cost], styles: dict[str, Style]) -> str | None:
    """Mean probe score against FLOPs; None where runs share no probe or say no FLOPs."""
    usable = [cost for cost in costs if cost.score is not None and cost.flops]
    if len({cost.flops for cost in usable}) < 2:
        return None
    return cost_svg(usable, styles, "Mean probe score in percent against floating-point operations of training")
