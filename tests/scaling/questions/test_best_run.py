"""The best run of planted sweeps: the right one, by a rule that is said, over results that all runs have."""

import pytest

from alp_jax.core.errors import UserError
from alp_jax.scaling.questions.best_run import best_run, rank_runs
from alp_jax.scaling.sweep.ledger import COLUMNS, Ledger


def row(run, task, metric, value, *, chance=None, pooling="mean", steps=10):
    given = {"run": run, "task": task, "pooling": pooling, "metric": metric, "value": value, "steps": steps}
    return dict.fromkeys(COLUMNS) | given | {"chance": chance}


def quality(run, good, *, steps=10):
    """A run as evaluation leaves it: everything gets better with ``good`` between 0 and 1, the median rank smaller."""
    found = [
        row(run, "drum", "accuracy", 0.1 + 0.8 * good, chance=0.1, steps=steps),
        row(run, "drum", "balanced_accuracy", 0.1 + 0.7 * good, chance=0.1, steps=steps),
        row(run, "tags", "map", 0.05 + 0.4 * good, chance=0.05, pooling="attention", steps=steps),
    ]
    recall = {"recall_at_10": (0.03 + 0.6 * good, 0.03), "recall_at_1": (0.003 + 0.2 * good, 0.003)}
    recall |= {"map_at_10": (0.3 * good, None), "map_at_10_reference": (0.3 * good, None)}
    recall |= {"median_rank": (1 + 200 * (1 - good), None)}
    for name, (value, chance) in recall.items():
        found.append(row(run, "text_to_audio", name, value, chance=chance, pooling="linear_alignment", steps=steps))
    return found


PLANTED = {"middle": 0.5, "worst": 0.1, "best": 0.9, "good": 0.7}


def test_planted_runs_come_in_their_order():
    """A mean over all metrics puts the worst run first here: its median rank is the largest number of all."""
    rows = [one for run, good in PLANTED.items() for one in quality(run, good)] + quality("untrained", 1.0, steps=0)
    found = rank_runs(rows)
    assert [run for run, _ in found.ranking] == ["best", "good", "middle", "worst"]
    by_hand = (0.9 * 0.8 / 0.9 + 0.9 * 0.4 / 0.95 + 0.9 * 0.6 / 0.97) / 3
    assert found.score == pytest.approx(by_hand)
    assert found.results == ["drum-mean", "tags-attention", "text_to_audio-linear_alignment"]
    head, rule, results = found.lines()
    assert head.startswith(f"best run: best {by_hand:.4f}, then good 0.")
    assert ", then middle 0." in head
    assert "worst" not in head
    assert "3 headline results that all 4 runs have (accuracy, mAP, R@10), each 0 at chance and 1 at its best" in rule
    assert results == "results: drum-mean, tags-attention, text_to_audio-linear_alignment"
    assert [other["run"] for other in found.to_dict()["next"]] == ["good", "middle"]


def test_metrics_of_few_and_of_many_classes_weigh_alike():
    """Three points more among two classes are worth more than three among a hundred."""
    base = {"two": (0.6, 0.5), "hundred": (0.6, 0.01)}
    rows = []
    for run, gained in (("a", "hundred"), ("b", "two")):
        for task, (value, chance) in base.items():
            rows.append(row(run, task, "accuracy", value + 0.03 * (task == gained), chance=chance))
    assert [run for run, _ in rank_runs(rows).ranking] == ["b", "a"]


def test_runs_are_held_to_what_all_of_them_have_and_others_are_named():
    rows = [one for run, good in PLANTED.items() for one in quality(run, good)]
    rows += [row(run, "birds", "accuracy", 1.0, chance=0.0) for run in ("worst", "middle")]
    rows += [row("broken", "drum", "accuracy", None, chance=0.1), row("broken", "drum", "balanced_accuracy", 0.9)]
    found = rank_runs(rows)
    assert found.run == "best"
    assert found.lacking == {"birds-mean": "best and 1 more of 4 runs lack it"}
    assert found.left_out == {"broken": "it has no result to compare"}
    assert found.lines()[-2:] == [
        "not compared on birds-mean: best and 1 more of 4 runs lack it",
        "not ranked: broken: it has no result to compare",
    ]
    with pytest.raises(
        UserError, match=r"not one comparable result exists for all 2 trained runs; b has the fewest[^;]*$"
    ):
        rank_runs([*quality("a", 0.5), row("b", "birds", "accuracy", 1.0, chance=0.0)])


def test_what_cannot_be_compared_does_not_count():
    """Results on other test clips, results at which guessing is perfect, and those of which chance is not known."""
    rows = [one for run, good in PLANTED.items() for one in quality(run, good)]
    for k, run in enumerate(PLANTED):
        rows.append(row(run, "other clips", "accuracy", 0.9 - 0.2 * k, chance=0.2 + 0.1 * k))
        rows.append(row(run, "one class", "accuracy", 1.0, chance=1.0))
        rows.append(row(run, "unknown", "recall_at_10", 0.9 - 0.2 * k))
        rows.append(row(run, "captioning", "cider_d", 8.0 * PLANTED[run], pooling="lit"))
    found = rank_runs(rows)
    assert [run for run, _ in found.ranking] == ["best", "good", "middle", "worst"]
    assert found.lacking.keys() == {"other clips-mean", "one class-mean", "unknown-mean"}
    assert "different clips: guessing reaches 0.2 to 0.5" in found.lacking["other clips-mean"]
    assert "captioning-lit" in found.results  # of 10, and 0 by guessing


