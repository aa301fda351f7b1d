"""Shapes of batches: the cheapest there are, few, and fit for every clip that takes them."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alp_jax.config import MODELS
from alp_jax.config.schema import DataConfig
from alp_jax.config.schema.model import DECODER, TEXT
from alp_jax.core.errors import UserError
from alp_jax.data.order import shapes
from alp_jax.data.order.shapes import LengthHistogram, shapes_of, text_widths
from alp_jax.data.order.subset import open_rung
from alp_jax.models.accounting import train_flops
from tests.data.order.test_subset import Index

RATE = 16_000


def cost(found, samples, tokens, least=0):
    """Of all rows, with the shapes that are used by fewer clips counting as ``least``."""
    clips = np.bincount(found.assign(samples, tokens), minlength=len(found.edges))
    rows = np.where(clips, np.maximum(clips, least), 0)
    return int(rows @ (np.array(found.edges) + shapes.TOKEN_SAMPLES * np.array(found.tokens)))


def every_way(lengths, widths):
    """All shapes without cropping: cuts of the lengths, and for each of the ranges some widths."""
    cuts = [c for n in range(len(lengths)) for c in itertools.combinations(lengths[:-1], n)]
    some = [(*w, widths[-1]) for n in range(len(widths)) for w in itertools.combinations(widths[:-1], n)]
    for cut in cuts:
        edges = (*cut, lengths[-1])
        for chosen in itertools.product(some, repeat=len(edges)):
            pairs = [(edge, width) for edge, kept in zip(edges, chosen, strict=True) for width in kept]
            yield shapes.Shapes(*zip(*((edge, edge, width) for edge, width in pairs), strict=True))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=60),
    st.sampled_from([0, 7]),
    st.sampled_from([1, 100]),
)
def test_the_chosen_shapes_cost_least(clips, least, scale):
    samples = 160 * scale * np.array([a for a, _ in clips])
    tokens = np.array([8 * t for _, t in clips])
    counts = LengthHistogram.upto(int(samples.max()), np.array([8, 16, 24]))
    counts.add(samples, tokens)
    found = counts.choose(1.0, lambda edge: least)
    ways = every_way(np.unique(samples).tolist(), [8, 16, 24])
    price = [cost(way, samples, tokens, least) * (300 + used(way, samples, tokens)) for way in ways]
    assert cost(found, samples, tokens, least) * (300 + len(found.edges)) == min(price)


def used(way, samples, tokens):
    return len(np.unique(way.assign(samples, tokens)))


def planted(name, clips=40_000):
    """Lengths as a small corpus of one-shots, prompts and music has them, or those of CaptionStew's sources."""
    rng = np.random.default_rng(0)
    if name == "short":
        seconds = np.where(rng.random(clips) < 0.1, 10.0, np.exp(rng.normal(0, 1.0, clips)).clip(0.1, 30))
        return (seconds * RATE).astype(np.int64), np.exp(rng.normal(3, 0.3, clips)).astype(np.int64) + 1
    source = rng.choice(4, clips, p=(0.7, 0.1, 0.03, 0.17))  # of AudioSet, of speech, of WavCaps, of Jamendo
    part = rng.random(clips) < 0.07
    length = [
        np.where(part, rng.uniform(1, 10, clips), 10.0),
        np.exp(rng.normal(1.5, 0.6, clips)),
        np.exp(rng.normal(3.4, 1.3, clips)),
        np.where(part, rng.uniform(2, 30, clips), 30.0),
    ]
    words = [np.exp(rng.normal(mean, 0.3, clips)) for mean in (3.6, 3.6, 2.0, 4.2)]
    seconds = np.choose(source, length).clip(0.5, 60)
    return (seconds * RATE).astype(np.int64), np.choose(source, words).clip(1, 300).astype(np.int64)


