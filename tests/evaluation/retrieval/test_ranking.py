"""Retrieval against brute force, against the reference's numbers, and with ties."""

import pathlib
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load_file

from alp_jax.data.text.normalise import normalise
from alp_jax.evaluation.retrieval import ranking
from alp_jax.evaluation.retrieval.alignment import align
from alp_jax.evaluation.retrieval.ranking import Gallery, chance, evaluate, gallery
from alp_jax.evaluation.stats import metrics

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "retrieval.safetensors"
# percent, from the reference's evaluation of these embeddings: R@1, R@5, R@10, median and mean rank, its mAP10
REFERENCE = {
    ("audio", "text", 1): {
        "audio_to_text": (35, 70, 85, 3, 5.525, 56.62465),
        "text_to_audio": (25, 72.5, 85, 3, 5.75, 51.90243),
    },
    ("multi.audio_unique", "multi.text", 5): {
        "audio_to_text": (37.5, 85, 97.5, 2, 3.3, 38.480559),
        "text_to_audio": (35.5, 68.5, 86, 2, 4.915, 59.04854),
    },
}


@pytest.mark.parametrize(("case", "expected"), REFERENCE.items())
def test_reference_numbers(case, expected):
    stored = load_file(GOLDEN)
    audio, text, captions = stored[case[0]], stored[case[1]], case[2]
    tested = Gallery(np.arange(len(text)) // captions, np.arange(len(text)), len(audio))
    for direction, (r1, r5, r10, median, mean, precision) in expected.items():
        judged = evaluate(audio, text, tested)[direction]
        rank = judged.rank_Q
        found = [100 * (rank <= k).mean() for k in ranking.CUTOFFS]
        np.testing.assert_allclose(found, [r1, r5, r10], atol=1e-4)
        assert int(np.median(rank)) == median  # the reference rounds a median between two ranks down
        assert rank.mean() == pytest.approx(mean)
        own = metrics.mean(judged.reference_Q, ~np.isnan(judged.reference_Q)).value
        assert 100 * own == pytest.approx(precision, abs=1e-4)


def brute_force(similarity, relevant):
    """Rank of the first right answer and average precision at 10, wrong answers first among equals."""
    order = sorted(range(len(similarity)), key=lambda j: (-similarity[j], relevant[j]))
    places = [place for place, j in enumerate(order, 1) if relevant[j]]
    hits = [(n + 1) / place for n, place in enumerate(places) if place <= 10]
    return places[0], sum(hits) / min(len(places), 10)


def test_ragged_captions_shared_texts_and_ties_match_brute_force(monkeypatch):
    monkeypatch.setattr(ranking, "CHUNK", 7)
    rng = np.random.default_rng(0)
    pool = [f"caption {i}" for i in range(25)]
    captions_of = [
        [pool[j] for j in rng.choice(25, rng.integers(1, 5), replace=False)] + ["The Same!"] * (i % 3 == 0)
        for i in range(30)
    ]
    captions_of[3].append("the same")  # equal once normalised
    tested, texts = gallery(captions_of, normalise)
    normal = [normalise(text) for text in texts]
    sets = [{normalise(text) for text in captions} for captions in captions_of]
    audio = rng.integers(-1, 2, (30, 3)).astype(np.float32)  # coarse, so that many similarities are equal
    text = rng.integers(-1, 2, (len(texts), 3)).astype(np.float32)
    found = evaluate(audio, text, tested)

    def unit(x):
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)

    similarity = unit(text) @ unit(audio).T
    expected = [brute_force(similarity[t], [normal[t] in s for s in sets]) for t in range(len(texts))]
    np.testing.assert_array_equal(found["text_to_audio"].rank_Q, [rank for rank, _ in expected])
    np.testing.assert_allclose(found["text_to_audio"].precision_Q, [ap for _, ap in expected])
    similarity = unit(audio) @ unit(text).T
    expected = [brute_force(similarity[a], [n in sets[a] for n in normal]) for a in range(30)]
    np.testing.assert_array_equal(found["audio_to_text"].rank_Q, [rank for rank, _ in expected])
    np.testing.assert_allclose(found["audio_to_text"].precision_Q, [ap for _, ap in expected])


