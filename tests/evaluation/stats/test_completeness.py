"""What is missing from a test is counted, and the paper's numbers stand beside results of the same task alone."""

import pytest

from alp_jax.evaluation.stats.completeness import completeness
from alp_jax.evaluation.stats.published import ROWS, TABLES, published

ACCOUNT = {
    "sources": {
        "a": {"expected": 100, "unusable": {"missing": 2}},
        "b": {"expected": 100, "unusable": {"missing": 1, "corrupt": 2, "filtered_captions": 50}},
    }
}


@pytest.mark.parametrize(("sources", "missing", "share", "incomplete"), [("a", 2, 0.02, False), ("b", 3, 0.03, True)])
def test_more_than_two_percent_is_incomplete(sources, missing, share, incomplete):
    found = completeness(ACCOUNT, sources)
    assert (found["missing"], found["share"], found["incomplete"]) == (missing, share, incomplete)


def test_sources_are_added_up_and_choices_are_no_faults():
    found = completeness(ACCOUNT, ["a", "b", "a"])
    assert found["expected"] == 200
    assert found["reasons"] == {"corrupt": 2, "missing": 3}
    assert "unknown" in completeness(ACCOUNT, [])
    assert "unknown" in completeness(None, ["a"])
    assert "unknown" in completeness(ACCOUNT, ["a", "other"])


def test_the_paper_is_quoted_for_its_own_tasks():
    assert published("vggsound", "mean", {"vggsound"})["captioning, scratch"] == 0.4779
    assert published("vggsound", "attention", {"vggsound"}).keys() == set(ROWS[1:4])
    assert published("sound_event_detection", "frames", {"mini-sounds"}) == {}
    assert published("sound_event_detection", "frames", {"audioset_strong"})["supervised"] == 0.216
    assert published("kind", "mean", {"fake"}) == {}
    assert all(0 < v < 1 for entry in TABLES.values() for v in entry.values if v is not None)
    assert all(len(entry.values) == len(ROWS) for entry in TABLES.values())
