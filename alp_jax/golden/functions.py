"""Cases of single functions: activations, normalisation, gradient-only functions, positions, masks."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.core.errors import UserError
from alp_jax.golden.case import Case
from alp_jax.golden.compare import FORWARD, Line, compare
from alp_jax.golden.module_case import Recorded, check_function, check_module, swap
from alp_jax.models.gradients import (
    limit_values,
    penalize_abs_above,
    scale_gradient,
    swoosh_l,
    swoosh_r,
    whitening_metric,
)
from alp_jax.models.regularisers import Balancer, DrawCounts, Whiten, constant, make_certain, shared_dropout
from alp_jax.models.zipformer.encoder import feature_masks
from alp_jax.models.zipformer.layer import BiasNorm
from alp_jax.models.zipformer.modules import relative_positions

SWOOSH = {"SwooshL": swoosh_l, "SwooshR": swoosh_r}
# kind -> (settings, x) -> y, of functions of one array
FUNCTIONS = {
    "swoosh_l": lambda c, x: swoosh_l(x),
    "swoosh_r": lambda c, x: swoosh_r(x),
    "scale_grad": lambda c, x: scale_gradient(x, c["alpha"]),
    "limit_param_value": lambda c, x: limit_values(x, 0.0, 1.0, c["min"], c["max"]),
    "penalize_abs_values_gt": lambda c, x: penalize_abs_above(x, 0.0, 1.0, c["limit"], c["penalty"]),
}


def check_of_one_array(case: Case) -> Iterator[Line]:
    """An elementwise function of ``FUNCTIONS``, forward and backward."""
    function = FUNCTIONS[case.config["kind"]]
    yield from check_function(case, lambda _, inputs: function(case.config, inputs["x"]))


def check_dropout(case: Case) -> Iterator[Line]:
    """Dropout with the recorded random numbers."""
    rate = constant(case.config["p"])

    def run(_, inputs):
        return shared_dropout(inputs["x"], rate, Recorded(DrawCounts(), mask=inputs["u"]))

    yield from check_function(case, run)


def check_activation_and_linear(case: Case) -> Iterator[Line]:
    """What our feed-forward does after its first layer: activation, dropout shared over time, linear."""
    activation, rate = SWOOSH[case.config["activation"]], constant(case.config["dropout_p"])

    def run(params, inputs):
        hidden = swap(activation(inputs["x"]))
        draws = Recorded(
            DrawCounts(channels=hidden.shape[2]), num_clips=len(hidden), mask=_shared_mask(case, inputs["u"])
        )
        hidden = shared_dropout(hidden, rate, draws)
        return swap(hidden @ params["weight"].T + params["bias"])

    yield from check_function(case, run, {k: jnp.asarray(v) for k, v in case.tensors("weights").items()})


def _shared_mask(case: Case, draws_TBC: jax.Array) -> jax.Array | None:
    """The recorded draws where all frames share them; a case with draws for every frame must have dropout off."""
    if case.config["dropout_shared_dim"] is None and case.config["dropout_p"]:
        raise UserError(f"{case.config.path}: a dropout with a mask for every frame is not supported")
    return None if case.config["dropout_shared_dim"] is None else draws_TBC


def check_balancer(case: Case) -> Iterator[Line]:
    """A Balancer, forward and backward, on the case's axis of channels."""
    names = ("min_positive", "max_positive", "min_abs", "max_abs")
    limits = {name: case.config.get(name, case.config["defaults"][name]) for name in names}
    balancer = Balancer(**limits, prob=case.config["prob"], grad_scale=case.config["grad_scale"])
    axis = case.config["channel_dim"]

    def run(_, inputs):
        x = jnp.moveaxis(inputs["x"], axis, -1)
        return jnp.moveaxis(balancer(x, Recorded(balancer.own_draws)), -1, axis)

    yield from check_function(case, run)


def check_whiten(case: Case) -> Iterator[Line]:
    """A Whiten, forward and backward, and the whitening metric of its input."""
    groups = case.config["num_groups"]
    module = Whiten(case.config["whitening_limit"], case.config["grad_scale"], groups)
    module.probs = (case.config["prob"],) * 2
    yield from check_function(case, lambda _, inputs: module(inputs["x"], Recorded(module.own_draws)))
    io = case.tensors()
    metric = whitening_metric(jnp.asarray(io["in.x"]), groups)
    yield compare(case.name, "out.metric", metric, io["out.metric"], FORWARD, relative=True)


def check_bias_norm(case: Case) -> Iterator[Line]:
    """A BiasNorm, its gradients and the limits on its scale."""
    axis, active = case.config["channel_dim"], case.config["limit_param_value_active"]
    width = case.tensors()["in.x"].shape[axis]

    def run(apply, params, inputs, draw_counts):
        train = Recorded(draw_counts) if active else None
        return jnp.moveaxis(apply(params, jnp.moveaxis(inputs["x"], axis, -1), train), -1, axis)

    def make(rngs):
        return make_certain(BiasNorm(width, rngs=rngs), 1.0)

    yield from check_module(case, make, run, "encoders/0/layers/0/norm", "encoder.encoders.0.layers.0.norm.")


def check_positions(case: Case) -> Iterator[Line]:
    """A line per ``out.dim{D}.T{T}``; only a part of the longest table is stored."""
    for name, expected in sorted(case.tensors().items()):
        width, length = (int(part[n:]) for part, n in zip(name.split(".")[1:], (3, 1), strict=True))
        table = relative_positions(length, width)
        step = 97 if len(table) > 10 * expected.shape[1] else 1
        yield compare(case.name, name, table[None, ::step], expected)


def check_feature_masks(case: Case) -> Iterator[Line]:
    """The masks that drop features of a clip in every stack; compared exactly."""
    io, config = case.tensors(), case.config
    clips_NB = jnp.asarray(np.stack([io["in.u1"].ravel(), io["in.u2"].ravel()]))
    draws = Recorded(DrawCounts(), clips_NB=clips_NB)
    widths, unmasked = tuple(config["encoder_dim"]), tuple(config["encoder_unmasked_dim"])
    for i, mask_B1D in enumerate(feature_masks(widths, unmasked, config["prob"], draws, jnp.float32)):
        yield compare(case.name, f"out.mask{i}", swap(mask_B1D), io[f"out.mask{i}"], 0)


CHECKS = {
    **dict.fromkeys(FUNCTIONS, check_of_one_array),
    "act_dropout_linear": check_activation_and_linear,
    "balancer": check_balancer,
    "bias_norm": check_bias_norm,
    "compact_rel_pos": check_positions,
    "dropout3": check_dropout,
    "feature_masks": check_feature_masks,
    "whiten": check_whiten,
}
