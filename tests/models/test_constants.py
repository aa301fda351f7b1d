"""The encoder's constants: at every site those of the reference, and each at work where it is said to be.

``golden/regularisers.json`` was read off the reference's default model (Auden, commit
2f78687c446a946ff09e2ffd4335125b82baec32), ``layer.`` and ``stack.`` standing for all of them.
"""

import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from alp_jax.config.schema import ZipformerConfig
from alp_jax.models.forms import Forms
from alp_jax.models.functional import functionalize, outline
from alp_jax.models.regularisers import NEVER, Balancer, DrawCounts, Draws, Schedule, ValueLimit, Whiten, count_draws
from alp_jax.models.zipformer.encoder import Zipformer
from alp_jax.models.zipformer.layer import ZipformerLayer, ZipformerStack
from alp_jax.models.zipformer.modules import AttentionWeights, ConvolutionModule, FrameLengths

REFERENCE = json.loads((pathlib.Path(__file__).parent / "golden" / "regularisers.json").read_text())
DEFAULT = ZipformerConfig()
SIZES = {
    "num_heads": 2,
    "query_head_dim": 4,
    "pos_head_dim": 4,
    "value_head_dim": 4,
    "feedforward_dim": 12,
    "cnn_module_kernel": 5,
}
FORMS = Forms(depthwise="shift", frontend="shift").resolved()
KW = {"dtype": jnp.float32}
NOTHING = DrawCounts()


def value(of):
    """A schedule as the table has it: a number, or its points."""
    if not isinstance(of, Schedule):
        return of
    return of.points[0][1] if len(of.points) == 1 else [list(point) for point in of.points]


def constants(part):
    """What a regulariser states, or None for any other module."""
    if isinstance(part, Balancer):
        names = ("min_positive", "max_positive", "min_abs", "max_abs", "prob", "grad_scale")
    elif isinstance(part, Whiten):
        names = ("limit", "grad_scale", "groups")
    elif isinstance(part, ValueLimit):
        names = ("low", "high", "prob")
    else:
        return None
    found = {name: value(getattr(part, name)) for name in names}
    return {**found, "probs": list(part.probs)} if isinstance(part, Whiten) else found


def reference_name(path):
    """(the name in the table, the number of the stack or None) of a module of ours."""
    name = ".".join(map(str, path)).removesuffix(".limit")
    for ours, theirs in (("balancer0", "conv.2"), ("balancer4", "conv.5"), ("balancer7", "conv.8")):
        name = name.replace(f"encoder_embed.{ours}", f"encoder_embed.{theirs}")
    stack = re.match(r"encoders\.(\d+)\.", name)
    name = re.sub(r"encoders\.\d+\.layers\.\d+\.", "layer.", name)
    return re.sub(r"encoders\.\d+\.", "stack.", name), int(stack[1]) if stack else None


def test_every_regulariser_of_the_default_encoder_has_the_constants_of_the_reference():
    expected, seen = dict(REFERENCE), set()
    dropout = expected.pop("stack.encoder_pos")["dropout"]
    encoder = outline(lambda rngs: Zipformer(DEFAULT, rngs=rngs))
    for path, part in nnx.iter_modules(encoder):
        found = constants(part)
        if found is not None:
            name, stack = reference_name(path)
            row = expected[name]
            assert found == {key: DEFAULT.num_heads[stack] if v == "num_heads" else v for key, v in row.items()}, path
            seen.add(name)
    assert seen == expected.keys()
    assert {value(stack.pos_dropout_rate) for stack in encoder.encoders} == {dropout}


def draws(draw_counts=NOTHING, *, scalars=(), clips_NB=None, whitening=(), num_clips=1, count=0.0):
    """Draws of which some are given and the others 1, so that nothing acts and nothing is dropped."""
    scalars = jnp.concatenate([jnp.asarray(scalars, jnp.float32), jnp.ones(max(draw_counts.scalars - len(scalars), 0))])
    clips_NB = jnp.ones((draw_counts.clips, num_clips)) if clips_NB is None else clips_NB
    whitening = jnp.asarray(whitening, jnp.float32) if len(whitening) else jnp.ones(draw_counts.whitenings)
    channels_BC = jnp.ones((num_clips, draw_counts.channels))
    return Draws(jax.random.key(0), count, scalars, clips_NB, channels_BC, whitening)


def attention():
    return AttentionWeights(8, 8, 2, 4, 4, rngs=nnx.Rngs(0), **KW)


@pytest.mark.parametrize(
    ("make", "count", "beyond", "probability"),
    [
        (Balancer, 0.0, (), 0.5),
        (Balancer, 8000.0, (), 0.125),
        (lambda: attention().balance_keys, 0.0, (), 0.025),
        (lambda: Whiten(1.0), 0.0, (1.0,), 0.25),
        (lambda: Whiten(1.0), 0.0, (0.0,), 0.025),
        (lambda: ValueLimit(-0.1, 0.1), 0.0, (), 0.6),
    ],
    ids=["balancer", "balancer later", "keys", "whiten beyond", "whiten below", "limit"],
)
def test_a_regulariser_acts_with_the_probability_of_the_reference(make, count, beyond, probability):
    module, rng = make(), np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(50, 8)) * np.linspace(0.01, 900, 8) + 500, jnp.float32)
    upstream = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    for draw, acts in ((probability - 1e-3, True), (probability + 1e-3, False)):
        train = draws(scalars=(draw,), whitening=beyond, count=count)
        found = jax.vjp(lambda x, train=train: module(x, train), x)[1](upstream)[0]
        assert bool(jnp.any(found != upstream)) == acts


