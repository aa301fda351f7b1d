"""Which training clips select settings, when whole groups can and when they cannot; records as columns."""

import dataclasses

import numpy as np
import pytest

from alp_jax.core.clip import Event
from alp_jax.core.hashing import hash64
from alp_jax.evaluation import column, table
from alp_jax.evaluation.table import HELD_SHARE, MAX_HELD_SHARE, SEED, hold_out, read_table


def first_of(size, singles):
    """``size`` clips of a group that comes first in hashed order, and clips that are groups of their own."""
    others = [f"single {i}" for i in range(singles)]
    first = min(hash64(SEED, name) for name in others)
    name = next(name for name in (f"large {k}" for k in range(10_000)) if hash64(SEED, name) < first)
    return [name] * size + others


@pytest.mark.parametrize(("size", "kept"), [(40, True), (41, False)])
def test_a_group_with_more_than_the_most_that_may_be_held_is_passed_over(size, kept):
    groups = first_of(size, 100 - size)
    held, selection = hold_out(groups)
    assert selection == "training groups"
    assert held[:size].all() if kept else not held[:size].any()
    assert HELD_SHARE <= held.mean() <= MAX_HELD_SHARE
    assert held.sum() == (size if kept else 20)  # no more than are asked for


@pytest.mark.parametrize(("small", "selection"), [(10, "training groups"), (9, "training clips")])
def test_groups_that_hold_less_than_half_of_the_share_give_way_to_clips(small, selection):
    groups = ["most"] * (100 - small) + ["few"] * small
    held, found = hold_out(groups)
    assert found == selection
    assert held.sum() == (small if found == "training groups" else 20)
    assert held[:-small].any() == (found == "training clips")
    again, _ = hold_out(groups)
    np.testing.assert_array_equal(held, again)


def test_a_class_keeps_enough_clips_to_be_fitted_to():
    groups = first_of(2, 98)
    held, selection = hold_out(groups, ["rare"] * 4 + ["common"] * 96)
    assert not held[:2].any()  # two of four would leave fewer than MIN_FIT
    assert selection == "training groups"
    assert hold_out(groups, ["rare"] * 5 + ["common"] * 95)[0][:2].all()


def test_columns_read_as_the_records_do_across_pieces(dataset, monkeypatch):
    events = (Event(0.25, 1.5, "dog"), Event(1.0, 2.0, "rain"))
    records = [dataclasses.replace(r, events=events[: i % 3], group="" if i % 7 else r.group) for i, r in
               enumerate(dataset.records)]  # fmt: skip
    for module in (column, table):
        monkeypatch.setattr(module, "PIECE_ROWS", 100)
    found = read_table(type(dataset)(records))
    for name in ("id", "labels", "tags", "captions", "events"):
        values = [getattr(record, name) for record in records]
        assert list(getattr(found, name)) == values
        assert [getattr(found, name)[row] for row in (239, 0, 99, 100)] == [values[k] for k in (239, 0, 99, 100)]
    assert found.groups(np.array([1, 7])) == (records[1].recording, records[7].group)
    assert found.label_names == ("kind", "lonely")
    codes, names = found.label_codes("lonely")
    assert names == ["only"]
    assert codes.tolist() == [0] * 100 + [-1] * 140
    with pytest.raises(IndexError, match="row 240 of 240"):
        found.id[240]
