"""Statistics of captions against counting them one by one, in any blocks, and merged over sources."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alp_jax.data.text import statistics, tallies
from alp_jax.data.text.normalise import normalise
from alp_jax.data.text.statistics import CaptionStatistics

WORDS = ("a", "dog", "barks", "It's", "loud,", "Rain", "falls", "on", "cafe\u0301", "!")
CAPTIONS = st.lists(st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join), max_size=12)


def described(captions, **options):
    found = CaptionStatistics(**options)
    for i, caption in enumerate(captions):
        found.add("s", "train", str(i), [caption])
    return found.result()


def grams(words, n):
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


@settings(deadline=None, max_examples=40)
@given(CAPTIONS)
def test_counts_are_those_of_counting_one_by_one(captions):
    if not captions:
        assert described(captions)["sources"] == {}
        return
    row = described(captions)["sources"]["s"]
    words = [normalise(caption).split() for caption in captions]
    flat = Counter(word for text in words for word in text)
    assert row["captions"] == row["clips"] == len(captions)
    assert (row["words"], row["distinct_words"]) == (flat.total(), len(flat))
    assert row["words_used_once"] == sum(n == 1 for n in flat.values())
    for n in (1, 2, 3):
        every = [gram for text in words for gram in grams(text, n)]
        found = row["distinct_n"][str(n)]
        assert (found["distinct"], found["all"]) == (len(set(every)), len(every))
        assert "standard_error" not in found
    lengths = sorted(map(len, words))
    for q in (0, 5, 25, 50, 75, 95, 100):
        assert row["words_per_caption"][str(q)] == np.percentile(lengths, q, method="lower")
    assert row["words_per_caption"]["mean"] == pytest.approx(np.mean(lengths), abs=0.006)
    assert row["duplicates"]["exact"] == len(captions) - len(set(captions))
    assert row["duplicates"]["normalised"] == len(captions) - len({" ".join(text) for text in words})
    repeated = Counter(" ".join(text) for text in words)
    assert {each["text"]: each["captions"] for each in row["most_repeated"]} == {
        text: n for text, n in repeated.items() if n > 1
    }
    openings = Counter(" ".join(text[:4]) for text in words if len(text) >= 4)
    assert row["common_openings"] == sum(n for _, n in openings.most_common(10))


@settings(deadline=None, max_examples=20)
@given(CAPTIONS, CAPTIONS)
def test_blocks_do_not_matter_and_all_is_everything_together(first, second):
    """Words are numbered over all sources, so that the same word is the same in each."""
    captions = first + second
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tallies, "EQUAL_SIZE", 4)
        whole = described(captions, exact=5)
        patch.setattr(statistics, "_BLOCK", 3)
        assert described(captions, exact=5) == whole
        parts = CaptionStatistics(exact=5)
        for i, caption in enumerate(captions):
            parts.add("a" if i < len(first) else "b", "train", str(i), [caption])
        merged = parts.result()["all"]
    if captions:
        for key in set(merged) - {"not_english"}:
            assert merged[key] == whole["all"][key] == whole["sources"]["s"][key], key


def test_clips_splits_and_order():
    found = CaptionStatistics()
    found.add("b", "train", "b:0", ["a dog barks", "a dog"])
    found.add("a", "test", "a:0", ["rain"])
    found.add("b", "valid", "b:1", ["wind"])
    found.add("b", "train", "b:2", [])
    result = found.result()
    assert list(result["sources"]) == ["a", "b"]
    assert result["sources"]["b"]["splits"] == {
        "train": {"clips": 1, "captions": 2},
        "valid": {"clips": 1, "captions": 1},
    }
    assert (result["all"]["clips"], result["all"]["captions"]) == (3, 4)
    assert result["all"]["at_equal_size"] is None
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_more_ngrams_than_fit_are_estimated_and_say_so():
    rng = np.random.default_rng(0)
    captions = [" ".join(f"w{n}" for n in rng.integers(0, 3000, 12)) for _ in range(3000)]
    exact, estimate = described(captions)["all"], described(captions, exact=2000)["all"]
    assert estimate["distinct_n"]["1"] == exact["distinct_n"]["1"]
    for n in ("2", "3"):
        want, found = exact["distinct_n"][n], estimate["distinct_n"][n]
        assert "standard_error" not in want
        assert found["standard_error"] < 0.04
        assert found["distinct"] == pytest.approx(want["distinct"], rel=4 * found["standard_error"])
        assert found["all"] == want["all"]


def test_sources_compare_at_equal_size():
    """Distinct-n of a small part of a corpus is higher than that of all; of 1,000 captions of each it is the same."""
    rng = np.random.default_rng(0)
    captions = [" ".join(f"w{n}" for n in rng.integers(0, 300, 8)) for _ in range(9000)]
    found = CaptionStatistics()
    for i, caption in enumerate(captions):
        found.add("large" if i < 8000 else "small", "train", str(i), [caption])
    large, small = (found.result()["sources"][name] for name in ("large", "small"))
    assert small["distinct_n"]["1"]["share"] > 3 * large["distinct_n"]["1"]["share"]
    assert small["distinct_n"]["2"]["share"] == pytest.approx(small["at_equal_size"]["2"], abs=1e-4)
    for n in ("1", "2", "3"):
        assert small["at_equal_size"][n] == pytest.approx(large["at_equal_size"][n], rel=0.05)


def test_language_is_looked_at_in_a_sample_and_scaled_up(monkeypatch):
    monkeypatch.setattr(tallies, "_TEXTS", 100)
    found = CaptionStatistics()
    for i in range(400):
        found.add("half", "train", f"h{i}", ["Ein Hund bellt in der Ferne" if i % 2 else "a dog barks far away"])
    for i in range(50):
        found.add("none", "train", f"n{i}", ["the rain falls on a tin roof"])
    result = found.result()
    half = result["sources"]["half"]["not_english"]
    assert half["looked_at"] == 100
    assert half["captions"] == half["languages"]["de"]
    assert 130 < half["captions"] < 270
    assert half["examples"][0] == {"language": "de", "text": "Ein Hund bellt in der Ferne"}
    assert result["sources"]["none"]["not_english"]["captions"] == 0
    assert result["all"]["not_english"]["captions"] == half["captions"]
    assert result["all"]["not_english"]["looked_at"] == 150


def test_a_result_in_between_changes_no_later_one():
    once, twice = CaptionStatistics(), CaptionStatistics()
    for i, caption in enumerate(
        ["a dog barks far away", "Ein Hund bellt in der Ferne", "Eine Katze schläft auf dem warmen Dach"]
    ):
        for statistic in (once, twice):
            statistic.add("s", "train", str(i), [caption])
        twice.result()
    assert twice.result() == once.result()
    assert once.result()["all"]["not_english"]["captions"] == 2


def test_artefacts_have_counts_and_examples_and_a_caption_has_one_defect():
    captions = ["Caption: a dog, and", "Caption: a dog, and", "N/A", "birds birds birds birds", "possibly rain", "rain"]
    row = described(captions)["sources"]["s"]
    assert row["defects"] == 4
    assert row["artefacts"]["cut_off"] == {"captions": 2, "examples": ["Caption: a dog, and"]}
    assert row["artefacts"]["label"]["captions"] == 2
    assert row["artefacts"]["word_loop"]["examples"] == ["birds birds birds birds"]
    assert row["artefacts"]["unsure"]["captions"] == 1
    assert "markup" not in row["artefacts"]


def test_tokens_are_counted_on_request():
    row = described(["a dog", "a dog barks", "a dog barks now"], tokens=lambda text: len(text.split()), budget=2)["all"]
    assert row["tokens_per_caption"]["truncated"] == 2
    assert (row["tokens_per_caption"]["50"], row["tokens_per_caption"]["100"]) == (3, 4)
    assert "tokens_per_caption" not in described(["a dog"])["all"]