def test_every_headline_metric_of_a_task_counts_and_has_its_own_chance():
    """One table of both would keep the last, and take the chances of two metrics for those of two sets of clips."""
    rows = []
    for run, accuracy, exact in (("a", 0.9, 0.1), ("b", 0.5, 0.2)):
        rows.append(row(run, "questions", "accuracy", accuracy, chance=0.25, pooling="answers"))
        rows.append(row(run, "questions", "exact_match", exact, chance=0.0, pooling="answers"))
    found = rank_runs(rows)
    by_hand = {"a": (0.65 / 0.75 + 0.1) / 2, "b": (0.25 / 0.75 + 0.2) / 2}
    assert found.ranking == [(run, pytest.approx(score)) for run, score in by_hand.items()]
    assert found.results == ["questions-answers accuracy", "questions-answers exact match"]
    assert found.metrics == ["accuracy", "exact match"]
    found = rank_runs([one | {"chance": 0.2} for one in rows])  # of one chance: the last would win for b
    assert [run for run, _ in found.ranking] == ["a", "b"]
    found = rank_runs([*rows[:3], rows[3] | {"chance": 0.1}])
    assert found.results == ["questions-answers accuracy"]
    assert "guessing reaches 0 to 0.1" in found.lacking["questions-answers exact match"]


def test_where_nothing_can_be_compared_it_says_why():
    pair = [row("a", "drum", "accuracy", 0.9, chance=0.1), row("b", "drum", "accuracy", 0.5, chance=0.11)]
    with pytest.raises(UserError, match=r"drum-mean: runs were tested on different clips: guessing reaches 0.1 to 0.1"):
        rank_runs(pair)
    with pytest.raises(UserError, match=r"guessing reaches 0.1 to 0.10002$"):
        rank_runs([pair[0], pair[1] | {"chance": 0.10002}])
    with pytest.raises(UserError, match=r"drum-mean: what guessing reaches is not known \(run b\)$"):
        rank_runs([pair[0], pair[1] | {"chance": None}])
    with pytest.raises(UserError, match=r"drum-mean: guessing reaches 1, and 1 is the best there is$"):
        rank_runs([one | {"chance": 1.0} for one in pair])
    with pytest.raises(
        UserError, match=r"not one comparable result .*; not compared on drum-mean: runs were tested on diff"
    ):
        rank_runs([*pair, row("a", "x", "map", 0.3, chance=0.1), row("b", "y", "map", 0.3, chance=0.1)])
    with pytest.raises(UserError, match=r"none of 2 has a value$"):
        rank_runs([one | {"value": None} for one in pair])
    with pytest.raises(UserError, match=r"no headline metric, only balanced_accuracy$"):
        rank_runs([one | {"metric": "balanced_accuracy"} for one in pair])
    many = [one | {"task": f"task {k}"} for one in pair for k in range(9)]
    with pytest.raises(UserError, match=r"task 2-mean: [^;]*; and 6 more$"):
        rank_runs(many)


def test_metrics_of_other_tools_count_when_their_best_value_is_stated():
    rows = [row(run, "words", "wer", wer, chance=1.0) for run, wer in (("a", 0.4), ("b", 0.2), ("c", 1.2))]
    with pytest.raises(UserError, match=r"have no headline metric, only wer; .* --best wer=VALUE"):
        rank_runs(rows)
    found = rank_runs(rows, {"wer": 0.0})
    assert found.ranking == [("b", pytest.approx(0.8)), ("a", pytest.approx(0.6)), ("c", pytest.approx(-0.2))]
    with pytest.raises(UserError, match="some values of wer lie below it and others above it"):
        rank_runs(rows, {"wer": 0.3})
    with pytest.raises(UserError, match="cer=0: no result has such a metric"):
        rank_runs(rows, {"cer": 0.0})
    with pytest.raises(UserError, match="median_rank is a known metric, whose best value is 1"):
        rank_runs(quality("a", 0.5), {"median_rank": 0.0})


def test_the_run_folder_comes_from_the_sweeps_ledger(tmp_path):
    with pytest.raises(UserError, match=r"has no ledger\.jsonl"):
        best_run(tmp_path)
    Ledger(tmp_path / "ledger.jsonl").append([one for run, good in PLANTED.items() for one in quality(run, good)])
    folder, found = best_run(tmp_path)
    assert (folder, found.run) == (tmp_path / "runs" / "best", "best")
    for run in PLANTED:
        Ledger(tmp_path / "ledger.jsonl").retire(run)
    with pytest.raises(UserError, match="no trained runs with results"):
        best_run(tmp_path)
