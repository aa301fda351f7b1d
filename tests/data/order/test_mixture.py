"""Mixtures: the weights are met exactly in every block, whatever the lengths of the sources' clips."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alp_jax.core.errors import UserError
from alp_jax.data.order import compose, mixture

SOURCES = ("audiocaps", "clotho", "music-caps")
SIZES = np.array([[900, 0, 40], [300, 500, 40], [20, 700, 8000]])
BATCHES = (32, 16, 8)


def mixed(*stages):
    made = tuple(mixture.stage(start, weights, SIZES, BATCHES) for start, weights in stages)
    return compose.Recipe(BATCHES, SIZES, (11, 22, 33), made)


def test_sources_are_chosen_by_name():
    assert mixture.select("", SOURCES) == SOURCES
    assert mixture.select("clotho", SOURCES) == ("clotho",)
    assert mixture.select(" music-caps, audiocaps", SOURCES) == ("audiocaps", "music-caps")
    assert mixture.select("-clotho,-audiocaps", SOURCES) == ("music-caps",)
    for text in ("clotoh", "-clotoh", "clotho,-audiocaps", "-clotho,-audiocaps,-music-caps"):
        with pytest.raises(UserError, match=r"data\.sources"):
            mixture.select(text, SOURCES)
    with pytest.raises(UserError, match="did you mean 'clotho'"):
        mixture.select("clotoh", SOURCES)


def test_stages_are_parsed():
    text = "0:audiocaps=3,clotho=1,music-caps=0; 512: audiocaps=1, clotho = 1,music-caps=2"
    first, second = mixture.parse(text, SOURCES)
    assert (first.start, first.weights) == (0, {"audiocaps": 3, "clotho": 1, "music-caps": 0})
    assert (second.start, second.weights["music-caps"]) == (512, 2)
    (stage,) = mixture.parse("audiocaps=1,clotho=0", SOURCES[:1], absent=SOURCES[1:])
    assert stage.weights == {"audiocaps": 1, "clotho": 0}
    with pytest.raises(UserError, match="'clotho' has no clips in this rung"):
        mixture.parse("audiocaps=1,clotho=2", SOURCES[:1], absent=SOURCES[1:])
    assert mixture.parse("audiocaps=1,clotho=2,music-caps=3", SOURCES)[0].start == 0


ALL = "audiocaps=1,clotho=1,music-caps=1"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("audiocaps=1,clotho=1", "'music-caps' has no weight"),
        ("audiocaps=1,clotho=1,musicaps=1,music-caps=1", "did you mean 'music-caps'"),
        ("audiocaps=1.5,clotho=1,music-caps=1", "'audiocaps=1.5' is not NAME=WEIGHT"),
        ("audiocaps=-1,clotho=1,music-caps=1", "a whole number of 0 or more"),
        ("audiocaps,clotho=1,music-caps=1", "'audiocaps' is not NAME=WEIGHT"),
        (f"{ALL},clotho=2", "'clotho' has two weights"),
        ("audiocaps=0,clotho=0,music-caps=0", "all weights are 0"),
        (f"0:{ALL};{ALL}", "begin it with its first step"),
        (f"0:{ALL};100:{ALL}", "multiple of 256"),
        (f"256:{ALL}", "first must start at 0"),
        (f"0:{ALL};512:{ALL};512:{ALL}", "each of the others after the one before"),
        (f"0:{ALL};", "begin it"),
    ],
)
def test_wrong_mixtures_say_what_is_wrong(text, problem):
    with pytest.raises(UserError, match=r"data\.mixture") as error:
        mixture.parse(text, SOURCES)
    assert problem in str(error.value)


def test_every_block_is_exact_across_stages():
    made = mixed((0, [3, 1, 4]), (512, [1, 1, 0]))
    streams = {}
    for block in range(4):
        counts = np.zeros((3, 3), int)
        for step in range(block * compose.BLOCK, (block + 1) * compose.BLOCK):
            what = compose.compose(made, 7, step)
            for c, member in zip(what.component_B.tolist(), what.member_B.tolist(), strict=True):
                counts[what.bucket, c] += 1
                streams.setdefault((what.bucket, c), []).append(member)
        stage = made.stages[block // 2]
        np.testing.assert_array_equal(counts, stage.entries_KC)
        weights = np.array([[3, 1, 4], [1, 1, 0]][block // 2])
        assert np.abs(counts.sum(0) - counts.sum() * weights / weights.sum()).max() < 1
        assert stage.steps_K.sum() == compose.BLOCK
    for (bucket, c), members in streams.items():
        size = SIZES[bucket, c]
        # the stream goes on where the last block left it: every clip once per epoch, but for the shuffle of a block
        uses = np.bincount(members, minlength=size)
        assert uses.max() - uses.min() <= 1
        assert uses.sum() == len(members)


def test_lengths_keep_their_distribution():
    stage = mixture.stage(0, [1, 1, 1], SIZES, BATCHES)
    want = SIZES / SIZES.sum(0) / 3
    got = stage.entries_KC / stage.entries_KC.sum()
    np.testing.assert_allclose(got, want, atol=0.01)
    assert not stage.entries_KC[SIZES == 0].any()
    alone = mixture.stage(0, [0, 2, 0], SIZES, BATCHES)
    assert alone.steps_K[0] == 0
    assert alone.entries_KC[:, [0, 2]].sum() == 0


def test_batches_are_full_where_weights_cannot_be_met():
    # a source alone in its bucket gets whole batches, whatever its weight
    stage = mixture.stage(0, [1000, 1], np.array([[50, 0], [0, 50]]), (8, 128))
    np.testing.assert_array_equal(stage.entries_KC.sum(1), stage.steps_K * [8, 128])
    assert stage.steps_K.tolist() == [255, 1]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_blocks_add_up(data):
    rows, columns = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 9))
    cells = st.lists(st.integers(0, 10**6), min_size=columns, max_size=columns)
    sizes = np.array(data.draw(st.lists(cells, min_size=rows, max_size=rows)))
    sizes[0] += 1
    sizes = sizes[sizes.any(1)]
    batches = data.draw(st.lists(st.integers(1, 64), min_size=len(sizes), max_size=len(sizes)))
    weights = data.draw(st.lists(st.integers(0, 50), min_size=columns, max_size=columns))
    weights[0] += 1
    stage = mixture.stage(0, weights, sizes, batches)
    assert stage.steps_K.sum() == compose.BLOCK
    np.testing.assert_array_equal(stage.entries_KC.sum(1), stage.steps_K * batches)
    assert (stage.entries_KC >= 0).all()
    assert not stage.entries_KC[sizes == 0].any()
    assert not stage.entries_KC[:, np.array(weights) == 0].any()
