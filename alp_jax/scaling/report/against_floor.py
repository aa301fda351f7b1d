"""Where the log-mel floor, which needs no encoder, is ahead of trained encoders.

Zero-shot results are left out: nothing is fitted for them, while the floor is a fitted probe.
"""

import dataclasses

from alp_jax.core.metrics import METRICS, SHARE, is_headline, number
from alp_jax.core.run_files import ZERO_SHOT
from alp_jax.scaling.report.summary import Panel, Point


@dataclasses.dataclass(frozen=True)
class AgainstFloor:
    """One task and pooling: the floor and the trained encoders at their largest rungs.

    Attributes:
      best, point: name and result of the best curve.
      ahead: number of curves that are ahead of the floor, out of ``curves``.
    """

    task: str
    pooling: str
    metric: str
    floor: float
    best: str
    point: Point
    ahead: int
    curves: int

    @property
    def wins(self) -> bool:
        """Whether the floor is ahead of every curve."""
        return self.ahead == 0

    @property
    def clear(self) -> bool:
        """Whether it is ahead by more than the 95% interval of the best curve; never with an unknown interval."""
        if not self.wins or self.point.low is None:
            return False
        metric = METRICS[self.metric]
        return all(metric.gain(self.floor, end) > 0 for end in (self.point.low, self.point.high))

    def text(self, value: float) -> str:
        """A value of the metric as text; shares are in percent."""
        return number(self.metric, value) + "%" * (METRICS[self.metric].unit == SHARE)


def against_floor(panels: list[Panel]) -> list[AgainstFloor]:
    """Every headline result whose floor is known, first those where it is ahead of all curves or of most."""
    results = []
    for panel in panels:
        if panel.floor is None or not is_headline(panel.metric) or panel.pooling == ZERO_SHOT or not panel.curves:
            continue
        last = {name: curve[-1] for name, curve in panel.curves.items()}
        gains = {name: METRICS[panel.metric].gain(point.mean, panel.floor) for name, point in last.items()}
        best = max(gains, key=gains.get)
        ahead = sum(gain > 0 for gain in gains.values())
        results.append(
            AgainstFloor(panel.task, panel.pooling, panel.metric, panel.floor, best, last[best], ahead, len(last))
        )
    return sorted(results, key=lambda one: (one.ahead / one.curves, one.task, one.pooling))