@pytest.mark.parametrize(("name", "waste"), [("short", 0.3), ("captionstew", 0.1)])
def test_planted_lengths_are_padded_little_and_hardly_cropped(name, waste):
    samples, tokens = planted(name)
    tokens = np.minimum(tokens, 128)
    counts = LengthHistogram.upto(30 * RATE, text_widths(128))
    for piece in range(4):
        counts.add(samples[piece::4], tokens[piece::4])
    found = counts.choose(0.08, lambda edge: 640 * RATE // edge)
    assert len(found.edges) <= 12
    assert len(set(found.longest)) <= 8
    shape = found.assign(samples, tokens)
    edge, width = np.array(found.edges)[shape], np.array(found.tokens)[shape]
    assert (tokens <= width).all()
    assert np.bincount(shape, minlength=len(found.edges)).min() > 0
    heard, whole = np.minimum(samples, edge), np.minimum(samples, 30 * RATE)
    assert (heard >= 0.75 * whole - 160).all()
    assert 1 - heard.sum() / edge.sum() <= 0.08
    assert 1 - heard.sum() / whole.sum() < 0.04

    def wasted(edge, heard, width):
        return 1 - (heard + 1280 * tokens).sum() / (edge + 1280 * width).sum()

    fixed = np.array((2, 4, 6, 8, 10, 15, 20, 30)) * RATE
    before = fixed[np.minimum(np.searchsorted(fixed, samples), 7)]
    assert wasted(edge, heard, width) < waste < 0.5 * wasted(before, np.minimum(samples, before), 128)


def test_where_text_and_audio_compete_for_shapes_the_audio_stays_within_its_limit():
    rng = np.random.default_rng(1)  # captions of all lengths, whatever the clip's
    samples = (np.exp(rng.normal(0.3, 1.1, 6000)).clip(0.1, 30) * RATE).astype(np.int64)
    tokens = np.exp(rng.normal(3, 0.4, 6000)).clip(4, 128).astype(np.int64)
    counts = LengthHistogram.upto(30 * RATE, text_widths(128))
    counts.add(samples, tokens)
    found = counts.choose(0.08)

    shape = found.assign(samples, tokens)
    edge, width = np.array(found.edges)[shape], np.array(found.tokens)[shape]
    heard = np.minimum(samples, edge)
    assert len(found.edges) == 12
    assert 1 - heard.sum() / edge.sum() <= 0.08
    assert 1 - heard.sum() / samples.sum() < 0.08
    assert width.mean() < 0.4 * 128  # what shapes are left shorten the text


def test_few_clips_get_no_shape_of_their_own():
    samples = np.array([10 * RATE] * 5000 + [29 * RATE] * 3)
    tokens = np.array([10] * 4990 + [100] * 13)
    counts = LengthHistogram.upto(30 * RATE, text_widths(128))
    counts.add(samples, tokens)
    assert len(counts.choose(1.0).edges) > 2
    alone = counts.choose(1.0, lambda edge: 4000)
    assert (alone.tokens, alone.edges) == ((104,), (29 * RATE,))


def test_captions_of_one_length_take_one_width():
    counts = LengthHistogram.upto(30 * RATE, text_widths(128))
    counts.add(np.linspace(RATE, 20 * RATE, 1000), np.full(1000, 15))
    assert set(counts.choose(0.08).tokens) == {16}


def test_widths_to_choose_from_are_few_and_end_with_the_budget():
    assert text_widths(6).tolist() == [6]
    assert text_widths(28).tolist() == [8, 16, 24, 28]
    for budget in (1, 8, 128, 129, 500, 4096):
        found = text_widths(budget)
        assert len(found) <= 17
        assert found[-1] == budget
        assert (np.diff(found) > 0).all()


def test_given_lengths_and_widths_are_taken_as_they_are():
    index = Index(2600)
    given = DataConfig(bucket_seconds=(5.0, 10.0, 30.0), text_widths=(32, 64))
    assert (open_rung(index, given).summary.edges) == [5 * RATE, 10 * RATE, 30 * RATE]  # no tokenizer: one width
    both = shapes_of([5, 10], [3, 4])
    assert (both.edges, both.longest, both.tokens) == ((5, 5, 10, 10), (5, 5, 10, 10), (3, 4, 3, 4))
    np.testing.assert_array_equal(both.assign(np.array([1, 5, 6, 99]), np.array([3, 4, 1, 4])), [0, 1, 2, 3])
    for widths, words in (((0, 4), "text_widths"), ((64, 32), "increasing"), ((64, 256), "up to data.text_budget")):
        with pytest.raises(UserError, match=words):
            open_rung(index, DataConfig(text_widths=widths))


def test_a_token_costs_what_it_costs_in_the_papers_models():
    model = MODELS["zipformer_m_768"]
    for sides in ((TEXT,), (DECODER,)):
        for seconds in (3, 10, 30):
            token = (train_flops(model, sides, seconds, 64) - train_flops(model, sides, seconds, 16)) / 48
            second = train_flops(model, sides, seconds + 1, 16) - train_flops(model, sides, seconds, 16)
            assert token / second == pytest.approx(shapes.TOKEN_SAMPLES / RATE, rel=0.25)
