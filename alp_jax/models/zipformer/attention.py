"""Attention weights with relative positions, and the two modules that use them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from alp_jax.models.gradients import penalize_abs_above
from alp_jax.models.layers import scaled_linear
from alp_jax.models.precision import wide_type
from alp_jax.models.regularisers import Balancer, Whiten, whitening_limit
from alp_jax.models.schedule import constant, line
from alp_jax.models.training import Sites, Training
from alp_jax.models.transformer import linear
from alp_jax.models.zipformer.frame_lengths import Extent
from alp_jax.parallel.activations import constrain, for_each_part, row_parts

MASKED = -1000.0  # the reference's; finite, so a row with nothing to look at is uniform and not NaN


def relative_positions(length: int, width: int) -> np.ndarray:
    """pos_ND float32 for the offsets 1 - length .. length - 1 (N = 2 length - 1); row length - 1 is offset 0.

    Offsets are compressed by a logarithm, then mapped to an angle; the last column is 1 everywhere.
    """
    offset = np.arange(1 - length, length, dtype=np.float64)[:, None]
    root = math.sqrt(width)
    compressed = root * np.sign(offset) * (np.log(np.abs(offset) + root) - math.log(root))
    angle = np.arctan(compressed / (width / (2 * math.pi))) * np.arange(1, width // 2 + 1)
    table = np.stack([np.cos(angle), np.sin(angle)], axis=-1).reshape(2 * length - 1, width)
    table[:, -1] = 1.0
    return table.astype(np.float32)


def _by_head(x_BTD: jax.Array, num_heads: int) -> jax.Array:
    return constrain(x_BTD.reshape(*x_BTD.shape[:2], num_heads, -1), "batch", "time", "heads", "each")


def position_scores(p_BTHP: jax.Array, table_NHP: jax.Array, form: str) -> jax.Array:
    """scores_BHTS, at least float32, of target t and source s: p of t times row T - 1 - t + s of the table."""
    length, kw = p_BTHP.shape[1], {"preferred_element_type": wide_type(p_BTHP.dtype)}
    if form == "direct":  # gathering the small table costs fewer bytes than skewing scores of all 2T - 1 offsets
        offsets_TS = length - 1 - jnp.arange(length)[:, None] + jnp.arange(length)
        return jnp.einsum("bthp,hpts->bhts", p_BTHP, table_NHP.transpose(1, 2, 0)[:, :, offsets_TS], **kw)
    scores_BHTN = jnp.einsum("bthp,nhp->bhtn", p_BTHP, table_NHP, **kw)
    # with one more column, row t of the reshaped array begins t columns further right
    flat = jnp.pad(scores_BHTN, ((0, 0), (0, 0), (0, 0), (0, 1))).reshape(*scores_BHTN.shape[:2], -1)
    rows = flat[..., : length * (2 * length - 1)].reshape(scores_BHTN.shape)
    return rows[..., length - 1 :]


class AttentionWeights(nnx.Module):
    """Softmax over content and relative position scores; 1/sqrt(d) lives in the start values.

    ``form`` is that of the position scores, see ``alp_jax.models.forms``.
    """

    own_sites = Sites(scalars=2)

    def __init__(
        self, width, pos_dim, num_heads, query_head_dim, pos_head_dim, form: str = "direct", *, rngs: nnx.Rngs, dtype
    ):
        self.form, self.num_heads, self.query_dim, self.pos_dim = form, num_heads, query_head_dim, pos_head_dim
        width_out = num_heads * (2 * query_head_dim + pos_head_dim)
        self.in_proj = scaled_linear(width, width_out, query_head_dim**-0.25, rngs=rngs, dtype=dtype)
        pos_out = num_heads * pos_head_dim
        self.linear_pos = scaled_linear(pos_dim, pos_out, 0.05, rngs=rngs, dtype=dtype, use_bias=False)
        # a constant added to all keys changes nothing, but rounding would let the bias of the keys drift
        self.balance_keys = Balancer(min_positive=0.4, max_positive=0.6, min_abs=0.0, max_abs=100.0, prob=0.025)
        self.whiten_keys = Whiten(whitening_limit(3.0), grad_scale=0.025, groups=num_heads)
        self.pos_skip_rate, self.penalty_prob = line(0.5, 0.0, 4000), constant(0.1)

    def __call__(self, x_BTD: jax.Array, pos_ND: jax.Array, extent: Extent, train: Training | None = None) -> jax.Array:
        """weights_BHTS in the type of ``x_BTD``; the softmax over sources S is float32."""
        wide = self.num_heads * self.query_dim
        parts = jnp.split(self.in_proj(x_BTD), (wide, 2 * wide), axis=-1)
        parts[1] = self.whiten_keys(self.balance_keys(parts[1], train), train)
        q, k, p = (_by_head(part, self.num_heads) for part in parts)
        scores = jnp.einsum("bthd,bshd->bhts", q, k, preferred_element_type=wide_type(q.dtype))
        pos_scores = self._position_scores(p, pos_ND.astype(x_BTD.dtype))
        if train is not None:
            pos_scores *= train.draw() >= train.value(self.pos_skip_rate)
        scores += pos_scores
        if train is not None:
            # a failsafe against implausible scores; its strength depends on the scale of the loss
            scores = penalize_abs_above(scores, train.draw(), train.value(self.penalty_prob), 25.0, 1e-4)
        allowed = extent.valid_BT[:, None, None, :]
        if extent.allowed_TT is not None:
            allowed = allowed & extent.allowed_TT
        return jax.nn.softmax(jnp.where(allowed, scores, MASKED), axis=-1).astype(x_BTD.dtype)

    def _position_scores(self, p_BTHP: jax.Array, pos_ND: jax.Array) -> jax.Array:
        """scores_BHTS; between devices travels the gradient of the weight, not that of what is gathered by it."""
        heads = (self.num_heads, self.pos_dim)
        parts = row_parts(len(p_BTHP))
        if parts == 1:
            return position_scores(p_BTHP, self.linear_pos(pos_ND).reshape(-1, *heads), self.form)
        weight_DHP = self.linear_pos.kernel[...].reshape(-1, *heads)
        weight_GDHP = for_each_part(weight_DHP, parts, "each", "heads", "each").astype(pos_ND.dtype)
        table_GNHP = jnp.einsum("nd,gdhp->gnhp", pos_ND, weight_GDHP)
        p_GBTHP = constrain(p_BTHP.reshape(parts, -1, *p_BTHP.shape[1:]), "part", "each", "time", "heads", "each")
        scores_GBHTS = jax.vmap(lambda p, table: position_scores(p, table, self.form))(p_GBTHP, table_GNHP)
        scores_BHTS = scores_GBHTS.reshape(-1, *scores_GBHTS.shape[2:])
        return constrain(scores_BHTS, "batch", "heads", "time", "time")


class SelfAttention(nnx.Module):
    """Values of every head mixed by given weights."""

    def __init__(self, width: int, num_heads: int, value_head_dim: int, *, rngs: nnx.Rngs, dtype):
        self.num_heads = num_heads
        self.in_proj = linear(width, num_heads * value_head_dim, rngs=rngs, dtype=dtype)
        self.out_proj = scaled_linear(num_heads * value_head_dim, width, 0.05, rngs=rngs, dtype=dtype)
        self.whiten = Whiten(whitening_limit(7.5, 3.0))

    def __call__(self, x_BTD: jax.Array, weights_BHTS: jax.Array, train: Training | None = None) -> jax.Array:
        values = self.in_proj(x_BTD)
        heads = _by_head(values, self.num_heads)
        mixed = jnp.einsum("bhts,bshd->bthd", weights_BHTS, heads)
        return self.whiten(self.out_proj(mixed.reshape(values.shape)), train)


class NonlinAttention(nnx.Module):
    """Gated values mixed by the weights of one head and gated again."""

    def __init__(self, width: int, *, rngs: nnx.Rngs, dtype):
        hidden = 3 * width // 4
        self.in_proj = linear(width, 3 * hidden, rngs=rngs, dtype=dtype)
        self.out_proj = scaled_linear(hidden, width, 0.05, rngs=rngs, dtype=dtype)
        self.balancer = Balancer(
            min_positive=line(0.25, 0.05, 20000), max_positive=line(0.75, 0.95, 20000), min_abs=0.5, max_abs=5.0
        )
        self.whiten1 = Whiten(whitening_limit(5.0))
        self.whiten2 = Whiten(whitening_limit(5.0, 3.0))

    def __call__(self, x_BTD: jax.Array, weights_BTS: jax.Array, train: Training | None = None) -> jax.Array:
        parts = jnp.split(self.in_proj(x_BTD), 3, axis=-1)
        gate, value, out_gate = (constrain(part, "batch", "time", "hidden") for part in parts)
        gate = jnp.tanh(self.balancer(gate, train))
        mixed = jnp.einsum("bts,bsd->btd", weights_BTS, self.whiten1(value, train) * gate)
        return self.whiten2(self.out_proj(mixed * out_gate), train)
