"""What only training does: chances, state, and equal gradients under scan, rematerialisation and sharding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alp_jax.config.schema import ZipformerConfig
from alp_jax.models.forms import Forms
from alp_jax.models.functional import functionalize, outline
from alp_jax.models.gradients import balance, limit_values, penalize_abs_above, whiten, whitening_metric
from alp_jax.models.regularisers import (
    Balancer,
    DrawCounts,
    Draws,
    Schedule,
    TrainInputs,
    Whiten,
    constant,
    count_draws,
    keep_clips,
    line,
    make_certain,
    shared_dropout,
)
from alp_jax.models.zipformer.encoder import Zipformer

RNG = np.random.default_rng(0)
LIMITS = ((-0.1, 0.1), (0.5, 1.0))  # of the mean in deviations, of the root mean square


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def gradient(function, x, upstream):
    return jax.vjp(function, x)[1](upstream)[0]


def test_balancer_follows_the_gradient_of_its_penalty():
    """An independent statement: differentiate |m - clip(m)| + |log(clip(rms) / rms)| and scale it per channel."""
    x = np.array(normal(40, 6)) * [0.1, 0.7, 3.0, 0.7, 0.7, 0.7] + [0, 0, 0, 0.5, -0.5, 0.02]
    upstream = normal(40, 6)
    with jax.enable_x64(True):
        x64, up64 = jnp.asarray(x, jnp.float64), jnp.asarray(upstream, jnp.float64)

        def penalty(x):
            rms, m = jnp.sqrt(jnp.mean(x**2, 0)), jnp.mean(x, 0) / jnp.std(x, 0)
            clip_m, clip_rms = jnp.clip(m, *LIMITS[0]), jnp.clip(rms, *LIMITS[1])
            return jnp.sum(jnp.abs(m - clip_m) + jnp.abs(jnp.log(clip_rms / rms)))

        push = jax.grad(penalty)(x64)
        size = jnp.sqrt(jnp.mean(push**2, 0))
        expected = up64 + jnp.abs(up64) * push * jnp.where(size > 0, 0.04 / size, 0)
    found = gradient(lambda x: balance(x, 0.0, 1.0, *LIMITS, 0.04), jnp.asarray(x, jnp.float32), upstream)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    changed = np.abs(np.asarray(found - upstream)).max(0) > 1e-6
    assert changed.tolist() == [True, changed[1], True, True, True, changed[5]]


@pytest.mark.parametrize(
    ("settings", "limit", "of"),
    [  # facts of the reference: 0.8139535143 atanh(2 share - 1), and sqrt(pi / 2) of a mean absolute value
        ({"min_positive": 0.3, "max_positive": 1.0}, -0.3448305, "mean"),
        ({"min_positive": 0.0, "max_positive": 0.9}, 0.8942193, "mean"),
        ({"min_positive": 0.0, "max_positive": 1.0, "min_abs": 0.5}, 0.6266571, "rms"),
        ({"min_positive": 0.0, "max_positive": 1.0, "max_abs": 2.0}, 2.5066283, "rms"),
    ],
)
def test_balancer_acts_from_the_limits_of_the_reference_on(settings, limit, of):
    """A channel a thousandth inside the limit is left alone, one as far outside is pushed back."""
    outward = -1 if settings.get("min_positive") or settings.get("min_abs") else 1
    noise = RNG.normal(size=512)
    noise = (noise - noise.mean()) / noise.std()
    for factor, acts in ((1 - 1e-3 * outward * np.sign(limit), False), (1 + 1e-3 * outward * np.sign(limit), True)):
        x = noise + factor * limit if of == "mean" else noise * factor * limit
        balancer = make_certain(Balancer(**{"min_abs": 0.0, "max_abs": 100.0, **settings}), 1.0)
        train = Draws(jax.random.key(0), 0.0, jnp.zeros(1), jnp.zeros((0, 1)), jnp.zeros((1, 0)), jnp.zeros(0))
        upstream = jnp.ones((1, 512, 1))
        found = gradient(lambda x, b=balancer, t=train: b(x, t), jnp.asarray(x, jnp.float32)[None, :, None], upstream)
        assert bool(np.any(np.asarray(found) != 1.0)) == acts


def test_nothing_acts_above_its_probability():
    x, upstream = 3 * normal(8, 4) + 1, normal(8, 4)
    settings = (1, (0.025, 0.25), 0.01)
    for acting, function in (
        (0.4, lambda x, draw: balance(x, draw, 0.5, *LIMITS, 0.04)),
        (0.2, lambda x, draw: whiten(x, jnp.float32(1.0), draw, 1.0, settings)),
        (0.4, lambda x, draw: limit_values(x, draw, 0.5, -0.1, 0.1)),
        (0.4, lambda x, draw: penalize_abs_above(x, draw, 0.5, 0.5, 0.1)),
    ):
        untouched = gradient(lambda x, f=function: f(x, 0.6), x, upstream)
        np.testing.assert_array_equal(untouched, upstream)
        assert np.any(np.asarray(gradient(lambda x, f=function, d=acting: f(x, d), x, upstream)) != upstream)


def test_penalty_is_absolute_and_limits_only_turn_outward_gradients():
    x = jnp.asarray([-2.0, -0.2, 0.2, 2.0])
    penalised = gradient(lambda x: penalize_abs_above(x, 0.0, 1.0, 1.0, 0.5), x, jnp.zeros(4))
    np.testing.assert_array_equal(penalised, [-0.5, 0, 0, 0.5])
    for sign in (1.0, -1.0):
        limited = gradient(lambda x: limit_values(x, 0.0, 1.0, -1.0, 1.0), x, jnp.full(4, sign))
        # gradient descent moves against the gradient: below the range it must become negative, above it positive
        np.testing.assert_array_equal(limited, [-1.0, sign, sign, 1.0])


@pytest.mark.parametrize(("limit", "draw", "before", "after"), [(1.0, 0.2, 1, 1), (99.0, 0.2, 1, 0), (1.0, 0.02, 0, 1)])
def test_whitening_remembers_what_it_measured(limit, draw, before, after):
    x, upstream, settings = normal(50, 4), normal(50, 4), (2, (0.025, 0.25), 0.01)
    assert 1.0 < float(whitening_metric(x, 2)) < 99.0

    def pulled(x, beyond):
        return jnp.sum(whiten(x, beyond, draw, limit, settings) * upstream)

    changed, change = jax.grad(pulled, argnums=(0, 1))(x, jnp.float32(before))
    assert before + float(change) == after
    assert bool(jnp.any(changed != upstream)) == (limit == 1.0)
    if limit == 1.0:
        added = np.linalg.norm(changed - upstream) / np.linalg.norm(upstream)
        assert added == pytest.approx(0.01, rel=1e-3)
    # not drawn: state and gradient stay
    rest = jax.grad(
        lambda x, beyond: jnp.sum(whiten(x, beyond, 0.2 if before == 0 else 0.3, limit, settings) * upstream), (0, 1)
    )(x, jnp.float32(before))
    np.testing.assert_array_equal(rest[0], upstream)
    assert float(rest[1]) == 0.0


def test_schedules_are_lines_between_their_points():
    schedule = Schedule(((10.0, 1.0), (20.0, 3.0), (40.0, 0.0)))
    np.testing.assert_allclose([float(schedule(n)) for n in (0, 10, 15, 20, 30, 40, 99)], [1, 1, 2, 3, 1.5, 0, 0])
    assert constant(0.0).never
    assert not line(0.0, 1.0, 5).never
    with pytest.raises(ValueError, match="increasing"):
        Schedule(((1.0, 0.0), (1.0, 1.0)))


def test_drops_are_per_clip_and_only_dropout_rescales():
    clips_NB, channels_BC = jnp.asarray([[0.1, 0.9, 0.31, 0.3]]), jax.random.uniform(jax.random.key(0), (64, 32))
    train = Draws(jax.random.key(0), 0.0, jnp.zeros(0), clips_NB, channels_BC, jnp.zeros(0))
    kept = keep_clips(jnp.ones((4, 5, 2)), constant(0.3), train)
    np.testing.assert_array_equal(kept[:, 0, 0], [0, 1, 1, 0])
    np.testing.assert_array_equal(kept, kept[:, :1, :1] * jnp.ones((4, 5, 2)))
    dropped = np.asarray(shared_dropout(jnp.ones((64, 5, 32)), constant(0.25), train))
    np.testing.assert_array_equal(dropped, dropped[:, :1] * np.ones((64, 5, 32)))
    np.testing.assert_allclose(np.unique(dropped), [0, 4 / 3], rtol=1e-6)
    assert dropped.mean() == pytest.approx(1.0, abs=0.05)
    assert train.remaining() == DrawCounts()


SMALL = ZipformerConfig(
    feature_dim=16,
    num_encoder_layers=(1,),
    downsampling_factor=(2,),
    encoder_dim=(8,),
    encoder_unmasked_dim=(6,),
    feedforward_dim=(12,),
    num_heads=(2,),
    query_head_dim=(4,),
    value_head_dim=(3,),
    pos_dim=8,
    cnn_module_kernel=(5,),
    frontend_channels=(2, 3, 4),
)


def encoder(remat=False, certain=False, dtype=jnp.float32):
    def make(rngs):
        module = Zipformer(SMALL, rngs=rngs, forms=Forms(depthwise="shift"), remat=remat, dtype=dtype)
        return make_certain(module, 1.0) if certain else module

    return *functionalize(make), count_draws(outline(make))


MEL = normal(8, 40, 16)
LEN = jnp.asarray([40, 33, 40, 21, 40, 40, 17, 9])


def differentiate(apply, draw_counts):
    """Returns ``step(params, mel, seed)``: loss, and gradients of the parameters and of the whitening state."""

    def loss(params, whitening_N, mel_BTF, seed):
        train = TrainInputs(jax.random.key(seed), jnp.float32(500.0), whitening_N)
        frames, _ = apply(params, mel_BTF, LEN, train=train)
        return jnp.sum(frames * jnp.sin(jnp.arange(frames.size)).reshape(frames.shape))

    def step(params, mel, seed):
        return jax.value_and_grad(loss, (0, 1))(params, jnp.ones(draw_counts.whitenings), mel, seed)

    return jax.jit(step)


def assert_same(one, other, tolerance):
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True):
        near = tolerance * float(np.max(np.abs(a), initial=1e-12))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=near, err_msg=jax.tree_util.keystr(path))


def test_training_gradients_on_8_devices_equal_those_on_one_with_every_regulariser_acting():
    """In float64: the regularisers divide by deviations, which makes float32 rounding visible at 1e-3."""
    init, apply, draw_counts = encoder(certain=True, dtype=jnp.float64)
    params = jax.jit(init)(jax.random.key(0))
    with jax.enable_x64(True):
        step = differentiate(apply, draw_counts)
        params = jax.tree.map(lambda x: x.astype(jnp.float64), params)
        mel = jnp.asarray(MEL, jnp.float64)
        one = step(params, mel, 3)
        mesh = Mesh(np.array(jax.devices()), ("data",))
        whole, split = (NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec("data")))
        eight = step(jax.device_put(params, whole), jax.device_put(mel, split), 3)
        assert {x.dtype for x in jax.tree.leaves(one)} == {jnp.dtype("float64")}
        assert_same(one, eight, 1e-9)
        assert float(jnp.sum(one[1][1])) < 0  # some site measured a value below its limit


def test_rematerialised_layers_draw_the_same_and_give_the_same_gradients():
    """In float64: how XLA fuses what is computed again differs by machine, and shows in float32 where sums cancel."""
    init, apply, draw_counts = encoder(dtype=jnp.float64)
    _, apply_remat, counts_remat = encoder(remat=True, dtype=jnp.float64)
    assert draw_counts == counts_remat
    params = jax.jit(init)(jax.random.key(0))
    with jax.enable_x64(True):
        step, step_remat = differentiate(apply, draw_counts), differentiate(apply_remat, draw_counts)
        params = jax.tree.map(lambda x: x.astype(jnp.float64), params)
        mel = jnp.asarray(MEL, jnp.float64)
        first = step(params, mel, 3)
        assert_same(first, step_remat(params, mel, 3), 1e-9)
        assert "remat" in str(jax.make_jaxpr(step_remat)(params, mel, 3))
        assert step(params, mel, 4)[0] != first[0] == step(params, mel, 3)[0]


def test_without_training_nothing_is_drawn_or_decided():
    init, apply, _ = encoder()
    program = str(jax.make_jaxpr(apply)(jax.eval_shape(init, jax.random.key(0)), MEL, LEN))
    assert not any(word in program for word in ("cond", "random", "custom_vjp_call[name=balance"))


def test_regularisers_work_in_a_scan():
    """Layers as a scan over stacked inputs give what the same layers give one after another."""
    balancer, whitening = Balancer(max_abs=0.5, prob=1.0), Whiten(1.0)
    scales, draws = jnp.asarray([1.0, 2.0, 0.5]), jnp.asarray([[0.1, 0.1], [0.7, 0.01], [0.2, 0.3]])

    def layer(x, scale, draw_2, beyond):
        train = Draws(jax.random.key(0), 0.0, draw_2, jnp.zeros((0, 1)), jnp.zeros((1, 0)), beyond[None])
        return whitening(balancer(x * scale, train), train)

    def scanned(scales, beyond_N):
        body = lambda x, layer_in: (layer(x, *layer_in), None)  # noqa: E731
        return jnp.sum(jnp.sin(jax.lax.scan(body, start, (scales, draws, beyond_N))[0]))

    def unrolled(scales, beyond_N):
        x = start
        for i in range(3):
            x = layer(x, scales[i], draws[i], beyond_N[i])
        return jnp.sum(jnp.sin(x))

    start = normal(20, 4)
    grads = [jax.jit(jax.grad(f, (0, 1)))(scales, jnp.ones(3)) for f in (scanned, unrolled)]
    np.testing.assert_allclose(grads[0][0], grads[1][0], rtol=1e-5)
    np.testing.assert_array_equal(grads[0][1], grads[1][1])