def test_memory_is_bounded_by_a_chunk_of_similarities(monkeypatch):
    """Of 20,000 clips with five captions each: a table of clips by texts would take 2 GB."""
    many = Gallery(np.repeat(np.arange(20_000), 5), np.arange(100_000), 20_000)
    small = Gallery(np.repeat(np.arange(600), 5), np.arange(3000) // 2, 600)
    vectors = np.random.default_rng(0).standard_normal((3600, 4)).astype(np.float32)
    whole = evaluate(vectors[:600], vectors[600:], small)
    monkeypatch.setattr(ranking, "CELLS", 30_000)
    tracemalloc.start()
    try:
        assert many.relevant(slice(0, 256)).shape == (256, 20_000)
        assert many.relevant_captions(slice(0, 256)).sum() == 5 * 256
        chunks = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        parts = evaluate(vectors[:600], vectors[600:], small)
        test = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert chunks < 50e6
    assert test < chunks + 2e6  # the whole table of similarities has 7 MB
    for name, direction in whole.items():
        np.testing.assert_array_equal(direction.rank_Q, parts[name].rank_Q)
        assert direction.chances == parts[name].chances


def test_the_reference_numbers_hits_in_the_order_of_captions(monkeypatch):
    monkeypatch.setattr(ranking, "CHUNK", 3)
    rng = np.random.default_rng(1)
    owner = rng.permutation(np.repeat(np.arange(10), np.arange(1, 11)))  # 1 to 10 captions, in no order
    audio, text = rng.standard_normal((10, 4)), rng.standard_normal((55, 4))
    found = evaluate(audio, text, Gallery(owner, np.arange(55), 10))["audio_to_text"].reference_Q

    def unit(x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    for clip in range(10):
        order = np.argsort(-(unit(audio)[clip] @ unit(text).T)).tolist()
        places = [1 + order.index(caption) for caption in np.flatnonzero(owner == clip)]
        hits = [place for place in places if place <= 10]
        assert found[clip] == pytest.approx(sum((n + 1) / place for n, place in enumerate(hits)) / (clip + 1))


def test_the_reference_leaves_out_queries_without_a_hit():
    one = ranking.reference_precision(np.array([2, 11, 4]), np.arange(3))
    np.testing.assert_array_equal(one, [0.5, np.nan, 0.25])
    assert metrics.mean(one, ~np.isnan(one)).value == pytest.approx(0.375)
    assert metrics.mean(one[1:2], np.zeros(1, bool)).value == 0.0


def test_collapsed_embeddings_find_nothing():
    tested, texts = gallery([[f"text {i}"] for i in range(20)], normalise)
    for direction in evaluate(np.ones((20, 4)), np.ones((len(texts), 4)), tested).values():
        assert (direction.rank_Q == 20).all()


def test_chance_is_what_random_orders_give():
    rng, relevant, k = np.random.default_rng(0), np.array([1, 4, 17]), 5
    drawn = [np.mean([rng.permutation(20)[:k].min(initial=99) < r for r in relevant]) for _ in range(4000)]
    assert chance(relevant, 20, k) == pytest.approx(np.mean(drawn), abs=0.02)
    assert chance(np.array([1]), 100, 10) == pytest.approx(0.1)


def test_linear_alignment_finds_words_in_audio_and_nothing_in_noise():
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(12)]
    said = [rng.choice(12, 3, replace=False) for _ in range(260)]
    captions = [(" ".join(words[j] for j in chosen),) for chosen in said]
    mixing = rng.standard_normal((12, 16))
    audio = np.array([mixing[chosen].sum(0) for chosen in said], np.float32)
    held = np.arange(200) % 5 == 0
    tested, texts = gallery(captions[200:], normalise)
    recalls = []
    for x in (audio, rng.standard_normal(audio.shape).astype(np.float32)):
        audio_AV, text_MV, _ = align(x[:200], captions[:200], held, x[200:], texts)
        found = evaluate(audio_AV, text_MV, tested)
        recalls.append(np.mean([(direction.rank_Q <= 5).mean() for direction in found.values()]))
    assert recalls[0] > 0.9
    assert recalls[1] < 0.25  # chance is 0.08
