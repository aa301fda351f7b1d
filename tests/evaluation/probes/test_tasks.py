"""Tasks out of records: classes, subsets, selection rows, and the refusal of leaking groups."""

import collections
import dataclasses

import numpy as np
import pytest

from alp_jax.config.schema import DataConfig, FeatureConfig, ModelConfig
from alp_jax.core.errors import DataError
from alp_jax.core.hashing import hash64
from alp_jax.evaluation.evaluator import Setup
from alp_jax.evaluation.probes.evaluator import score_probe
from alp_jax.evaluation.probes.tasks import build_tasks
from alp_jax.evaluation.retrieval.task import captioned_clips
from alp_jax.evaluation.table import SEED, hold_out, read_table


def tasks_of(dataset, config):
    return build_tasks(read_table(dataset), config)[0]


def test_single_and_multi_label_tasks(dataset, config):
    tasks = tasks_of(dataset, config)
    assert set(tasks) == {"kind", "tags"}  # "lonely" has one class only
    task = tasks["kind"]
    assert task.classes == ("cat", "dog", "rain")
    for rows, targets, split in ((task.train_row, task.train_y, "train"), (task.test_row, task.test_y, "test")):
        for row, target in zip(rows, targets, strict=True):
            assert dataset.records[row].labels["kind"] == task.classes[target]
            assert dataset.records[row].split == split
    assert len(task.train_row) == 120
    counts = np.bincount(task.train_y)
    assert counts.max() - counts.min() <= 1  # the subset is spread evenly over the classes
    assert not set(task.train_groups) & set(task.test_groups)
    tags = tasks["tags"]
    assert tags.classes == ("cat", "dog", "rain")
    assert (tags.train_y.sum(1) == 1).all()
    assert "under 20 training" in next(iter(tags.dropped.values()))


def test_selection_rows_share_no_group_with_the_fitted_ones(dataset, config):
    task = tasks_of(dataset, config)["kind"]
    assert task.selection == "training groups"
    groups = np.array(task.train_groups)
    assert not set(groups[task.held]) & set(groups[~task.held])
    assert 0.15 < task.held.mean() < 0.3
    assert set(task.train_y[~task.held]) == {0, 1, 2}


def test_the_validation_split_selects_when_it_is_large_enough(dataset, config):
    records = [
        dataclasses.replace(r, split="valid") if r.split == "train" and int(r.group.split()[1]) % 4 == 1 else r
        for r in dataset.records
    ]
    task = tasks_of(type(dataset)(records), dataclasses.replace(config, max_train_clips=0))["kind"]
    assert task.selection == "validation split"
    assert {records[row].split for row in task.train_row[task.held]} == {"valid"}
    assert {records[row].split for row in task.train_row[~task.held]} == {"train"}


def kinds_of(dataset, **clips):
    """A data set of clips that are groups of their own; ``clips`` are the kinds of every split, a letter each."""
    letters = [(split, letter) for split, kinds in clips.items() for letter in kinds]
    return type(dataset)(
        [
            dataclasses.replace(dataset.records[0], id=f"{i}", group=f"{i}", split=split, labels={"kind": letter})
            for i, (split, letter) in enumerate(letters)
        ]
    )


@pytest.mark.parametrize(
    ("valid", "selection"),
    [
        ("ab" * 25, "validation split"),  # half of the classes are enough, and so are 50 clips
        ("ab" * 24 + "a", "training groups"),
        ("a" * 50, "training groups"),
    ],
)
def test_a_validation_split_with_few_clips_or_classes_gives_way_to_training_clips(dataset, config, valid, selection):
    few = kinds_of(dataset, train="abcd" * 20, valid=valid, test="abcd" * 4)
    task = tasks_of(few, dataclasses.replace(config, max_train_clips=0))["kind"]
    assert task.selection == selection
    fitted = 80 if selection == "validation split" else 64
    assert (~task.held).sum() == fitted
    assert len(task.held) == 80 + (len(valid) if selection == "validation split" else 0)


