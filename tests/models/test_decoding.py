"""Beam search against all texts there are, and a cache against none."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import DecoderConfig
from alp_jax.models.decoder import CaptionDecoder
from alp_jax.models.decoding import Ids, beam_search
from alp_jax.models.functional import functionalize

IDS = Ids(bos=1, eos=2, pad=0)
VOCABULARY, LENGTH = 5, 4


def chain(seed=0, batch=3):
    """Log-probabilities of the next token given the position, the last token and, from the cache, the one before it."""
    logits = 2.0 * np.random.default_rng(seed).standard_normal((batch, LENGTH, *[VOCABULARY] * 3))
    table = jnp.asarray(logits, jnp.float32)

    def extend(tokens_BK, position, before_BK):
        rows = jnp.arange(tokens_BK.shape[0])[:, None]
        return table[rows, position, before_BK, tokens_BK], tokens_BK

    return extend, np.asarray(jax.nn.log_softmax(table, axis=-1), np.float64)


def every_text(log_BLVVV, row, penalty):
    """(score, tokens) of every text, best first."""
    found = []
    for length in range(1, LENGTH + 1):
        for inner in itertools.product([t for t in range(VOCABULARY) if t != IDS.eos], repeat=length - 1):
            for last in range(VOCABULARY):
                if last != IDS.eos and length < LENGTH:
                    continue  # not at an end
                text = (*inner, last)
                steps = zip((0, IDS.bos, *text), (IDS.bos, *text), text, strict=False)
                total = sum(log_BLVVV[(row, i, *three)] for i, three in enumerate(steps))
                kept = [t for t in text if t != IDS.eos]
                found.append((total / length**penalty, kept + [IDS.pad] * (LENGTH - len(kept))))
    return sorted(found, key=lambda entry: -entry[0])


def search(extend, batch=3, **options):
    cache = jnp.zeros((batch, options["beams"]), jnp.int32)
    return jax.jit(lambda: beam_search(extend, cache, batch, IDS, max_length=LENGTH, **options))()


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_wide_beams_find_the_best_of_all_texts(penalty):
    extend, log_BLVVV = chain()
    found = search(extend, beams=4**3, length_penalty=penalty)
    for row in range(3):
        expected = every_text(log_BLVVV, row, penalty)[:10]
        np.testing.assert_allclose(found.score_BK[row, :10], [score for score, _ in expected], rtol=1e-5)
        np.testing.assert_array_equal(found.tokens_BKL[row, :10], [tokens for _, tokens in expected])


def test_greedy_search_misses_what_begins_badly():
    table = np.full((LENGTH, VOCABULARY, VOCABULARY), -9.0, np.float32)
    table[0, IDS.bos, [3, 4]] = 1.0, 0.9  # 3 is the better beginning
    table[1, 3, :] = 0.0  # after which nothing is likely
    table[1, 4, IDS.eos] = 9.0

    def extend(tokens_BK, position, cache):
        return jnp.asarray(table)[position, tokens_BK], cache

    assert search(extend, batch=1, beams=1).tokens_BKL[0, 0, 0] == 3
    np.testing.assert_array_equal(search(extend, batch=1, beams=2).tokens_BKL[0, 0], [4, 0, 0, 0])


def test_rows_are_searched_as_if_alone():
    extend, _ = chain(seed=4)
    together = search(extend, beams=3)
    for row in range(3):
        alone = search(lambda tokens, position, cache, row=row: _row(extend, tokens, position, cache, row), 1, beams=3)
        np.testing.assert_array_equal(together.tokens_BKL[row], alone.tokens_BKL[0])
        np.testing.assert_allclose(together.score_BK[row], alone.score_BK[0], rtol=1e-6)


def _row(extend, tokens_1K, position, cache, row):
    logits, _ = extend(jnp.repeat(tokens_1K, 3, axis=0), position, jnp.repeat(cache, 3, axis=0))
    return logits[row : row + 1], tokens_1K


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_cache_changes_no_caption(norm_first):
    config = DecoderConfig(
        vocab_size=23, d_model=16, num_decoder_layers=2, decoder_nhead=4, dim_feedforward=24, decoder_dropout=0.0,
        decoder_norm_first=norm_first,
    )  # fmt: skip
    init, apply = functionalize(lambda rngs: CaptionDecoder(config, 12, rngs=rngs))
    params = jax.tree.map(lambda p: 2 * p, init(jax.random.key(3)))
    frames, length = jax.random.normal(jax.random.key(1), (3, 7, 12)), 6
    len_B = jnp.array([7, 3, 5])
    beams = 3

    def extend(tokens_BK, position, texts_BKL):
        """All of every beam's text again, beams as rows."""
        texts_BKL = texts_BKL.at[:, :, position].set(tokens_BK)
        rows = texts_BKL.reshape(-1, length)
        repeated = [jnp.repeat(x, beams, axis=0) for x in (frames, len_B)]
        read = apply(params, rows, jnp.full(len(rows), position + 1), jnp.ones(len(rows), bool), *repeated)
        return jnp.take(read, position, axis=1).reshape(*tokens_BK.shape, -1), texts_BKL

    plain = jax.jit(
        lambda: beam_search(extend, jnp.zeros((3, beams, length), jnp.int32), 3, IDS, beams=beams, max_length=length)
    )()
    options = {"method": "generate", "max_length": length, "ids": IDS}
    cached = jax.jit(lambda: apply(params, frames, len_B, beams=beams, **options))()
    np.testing.assert_array_equal(cached, plain.tokens_BKL[:, 0])
    greedy = jax.jit(lambda: apply(params, frames, len_B, **options))()
    assert (greedy != cached).any()  # a beam of three is not one of one by another name