@pytest.mark.parametrize(("draw", "acts"), [(0.099, True), (0.101, False)])
def test_scores_beyond_25_are_penalised_in_a_tenth_of_the_batches(draw, acts):
    module, x = attention(), 30 * jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 8)), jnp.float32)
    lengths = FrameLengths(jnp.ones((1, 6), bool), jnp.full(1, 6))
    seen = []
    module.in_proj = lambda x: jnp.tile(x, 3)

    def weights(x):
        train = draws(scalars=(1.0, 1.0, 0.0, draw), whitening=(1.0,))  # keys' balancer and whitening, positions, this
        seen.append(module(x, jnp.zeros((11, 8)), lengths, train))
        return seen[-1]

    found = jax.vjp(weights, x)[1](jnp.zeros((1, 2, 6, 6)))[0]  # absolute: also where nothing comes from above
    q = np.asarray(x).reshape(6, 2, 4)
    scores = np.einsum("thd,shd->hts", q, q)
    push = 1e-4 * np.sign(scores) * (np.abs(scores) > 25.0)
    expected = np.einsum("hts,shd->thd", push, q) + np.einsum("hts,thd->shd", push, q)
    np.testing.assert_allclose(found[0].reshape(6, 2, 4), expected * acts, rtol=1e-4, atol=1e-6)


def test_an_eighth_of_the_clips_is_without_the_masked_channels():
    config = ZipformerConfig(
        feature_dim=8,
        num_encoder_layers=(1,),
        downsampling_factor=(1,),
        encoder_dim=(8,),
        encoder_unmasked_dim=(4,),
        pos_dim=4,
        frontend_channels=(2, 2, 2),
        **{name: (size,) for name, size in SIZES.items() if name != "pos_head_dim"},
    )
    init, apply = functionalize(lambda rngs: Zipformer(config, rngs=rngs))
    draw_counts = outline(lambda rngs: Zipformer(config, rngs=rngs)).draw_counts
    # the draws of the front end's layer come first, then the two of the masks
    first, second = (0.124, 0.126, 0.126), (1.0, 0.124, 0.126)
    clips_NB = jnp.ones((draw_counts.clips, 3)).at[1].set(jnp.asarray(first)).at[2].set(jnp.asarray(second))

    @jax.jit
    def run(params, mel):
        train = draws(draw_counts, clips_NB=clips_NB, num_clips=3)
        return apply(params, mel, jnp.full(3, 13), train=train)[0]

    params = jax.tree.map(lambda like: jnp.full(like.shape, 0.3), jax.eval_shape(init, jax.random.key(0)))
    frames = run(params, jax.random.normal(jax.random.key(1), (3, 13, 8)))
    there = np.asarray(jnp.any(frames != 0, axis=1))
    assert there.tolist() == [[True] * 4 + [False] * 4, [True] * 6 + [False] * 2, [True] * 8]


def test_positions_are_dropped_as_in_the_reference(monkeypatch):
    seen, rate = [], REFERENCE["stack.encoder_pos"]["dropout"]
    monkeypatch.setattr(ZipformerLayer, "__call__", lambda self, x, pos_ND, *_: seen.append(pos_ND) or x)
    stack = ZipformerStack(8, 1, 4, SIZES, False, FORMS, (NEVER,), remat=False, rngs=nnx.Rngs(0), **KW)
    x, lengths = jnp.ones((1, 3, 8)), FrameLengths(jnp.ones((1, 3), bool), jnp.full(1, 3))
    train = draws()
    stack(x, lengths)
    for draw in (rate - 1e-3, rate + 1e-3):
        train.draw_mask = lambda shape, draw=draw: jnp.full(shape, draw)
        stack(x, lengths, train)
    np.testing.assert_array_equal(seen[1], 0.0)
    np.testing.assert_allclose(seen[2], seen[0] / 0.85, rtol=1e-6)


def test_the_convolution_module_whitens_what_it_has_balanced():
    """Backwards the whitening comes first: the balancer's push is in units of the gradient that it passes on."""
    module = ConvolutionModule(8, 5, False, FORMS, rngs=nnx.Rngs(0), **KW)
    order = []
    for name in ("balancer1", "balancer2", "whiten"):
        setattr(module, name, lambda x, train, name=name: order.append(name) or x)
    x, lengths = jnp.ones((1, 6, 8)), FrameLengths(jnp.ones((1, 6), bool), jnp.full(1, 6))
    module(x, lengths, draws(count_draws(module)))
    assert order == ["balancer1", "balancer2", "whiten"]


def test_a_layer_whitens_the_keys_and_its_result_after_balancing_them(monkeypatch):
    order = []
    for kind in (Balancer, Whiten):
        monkeypatch.setattr(kind, "__call__", lambda self, x, train: order.append(self) or x)
    layer = ZipformerLayer(8, 4, SIZES, False, FORMS, NEVER, rngs=nnx.Rngs(0), **KW)
    x, lengths = jnp.ones((1, 6, 8)), FrameLengths(jnp.ones((1, 6), bool), jnp.full(1, 6))
    layer(x, jnp.ones((11, 4)), lengths, draws(count_draws(layer)))
    weights = layer.self_attn_weights
    assert order[:2] == [weights.balance_keys, weights.whiten_keys]
    assert order[-3:] == [layer.balancer1, layer.balancer2, layer.whiten]
