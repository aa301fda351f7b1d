"""The modules of a Zipformer layer that look along time: attention and convolution, and how long each clip is."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from alp_jax.models.forms import Forms
from alp_jax.models.gradients import penalize_abs_above, sigmoid, swoosh_r
from alp_jax.models.regularisers import Balancer, DrawCounts, Draws, Whiten, constant, line, whitening_limit
from alp_jax.models.transformer import linear, scaled_linear, wide_type
from alp_jax.models.zipformer.frontend import DepthwiseConv1d
from alp_jax.parallel.mesh import constrain, for_each_part, row_parts


class FrameLengths(NamedTuple):
    """What a stack must know about the frames it sees.

    Fields:
      valid_BT: True for frames of the clip; padding is hidden from attention and from convolutions.
      end_B: frame at which each row ends for downsampling and chunk edges: the clip's own length in exact padding, the
        length of the whole batch in reference padding.
      allowed_TT: True where a target may look at a source; None without chunks.
      chunks: sizes in frames that a chunk of the causal model may have; -1 is the whole clip.
      choice: index into ``chunks`` for this pass, int32 scalar; None where there is only one.
    """

    valid_BT: jax.Array
    end_B: jax.Array
    allowed_TT: jax.Array | None = None
    chunks: tuple[int, ...] = (-1,)
    choice: jax.Array | None = None

    def downsampled(self, factor: int) -> "FrameLengths":
        """The same clips after ``factor`` frames became one: a window counts when its first frame does."""
        return FrameLengths(
            valid_BT=self.valid_BT[:, ::factor],
            end_B=-(-self.end_B // factor),
            allowed_TT=None if self.allowed_TT is None else self.allowed_TT[::factor, ::factor],
            chunks=tuple(chunk // factor if chunk > 0 else -1 for chunk in self.chunks),
            choice=self.choice,
        )

    def chunk(self, length: int) -> int | jax.Array:
        """Frames of a chunk in this pass, at most ``length``."""
        sizes = tuple(min(chunk, length) if chunk > 0 else length for chunk in self.chunks)
        return sizes[0] if self.choice is None else jnp.array(sizes)[self.choice]


def chunk_mask(length: int, chunk: int | jax.Array, left_frames: int | jax.Array) -> jax.Array:
    """allowed_TT: a target sees its own chunk and ``left_frames`` // ``chunk`` (at least 1; all if < 0) before it."""
    index = jnp.arange(length) // chunk
    target, source = index[:, None], index[None, :]
    back = jnp.where(left_frames < 0, length, jnp.maximum(left_frames // chunk, 1))
    return (source <= target) & (source >= target - back)


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

    own_draws = DrawCounts(scalars=2)

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

    def __call__(
        self, x_BTD: jax.Array, pos_ND: jax.Array, lengths: FrameLengths, draws: Draws | None = None
    ) -> jax.Array:
        """weights_BHTS in the type of ``x_BTD``; the softmax over sources S is float32."""
        # one matrix makes queries, keys and position queries, in this order, as the reference's in_proj does
        wide = self.num_heads * self.query_dim
        parts = jnp.split(self.in_proj(x_BTD), (wide, 2 * wide), axis=-1)
        parts[1] = self.whiten_keys(self.balance_keys(parts[1], draws), draws)
        q, k, p = (_by_head(part, self.num_heads) for part in parts)
        # no division by sqrt(d): the start values hold it; float32, as differences of large scores decide the softmax
        scores = jnp.einsum("bthd,bshd->bhts", q, k, preferred_element_type=wide_type(q.dtype))
        pos_scores = self._position_scores(p, pos_ND.astype(x_BTD.dtype))
        if draws is not None:
            pos_scores *= draws.draw() >= draws.value(self.pos_skip_rate)
        scores += pos_scores
        if draws is not None:
            # a failsafe against implausible scores; its strength depends on the scale of the loss
            scores = penalize_abs_above(scores, draws.draw(), draws.value(self.penalty_prob), 25.0, 1e-4)
        allowed = lengths.valid_BT[:, None, None, :]
        if lengths.allowed_TT is not None:
            allowed = allowed & lengths.allowed_TT
        return jax.nn.softmax(jnp.where(allowed, scores, MASKED), axis=-1).astype(x_BTD.dtype)

    def _position_scores(self, p_BTHP: jax.Array, pos_ND: jax.Array) -> jax.Array:
        """scores_BHTS; arranged so that devices exchange the weight's gradient, not the larger one of what it makes."""
        heads = (self.num_heads, self.pos_dim)
        parts = row_parts(len(p_BTHP))
        if parts == 1:
            return position_scores(p_BTHP, self.linear_pos(pos_ND).reshape(-1, *heads), self.form)
        # Every device makes the table from its own copy of the weight: the gradients of the copies, D x H x P, are then
        # what devices add up. Of one shared table it would be that of the (2T - 1) x H x P that it holds.
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

    def __call__(self, x_BTD: jax.Array, weights_BHTS: jax.Array, draws: Draws | None = None) -> jax.Array:
        values = self.in_proj(x_BTD)
        heads = _by_head(values, self.num_heads)
        mixed = jnp.einsum("bhts,bshd->bthd", weights_BHTS, heads)
        return self.whiten(self.out_proj(mixed.reshape(values.shape)), draws)


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

    def __call__(self, x_BTD: jax.Array, weights_BTS: jax.Array, draws: Draws | None = None) -> jax.Array:
        parts = jnp.split(self.in_proj(x_BTD), 3, axis=-1)
        gate, value, out_gate = (constrain(part, "batch", "time", "hidden") for part in parts)
        gate = jnp.tanh(self.balancer(gate, draws))
        mixed = jnp.einsum("bts,bsd->btd", weights_BTS, self.whiten1(value, draws) * gate)
        return self.whiten2(self.out_proj(mixed * out_gate), draws)


class ChunkCausalDepthwiseConv1d(nnx.Module):
    """A causal convolution of half the taps, plus one that sees only its chunk, corrected near the chunk's edges."""

    def __init__(self, width: int, taps: int, form: str, *, rngs: nnx.Rngs):
        half = taps // 2
        self.causal_conv = DepthwiseConv1d(width, half + 1, (half, 0), form, 0.1, rngs=rngs)
        self.chunkwise_conv = DepthwiseConv1d(width, taps, (half, half), form, 1.0 / math.sqrt(taps), rngs=rngs)
        self.chunkwise_conv_scale = nnx.Param(jnp.zeros((2, width, taps)))  # left edge, right edge

    def __call__(self, x_BTC: jax.Array, lengths: FrameLengths) -> jax.Array:
        length = x_BTC.shape[1]
        # One branch for each size, as a window must be known when the program is compiled; a pass runs one of them.
        by_size = [functools.partial(self._inside, min(c, length) if c > 0 else length) for c in lengths.chunks]
        inside_BTC = by_size[0](x_BTC) if lengths.choice is None else jax.lax.switch(lengths.choice, by_size, x_BTC)
        return self.causal_conv(x_BTC) + inside_BTC * self._scale(length, lengths).astype(x_BTC.dtype)

    def _inside(self, window: int, x_BTC: jax.Array) -> jax.Array:
        """The convolution of every chunk of ``window`` frames by itself."""
        num_clips, length, width = x_BTC.shape
        chunks = jnp.pad(x_BTC, ((0, 0), (0, -length % window), (0, 0))).reshape(-1, window, width)
        return self.chunkwise_conv(chunks).reshape(num_clips, -1, width)[:, :length]

    def _scale(self, length: int, lengths: FrameLengths) -> jax.Array:
        """scale_BTC: 1 plus the corrections at the edges of each clip's own chunks."""
        left_IC, right_IC = jnp.swapaxes(self.chunkwise_conv_scale[...], 1, 2)
        taps, end_B1 = left_IC.shape[0], lengths.end_B[:, None]
        chunk_B1 = jnp.minimum(end_B1, lengths.chunk(length))
        from_left_BT = jnp.arange(length) % chunk_B1
        from_right_BT = from_left_BT - chunk_B1 + taps

        def corrections(table_IC, index_BT):
            inside = (index_BT >= 0) & (index_BT < taps)
            return jnp.where(inside[..., None], table_IC[jnp.clip(index_BT, 0, taps - 1)], 0.0)

        return 1.0 + corrections(left_IC, from_left_BT) + corrections(right_IC, from_right_BT)


class ConvolutionModule(nnx.Module):
    """Gate, zero the padding, depthwise convolution, SwooshR, linear."""

    def __init__(self, width: int, taps: int, causal: bool, forms: Forms, *, rngs: nnx.Rngs, dtype):
        form, self.swoosh_form, self.causal = forms.depthwise, forms.swoosh, causal
        self.in_proj = linear(width, 2 * width, rngs=rngs, dtype=dtype)
        self.depthwise_conv = (
            ChunkCausalDepthwiseConv1d(width, taps, form, rngs=rngs)
            if causal
            else DepthwiseConv1d(width, taps, (taps // 2, taps // 2), form, 1.0 / math.sqrt(taps), rngs=rngs)
        )
        self.out_proj = scaled_linear(width, width, 0.05, rngs=rngs, dtype=dtype)
        self.balancer1 = Balancer(
            min_positive=line(0.05, 0.025, 8000), max_positive=1.0, min_abs=1.5, max_abs=line(5.0, 10.0, 8000)
        )
        self.balancer2 = Balancer(
            min_positive=line(0.1, 0.05, 8000), max_positive=1.0, min_abs=line(0.2, 0.5, 20000), max_abs=10.0
        )
        self.whiten = Whiten(whitening_limit(7.5))

    def __call__(self, x_BTD: jax.Array, lengths: FrameLengths, draws: Draws | None = None) -> jax.Array:
        parts = jnp.split(self.in_proj(x_BTD), 2, axis=-1)
        value, gate = (constrain(part, "batch", "time", "hidden") for part in parts)
        gate = sigmoid(self.balancer1(gate, draws))
        # Zeroed last before the taps look along time: padding that was zero in ``x_BTD`` is not after ``in_proj``,
        # which has a bias.
        inside = jnp.where(lengths.valid_BT[:, :, None], value * gate, 0)
        mixed = self.depthwise_conv(inside, lengths) if self.causal else self.depthwise_conv(inside)
        return self.out_proj(swoosh_r(self.whiten(self.balancer2(mixed, draws), draws), self.swoosh_form))