def test_a_class_keeps_clips_to_be_fitted_to(dataset, config):
    """The group that would be held first has all but two clips of a class."""
    few = kinds_of(dataset, train="a" * 72 + "b" * 8, test="ab" * 8)
    first = min((f"large {i}" for i in range(10_000)), key=lambda name: hash64(SEED, name))
    few.records[72:78] = [dataclasses.replace(record, group=first) for record in few.records[72:78]]
    task = tasks_of(few, dataclasses.replace(config, max_train_clips=0))["kind"]
    assert task.selection == "training groups"
    assert first not in {group for group, held in zip(task.train_groups, task.held, strict=True) if held}
    assert hold_out(task.train_groups)[0][72:78].all()  # it is the class that keeps them


def test_one_large_group_falls_back_to_clips():
    held, selection = hold_out(["only"] * 50, ["a", "b"] * 25)
    assert selection == "training clips"
    assert held.sum() == 10


def test_rare_classes_are_dropped_and_reported(dataset, config):
    rare = [i for i, r in enumerate(dataset.records) if r.split == "train" and r.labels["kind"] == "cat"]
    records = list(dataset.records)
    for row in rare[:-5]:
        records[row] = dataclasses.replace(records[row], labels={})
    task = tasks_of(type(dataset)(records), config)["kind"]
    assert task.classes == ("dog", "rain")
    assert list(task.dropped) == ["cat"]
    assert task.dropped["cat"].startswith("5 training")


def test_a_group_on_both_sides_is_refused_by_name(dataset, config):
    records = list(dataset.records)
    records[5] = dataclasses.replace(records[5], group="group 0")
    with pytest.raises(DataError, match="group 0"):
        tasks_of(type(dataset)(records), dataclasses.replace(config, max_train_clips=0))
    whole = dataclasses.replace(config, alignment_clips=0, retrieval_clips=0)
    setup = Setup(type(dataset)(records), None, whole, DataConfig(), FeatureConfig(), ModelConfig())
    with pytest.raises(DataError, match="group 0"):
        captioned_clips(setup)


def test_the_split_hash_follows_the_clips_and_subsets_are_nested(dataset, config):
    first, again = (tasks_of(dataset, config)["kind"] for _ in range(2))
    assert first.split_hash == again.split_hash
    smaller = tasks_of(dataset, dataclasses.replace(config, max_train_clips=60))["kind"]
    assert smaller.split_hash != first.split_hash
    assert set(smaller.train_row) < set(first.train_row)


def test_chance_levels(dataset, config):
    task = tasks_of(dataset, config)["kind"]
    always = np.full(len(task.test_y), np.bincount(task.train_y).argmax())
    values = score_probe(task, always, {}).values
    assert values["accuracy"]["value"] <= values["accuracy"]["chance"]
    assert values["balanced_accuracy"]["value"] == pytest.approx(values["balanced_accuracy"]["chance"])
    share = collections.Counter(task.test_y.tolist())
    assert values["accuracy"]["chance"] == pytest.approx(
        max(share[np.bincount(task.train_y).argmax()] / len(task.test_y), 1 / 3)
    )
    perfect = score_probe(task, task.test_y, {}).values["accuracy"]
    assert perfect["value"] == 1.0
    low, high = perfect["interval"]
    assert high == 1.0
    assert 0.7 < low < 1.0  # so many groups without an error do not show that there is none


def test_seeds_are_averaged_and_what_they_differ_in_is_in_the_interval(dataset, config):
    task = tasks_of(dataset, config)["kind"]
    right, wrong = task.test_y, (task.test_y + 1) % 3
    found = score_probe(task, np.stack([right, right, wrong]), {})
    assert found.values["accuracy"]["value"] == pytest.approx(2 / 3)
    assert found.notes["by_seed"]["accuracy"] == [1.0, 1.0, 0.0]
    low, high = found.values["accuracy"]["interval"]
    assert low < 1 / 3  # three seeds of which one is wrong altogether say little
    assert high > 0.9
    assert score_probe(task, right[None], {}).notes == {}
