"""Qwen2.5, a language model of decoder layers with grouped-query attention, equal to transformers' Qwen2ForCausalLM.

Qwen Team, "Qwen2.5 Technical Report", 2024. Module names are those of the published weights. The input is vectors, not
tokens, so that other things than words can stand among them.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from alp_jax.core.errors import UserError
from alp_jax.models.transformer import MASKED, wide

_INIT = nnx.initializers.normal(0.02)


@dataclasses.dataclass(frozen=True)
class QwenConfig:
    """Sizes under the names of the published config.json."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    vocab_size: int
    tie_word_embeddings: bool = False
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1e6
    max_position_embeddings: int = 32768

    @property
    def head_size(self) -> int:
        """The width of an attention head."""
        return self.hidden_size // self.num_attention_heads

    def check(self) -> None:
        """Raises UserError naming the sizes that do not go together."""
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0 and field.name != "tie_word_embeddings":
                raise UserError(f"{field.name} = {getattr(self, field.name)} must be positive")
        heads, groups = self.num_attention_heads, self.num_key_value_heads
        if self.hidden_size % heads or self.head_size % 2:
            raise UserError(
                f"hidden_size = {self.hidden_size} is not an even multiple of num_attention_heads = {heads}"
            )
        if heads % groups:
            raise UserError(f"num_attention_heads = {heads} is not a multiple of num_key_value_heads = {groups}")


class Cache(NamedTuple):
    """Keys and values of every layer, [B, K, groups, head size] each; slot k holds position k."""

    key: tuple[jax.Array, ...]
    value: tuple[jax.Array, ...]


def empty_cache(config: QwenConfig, batch: int, slots: int, dtype) -> Cache:
    """Room for ``slots`` positions, all zero."""
    zero = jnp.zeros((batch, slots, config.num_key_value_heads, config.head_size), dtype)
    layers = (zero,) * config.num_hidden_layers
    return Cache(layers, layers)


def rotate(x_BLHd: jax.Array, position_BL: jax.Array, theta: float) -> jax.Array:
    """Rotary positions: pairs (i, i + d/2) turn by position * theta^(-2i/d); Su et al., "RoFormer", 2021."""
    half = x_BLHd.shape[-1] // 2
    rate = 1.0 / theta ** (jnp.arange(half, dtype=jnp.float32) / half)
    angle = position_BL.astype(jnp.float32)[:, :, None, None] * rate
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = wide(x_BLHd[..., :half]), wide(x_BLHd[..., half:])
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1).astype(x_BLHd.dtype)


