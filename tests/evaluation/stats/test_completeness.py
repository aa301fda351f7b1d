"""What is missing from a test is counted, and the paper's numbers stand beside results of the same task alone."""

import pytest

from alp_jax.data.audit.audit import LEAK
from alp_jax.evaluation.stats.completeness import OFFICIAL, completeness, completeness_lines, dropped_leaks
from alp_jax.evaluation.stats.published import ROWS, TABLES, published, published_facts, published_table

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


def built(source, excluded=None, **clips):
    """The accounting of a data set whose metadata was stored without loss."""
    splits = {split: {"clips": count} for split, count in clips.items()}
    return {"sources": {source: {"expected": 1, "unusable": {}, "splits": splits, "excluded": excluded or {}}}}


def test_a_set_is_held_to_its_official_count_and_dropped_clips_are_told():
    official = OFFICIAL["fsd50k"]
    whole = completeness(built("fsd50k", **official), ["fsd50k"])
    assert (whole["incomplete"], completeness_lines("fsd50k", whole)) == (False, [])
    short = completeness(built("fsd50k", **official | {"test": 10_000}), ["fsd50k"])
    assert short["incomplete"]
    assert short["official"]["fsd50k"]["test"] == [10_000, 10_231]
    assert completeness_lines("fsd50k", short) == [
        "fsd50k: INCOMPLETE, fsd50k as published has more clips: here are 10000 of 10231 in test"
    ]
    dropped = {"leak:recording": 3_000, "leak:audio": 7, "user": 5}
    fewer = completeness(built("fsd50k", dropped, **official | {"train": 36_796 - 3_012}), ["fsd50k"])
    assert (fewer["leaks"], fewer["incomplete"]) == (3_007, False)
    assert completeness_lines("fsd50k", fewer)[1] == (
        "fsd50k: 3007 training clips were dropped, as they are evaluation clips"
    )
    any_split = completeness(built("crema_d", train=5_000, test=2_442), ["crema_d"])
    assert any_split["official"] == {"crema_d": {"any split": [7_442, 7_442]}}


def test_language_figures_belong_to_a_data_set_and_say_what_is_not_stated():
    assert published("captioning", "lit", ["audiocaps_v2"])["captioning, scratch"] == 0.467
    assert published("captioning", "lit", ["audiocaps", "musiccaps"]) == {}
    assert published("captioning", "lit", []) == published("captioning", "decoder", ["audiocaps"]) == {}
    both = [published_facts(task, "lit", ["musiccaps"]) for task in ("text_to_audio", "audio_to_text")]
    assert both[0] == both[1]
    assert both[0]["published"] == dict(zip(ROWS[:4], (0.246, 0.274, 0.230, 0.294), strict=True))
    assert both[0]["published_as"].startswith("recall; K and direction not stated, by their size R@1; ")
    assert published("qa_music", "judge", [])["captioning, scratch"] == 5.97


def test_a_set_that_is_too_small_says_what_it_lost():
    counts = {"a": {"excluded": {f"{LEAK}recording": 3, "duplicate": 5}}, "b": {"excluded": {f"{LEAK}audio": 4}}}
    assert dropped_leaks({"sources": counts}) == ["7 training clips were dropped, as they are evaluation clips"]
    assert dropped_leaks({"sources": {"a": {"excluded": {"duplicate": 5}}}}) == dropped_leaks(None) == []


def test_the_table_has_every_encoder_of_the_paper_beside_what_was_measured():
    measured = [
        {"task": "captioning", "pooling": "lit", "sources": ["audiocaps"], "metric": "rouge_l", "value": 0.31},
        {
            "task": "text_to_audio",
            "pooling": "lit",
            "sources": ["musiccaps"],
            "metric": "recall_at_10",
            "value": 0.9,
            "metrics": {"recall_at_1": {"value": 0.2}},
        },
        {"task": "kind", "pooling": "mean", "sources": ["fake"]},
        {"task": "fsd50k", "pooling": "mean", "failed": "why"},
    ]
    head, first, second, third, last = published_table(measured)
    assert head.split("  ")[0] == "the paper reports for"
    assert first.split()[:8] == ["captioning", "lit", "31.0", "46.7", "46.6", "46.7", "47.2", "\u2013"]
    assert first.split("  ")[-1] == "audio-language alignment, frozen audio encoder"
    assert second.split()[2:8] == ["20.0", "24.6", "27.4", "23.0", "29.4", "\u2013"]  # in the paper's metric
    assert third.split()[:4] == ["fsd50k", "mean", "\u2013", "65.6"]
    assert last == "not stated where it could be read: BEATs, wav2vec 2.0, MERT"
    assert published_table(measured[2:3]) == []


def test_the_paper_is_quoted_for_its_own_tasks():
    assert published("vggsound", "mean", {"vggsound"})["captioning, scratch"] == 0.4779
    assert published("vggsound", "attention", {"vggsound"}).keys() == set(ROWS[1:4])
    assert published("sound_event_detection", "frames", {"mini-sounds"}) == {}
    assert published("sound_event_detection", "frames", {"audioset_strong"})["supervised"] == 0.216
    assert published("kind", "mean", {"fake"}) == {}
    of_shares = [entry for entry in TABLES.values() if entry.metric != "score"]
    assert all(0 < v < 1 for entry in of_shares for v in entry.values if v is not None)
    assert all(len(entry.values) == len(ROWS) for entry in TABLES.values())
