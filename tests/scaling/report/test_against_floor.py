"""Where the log-mel floor beats the encoders a report says so, by name."""

import pytest

from alp_jax.scaling.report.against_floor import against_floor
from alp_jax.scaling.report.summary import make_panels


def rows(task, floor, values, pooling="mean", metric="accuracy", half=0.02):
    """Rows of one task; ``values``: objective -> value by pairs."""
    return [
        {
            "run": f"{objective}-{pairs}",
            "objective": objective,
            "init": "scratch",
            "model": "m",
            "steps": 300,
            "seed": 0,
        }
        | {"task": task, "pooling": pooling, "metric": metric, "chance": 0.1, "floor": floor, "pairs": pairs}
        | {"value": value, "interval_low": half and value - half, "interval_high": half and value + half}
        for objective, by_pairs in values.items()
        for pairs, value in by_pairs.items()
    ]


def found(*parts):
    return {(one.task, one.pooling): one for one in against_floor(make_panels([row for part in parts for row in part]))}


def test_the_largest_rung_of_every_curve_faces_the_floor():
    both = {"contrastive": {1000: 0.9, 4000: 0.50}, "captioning": {1000: 0.2, 4000: 0.53}}
    told = found(
        rows("drum", 0.57, both),
        rows("persona", 0.54, both),
        rows("speaker", 0.51, both),
        rows("music", 0.40, both),
        rows("tone", None, both),
    )
    assert [one.task for one in told.values()] == ["drum", "persona", "speaker", "music"]
    assert {task: (one.ahead, one.wins, one.clear) for (task, _), one in told.items()} == {
        "drum": (0, True, True),
        "persona": (0, True, False),
        "speaker": (1, False, False),
        "music": (2, False, False),
    }
    drum = told["drum", "mean"]
    assert (drum.best, drum.point.pairs, drum.point.mean, drum.curves) == ("captioning", 4000, pytest.approx(0.53), 2)


def test_what_says_nothing_is_left_out():
    one = {"contrastive": {4000: 0.30}}
    assert not found(rows("drum", 0.57, one, pooling="zero_shot"), rows("drum", 0.57, one, metric="balanced_accuracy"))
    unknown = found(rows("drum", 0.57, one, half=None))["drum", "mean"]
    assert unknown.wins
    assert not unknown.clear