def grouped_attention(query_BLHd, key_BSGd, value_BSGd, allowed_BLS) -> jax.Array:
    """out_BL(Hd); H/G neighbouring queries share a key; the softmax is float32."""
    batch, length, heads, size = query_BLHd.shape
    groups = key_BSGd.shape[2]
    query = query_BLHd.reshape(batch, length, groups, heads // groups, size)
    scores = jnp.einsum("blgrd,bkgd->bgrlk", query, key_BSGd, preferred_element_type=jnp.float32) / math.sqrt(size)
    weights = jax.nn.softmax(jnp.where(allowed_BLS[:, None, None], scores, MASKED), axis=-1)
    out = jnp.einsum("bgrlk,bkgd->blgrd", weights.astype(value_BSGd.dtype), value_BSGd)
    return out.reshape(batch, length, heads * size)


class _Maker:
    """Layers with the types that a whole model shares."""

    def __init__(self, rngs: nnx.Rngs, dtype, param_dtype):
        self.options = {"rngs": rngs, "dtype": dtype, "param_dtype": param_dtype}

    def linear(self, width_in: int, width_out: int, bias: bool = False) -> nnx.Linear:
        return nnx.Linear(width_in, width_out, use_bias=bias, kernel_init=_INIT, **self.options)

    def norm(self, config: QwenConfig) -> nnx.RMSNorm:
        return nnx.RMSNorm(config.hidden_size, epsilon=config.rms_norm_eps, **self.options)


class QwenAttention(nnx.Module):
    """Causal attention with biases on query, key and value and none on the output."""

    def __init__(self, config: QwenConfig, make: _Maker):
        width, narrow = config.hidden_size, config.num_key_value_heads * config.head_size
        self.head_size, self.theta = config.head_size, config.rope_theta
        self.q_proj = make.linear(width, width, bias=True)
        self.k_proj = make.linear(width, narrow, bias=True)
        self.v_proj = make.linear(width, narrow, bias=True)
        self.o_proj = make.linear(width, width)

    def __call__(self, x_BLD, position_BL, stored: tuple[jax.Array, jax.Array] | None):
        """(out_BLD, (key, value) of every position there is), the new ones written at their slots of ``stored``."""

        def heads(x):
            return x.reshape(*x.shape[:-1], -1, self.head_size)

        query = rotate(heads(self.q_proj(x_BLD)), position_BL, self.theta)
        key = rotate(heads(self.k_proj(x_BLD)), position_BL, self.theta)
        value = heads(self.v_proj(x_BLD))
        if stored is not None:

            def write(old_SGd, new_LGd, first):
                return jax.lax.dynamic_update_slice(old_SGd, new_LGd.astype(old_SGd.dtype), (first, 0, 0))

            key, value = (jax.vmap(write)(o, n, position_BL[:, 0]) for o, n in zip(stored, (key, value), strict=True))
        allowed_BLS = jnp.arange(key.shape[1]) <= position_BL[:, :, None]
        return self.o_proj(grouped_attention(query, key, value, allowed_BLS)), (key, value)


class QwenMlp(nnx.Module):
    """SwiGLU; Shazeer, "GLU Variants Improve Transformer", 2020."""

    def __init__(self, config: QwenConfig, make: _Maker):
        self.gate_proj = make.linear(config.hidden_size, config.intermediate_size)
        self.up_proj = make.linear(config.hidden_size, config.intermediate_size)
        self.down_proj = make.linear(config.intermediate_size, config.hidden_size)

    def __call__(self, x_BLD: jax.Array) -> jax.Array:
        return self.down_proj(jax.nn.silu(self.gate_proj(x_BLD)) * self.up_proj(x_BLD))


class QwenLayer(nnx.Module):
    """Attention and SwiGLU, each behind a norm and beside a residual."""

    def __init__(self, config: QwenConfig, make: _Maker):
        self.input_layernorm = make.norm(config)
        self.self_attn = QwenAttention(config, make)
        self.post_attention_layernorm = make.norm(config)
        self.mlp = QwenMlp(config, make)

    def __call__(self, x_BLD, position_BL, stored=None):
        attended, stored = self.self_attn(self.input_layernorm(x_BLD), position_BL, stored)
        x_BLD = x_BLD + attended
        return x_BLD + self.mlp(self.post_attention_layernorm(x_BLD)), stored


class Qwen(nnx.Module):
    """Vectors to hidden vectors to logits over the vocabulary.

    Args:
      dtype: what it computes in.
      param_dtype: what its parameters are stored in; bfloat16, as published, halves the memory of a frozen model.
    """

    def __init__(self, config: QwenConfig, *, rngs: nnx.Rngs, dtype=jnp.float32, param_dtype=jnp.float32):
        config.check()
        self.config, self.dtype = config, dtype
        make = _Maker(rngs, dtype, param_dtype)
        self.embed_tokens = nnx.Embed(
            config.vocab_size, config.hidden_size, embedding_init=_INIT, rngs=rngs, param_dtype=param_dtype
        )
        self.layers = nnx.List([QwenLayer(config, make) for _ in range(config.num_hidden_layers)])
        self.norm = make.norm(config)
        self.lm_head = nnx.data(None)
        if not config.tie_word_embeddings:
            self.lm_head = make.linear(config.hidden_size, config.vocab_size)

    def embed(self, tokens_BL: jax.Array) -> jax.Array:
        """x_BLD of token ids, in the computing type."""
        return jnp.take(self.embed_tokens.embedding[...], tokens_BL, axis=0).astype(self.dtype)

    def hidden(self, x_BLD: jax.Array, *, remat: bool = False) -> jax.Array:
        """hidden_BLD after the last norm, every row from position 0; position l depends on those up to l.

        Rows are padded on the right: what follows a row's end changes nothing before it.

        Args:
          remat: recompute the inside of each layer in the backward pass instead of keeping it.
        """
        position_BL = jnp.broadcast_to(jnp.arange(x_BLD.shape[1]), x_BLD.shape[:2])
        for layer in self.layers:

            def run(x, layer=layer):
                return layer(x, position_BL)[0]

            x_BLD = (jax.checkpoint(run) if remat else run)(x_BLD)
        return self.norm(x_BLD)

    def extend(self, x_BLD: jax.Array, first_B: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """hidden_BLD of L further positions of each row, from ``first_B`` on, which attend to all before them.

        The caller must ensure that ``first_B + L`` is at most the number of slots.
        """
        position_BL = first_B[:, None] + jnp.arange(x_BLD.shape[1])
        keys, values = [], []
        for layer, key, value in zip(self.layers, *cache, strict=True):
            x_BLD, (key, value) = layer(x_BLD, position_BL, (key, value))
            keys.append(key)
            values.append(value)
        return self.norm(x_BLD), Cache(tuple(keys), tuple(values))

    def logits(self, hidden: jax.Array) -> jax.Array:
        """float32 scores over the vocabulary on the last axis."""
        table = self.embed_tokens.embedding[...].T if self.lm_head is None else self.lm_head.kernel[...]
        return jnp.matmul(hidden, table.astype(self.dtype), preferred_element_type=jnp.float32)

    def __call__(self, tokens_BL: jax.Array) -> jax.Array:
        """logits_BLV float32 for the token after each of ``tokens_BL``."""
        return self.logits(self.hidden(self.embed(tokens_BL)))

    def generate(self, x_BLD: jax.Array, len_B: jax.Array, *, max_length: int, eos: int, pad: int) -> jax.Array:
        """Greedy continuations: tokens_BL int32 with L = ``max_length``, PAD from the first EOS on.

        Stops early when every row has ended; one position per step, from a cache.

        Args:
          x_BLD: prompts, padded on the right; ``len_B`` of their positions count.
        """
        batch, length = x_BLD.shape[:2]
        cache = empty_cache(self.config, batch, length + max_length, self.dtype)
        hidden_BLD, cache = self.extend(x_BLD, jnp.zeros_like(len_B), cache)
        last_BD = jnp.take_along_axis(hidden_BLD, (len_B - 1)[:, None, None], axis=1)[:, 0]

        def choose_next(hidden_BD, ended_B):
            next_B = jnp.argmax(self.logits(hidden_BD), axis=-1).astype(jnp.int32)
            ended_B = ended_B | (next_B == eos)
            return jnp.where(ended_B, pad, next_B), ended_B

        def unfinished(state):
            return (state[0] < max_length) & ~jnp.all(state[2])

        def extend(state):
            step, tokens_BL, ended_B, cache = state
            newest_B = jax.lax.dynamic_index_in_dim(tokens_BL, step - 1, axis=1, keepdims=False)
            hidden_B1D, cache = self.extend(self.embed(newest_B[:, None]), len_B + step - 1, cache)
            next_B, ended_B = choose_next(hidden_B1D[:, 0], ended_B)
            return step + 1, tokens_BL.at[:, step].set(next_B), ended_B, cache

        first_B, ended_B = choose_next(last_BD, jnp.zeros(batch, bool))
        tokens_BL = jnp.full((batch, max_length), pad, jnp.int32).at[:, 0].set(first_B)
        return jax.lax.while_loop(unfinished, extend, (1, tokens_BL, ended_B, cache))[1]
