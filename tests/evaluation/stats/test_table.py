"""The table and the notes that ``alp eval`` prints."""

from alp_jax.evaluation.stats.table import notes, table

RESULT = {
    "task": "kind",
    "pooling": "mean",
    "metric": "accuracy",
    "value": 0.5,
    "interval": [0.4, 0.6],
    "chance": 0.25,
    "floor": None,
    "published": {"supervised": 0.3, "contrastive, scratch": 0.45},
    "missing": {"expected": 100, "missing": 3, "reasons": {"corrupt": 3}, "share": 0.03, "incomplete": True},
}


def test_a_line_holds_value_baselines_and_paper():
    other = {"untrained": [RESULT | {"value": 0.125}], "start": []}
    head, line = table([RESULT], other).splitlines()
    assert head.split() == [
        *("task", "pooling", "metric", "value", "95%", "interval", "chance", "floor", "untrained", "start", "paper")
    ]
    assert " ".join(line.split()) == "kind mean accuracy 0.500 [0.400, 0.600] 0.250 - 0.125 - 0.300 to 0.450"
    assert len(head.rstrip()) <= 120
    assert "0.450" not in table([RESULT | {"published_metric": "map"}], other)
    assert "0.450" in table([RESULT | {"published_metric": "accuracy"}], other)


def test_a_failed_task_is_named_and_does_not_widen_the_table():
    reason = "x" * 200
    lines = table([RESULT, {"task": "kind", "pooling": "attention", "failed": reason}], {}).splitlines()
    assert reason in lines[2]
    assert len(lines[1]) < 100


def test_missing_clips_are_told():
    assert notes([RESULT]) == ["kind: INCOMPLETE, 3 of 100 clips of its sources are not stored (3 corrupt)"]
    whole = RESULT["missing"] | {"missing": 1, "incomplete": False, "reasons": {"missing": 1}}
    assert notes([RESULT | {"missing": whole}])[0].startswith("kind: 1 of 100")
    assert notes([RESULT | {"missing": {"unknown": "why"}}]) == []
    assert notes([{"task": "kind", "pooling": "mean", "failed": "why"}]) == []
    known = {"task": "kind", "missing": {"unknown": "why"}}
    assert notes([known | {"cut": {"seconds": 30.0, "clips": 7}}]) == [
        "kind: 7 clips are longer than 30 s and cut to it"
    ]
    dropped = {f"class {k}": f"{k} training and 0 test clips" for k in range(5)}
    (line,) = notes([known | {"cut": {"seconds": 30.0, "clips": 0}, "dropped": dropped}])
    assert line.startswith("kind: too small to count: class 0 (0 training and 0 test clips), class 1 (")
    assert line.endswith(" and 2 more")
    skipped = {"cider_d": "not computable: why", "spice": "needs Java"}
    said = {"task": "captioning", "skipped": skipped}
    assert notes([said, said]) == ["captioning: no CIDEr-D: not computable: why"]
