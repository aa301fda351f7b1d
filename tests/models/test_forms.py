"""Every form of a slow part gives what the others give, forward and backward; unknown forms are named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.config.schema import ModelConfig
from alp_jax.core.errors import UserError
from alp_jax.core.target import planned_for
from alp_jax.models.encoders import make_encoder
from alp_jax.models.forms import CHOICES, PLAIN, Forms
from alp_jax.models.functional import functionalize, outline
from alp_jax.models.gradients import swoosh_l, swoosh_r
from alp_jax.models.zipformer.frontend import Conv2d
from alp_jax.models.zipformer.modules import position_scores


def draw(*shape, scale=1.0):
    return jnp.asarray(scale * np.random.default_rng(sum(shape)).standard_normal(shape), jnp.float32)


def scores(form, p_BTHP, table_NHP):
    return position_scores(p_BTHP, table_NHP, form)


def convolution(width_in, strides):
    def run(form, x_BTFC, kernel):
        _, apply = functionalize(lambda rngs: Conv2d(width_in, 3, strides, 0, form, rngs=rngs))
        return apply({"kernel": kernel, "bias": jnp.zeros(3)}, x_BTFC)

    return run


CASES = {
    "position": ("position", scores, (draw(2, 5, 2, 3), draw(9, 2, 3))),
    "one channel": ("frontend", convolution(1, (1, 1)), (draw(2, 8, 9, 1), draw(3, 3, 1, 3))),
    "wide": ("frontend", convolution(16, (1, 2)), (draw(2, 6, 10, 16), draw(3, 3, 16, 3))),
    "wide, both strides": ("frontend", convolution(16, (2, 2)), (draw(2, 8, 9, 16), draw(3, 3, 16, 3))),
    "swoosh l": ("swoosh", lambda form, x: swoosh_l(x, form), (draw(50, 3, scale=20.0),)),
    "swoosh r": ("swoosh", lambda form, x: swoosh_r(x, form), (draw(50, 3, scale=20.0),)),
}


@pytest.mark.parametrize("name", CASES)
def test_forms_agree_forward_and_backward(name):
    part, function, arrays = CASES[name]

    def run(form):
        def total(*arrays):
            y = function(form, *arrays)
            return jnp.sum(jnp.sin(y)), y

        argnums = tuple(range(len(arrays)))
        (_, y), grads = jax.jit(jax.value_and_grad(total, argnums, has_aux=True))(*arrays)
        return y, *grads

    for first, second in zip(*map(run, CHOICES[part]), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5, rtol=1e-5)


def test_both_swooshes_are_finite_far_out():
    for form in CHOICES["swoosh"]:
        far = jnp.array([-1e4, 1e4])
        assert np.all(np.isfinite(swoosh_l(far, form)))
        assert np.all(np.isfinite(jax.grad(lambda x, form=form: jnp.sum(swoosh_r(x, form)))(far)))


def test_auto_follows_the_backend_and_reaches_every_part():
    assert Forms().resolved() == Forms("shift", "shift", "direct", "own")
    with planned_for("tpu"):
        assert Forms().resolved() == Forms("lax", "lax", "direct", "own")

    def found(**knobs):
        encoder = outline(lambda rngs: make_encoder(ModelConfig(**knobs), rngs=rngs))
        front, layer = encoder.encoder_embed, encoder.encoders[1].layers[0]
        swooshes = front.swoosh_form, front.convnext.swoosh_form, layer.feed_forward1.swoosh_form
        swooshes += layer.feed_forward2.swoosh_form, layer.feed_forward3.swoosh_form, layer.conv_module2.swoosh_form
        depthwise = front.convnext.depthwise_conv.form, layer.conv_module1.depthwise_conv.form
        convolutions = front.conv0.one_channel, front.conv7.wide, front.conv4.wide
        return set(depthwise), convolutions, layer.self_attn_weights.form, set(swooshes)

    assert found() == ({"shift"}, (True, True, False), "direct", {"own"})
    plain = {f"{part}_form": getattr(PLAIN, part) for part in CHOICES}
    assert found(**plain) == ({"lax"}, (False, False, False), "skew", {"autodiff"})


@pytest.mark.parametrize("part", CHOICES)
def test_unknown_forms_are_named(part):
    with pytest.raises(UserError, match=f"config.model.{part}_form.*shfit"):
        Forms(**{part: "shfit"}).resolved()
