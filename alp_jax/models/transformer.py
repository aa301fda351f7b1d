"""Transformers: the parts that all of them share, and the BERT-shaped text tower built of them.

Masked attention, dropout by key and initialisers as PyTorch has them. The tower has no pooler and equals transformers'
BertModel: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2019.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from alp_jax.config.schema import TextTowerConfig
from alp_jax.core.errors import UserError
from alp_jax.parallel.mesh import constrain

MASKED = -1e30  # finite, so that a row with nothing to attend to does not become NaN


def split_key(key: jax.Array | None, num: int) -> list[jax.Array | None]:
    """``num`` keys from one; None (deterministic) stays None."""
    return [None] * num if key is None else list(jax.random.split(key, num))


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zeroes a share ``rate`` of ``x`` and rescales the rest; the identity when ``key`` is None."""
    if key is None or rate == 0.0:
        return x
    return jnp.where(jax.random.bernoulli(key, 1.0 - rate, x.shape), x / (1.0 - rate), 0).astype(x.dtype)


def recompute_if(remat: bool, layer: Callable) -> Callable:
    """``layer``; with ``remat`` its intermediate results are recomputed in the backward pass instead of kept."""
    return jax.checkpoint(lambda *args: layer(*args)) if remat else layer  # a new function: jax caches by function


def valid_mask(len_B: jax.Array, length: int) -> jax.Array:
    """mask_BL: True where the position is below the row's length."""
    return jnp.arange(length) < len_B[:, None]


def look_up(table: nnx.Embed, tokens_BL: jax.Array) -> jax.Array:
    """The rows of a table of token embeddings, float32; on a mesh its rows stay split over the vocabulary."""
    rows = jnp.take(constrain(table.embedding[...], "vocab", "width"), tokens_BL, axis=0)
    return constrain(rows, "batch", "time", "width")


def attend(
    query_BQD: jax.Array,
    key_BSD: jax.Array,
    value_BSD: jax.Array,
    allowed_BQS: jax.Array,
    *,
    num_heads: int,
    rate: float = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """Scaled dot-product attention of already projected inputs, heads side by side on the last axis.

    Args:
      allowed_BQS: bool, True where the query may look; axes of size 1 broadcast.
      rate: dropout on the attention weights.
      key: randomness of the dropout; None is deterministic.

    Returns:
      out_BQD in the type of ``value_BSD``; the softmax is float32.
    """

    by_head = (split_heads(x, num_heads) for x in (query_BQD, key_BSD, value_BSD))
    return attend_by_head(*by_head, allowed_BQS, rate=rate, key=key)


def split_heads(x_BLD: jax.Array, num_heads: int) -> jax.Array:
    """x_BHLd: the heads that lie side by side on the last axis."""
    heads = constrain(x_BLD.reshape(*x_BLD.shape[:-1], num_heads, -1), "batch", "time", "heads", "each")
    return jnp.swapaxes(heads, 1, 2)


def attend_by_head(query_BHQd, key_BHSd, value_BHSd, allowed_BQS, *, rate=0.0, key=None) -> jax.Array:
    """As ``attend``, of split heads; out_BQD has them side by side."""
    # float32 from here to the weights: bfloat16 has 8 bits, so scores of 20 would be rounded to eighths
    scores = jnp.einsum("bhqd,bhkd->bhqk", query_BHQd, key_BHSd, preferred_element_type=jnp.float32)
    scores = scores / math.sqrt(query_BHQd.shape[-1])
    weights = jax.nn.softmax(jnp.where(allowed_BQS[:, None], scores, MASKED), axis=-1)
    weights = dropout(weights, rate, key).astype(value_BHSd.dtype)
    out = jnp.einsum("bhqk,bhkd->bqhd", weights, value_BHSd)
    return out.reshape(*out.shape[:2], -1)


def linear(width_in: int, width_out: int, *, rngs: nnx.Rngs, dtype=jnp.float32, use_bias: bool = True) -> nnx.Linear:
    """A linear layer with PyTorch's default initialisation; float32 parameters, computing in ``dtype``."""
    init = uniform(1.0 / math.sqrt(width_in))
    return nnx.Linear(width_in, width_out, use_bias=use_bias, kernel_init=init, bias_init=init, dtype=dtype, rngs=rngs)


def layer_norm(width: int, eps: float, *, rngs: nnx.Rngs, dtype=jnp.float32, use_bias: bool = True) -> nnx.LayerNorm:
    """Layer normalisation with float32 statistics and a result in ``dtype``."""
    return nnx.LayerNorm(width, epsilon=eps, use_bias=use_bias, use_fast_variance=False, dtype=dtype, rngs=rngs)


def wide_type(dtype) -> jnp.dtype:
    """float32, or float64 where values already are: what statistics and transcendental functions are computed in."""
    return jnp.promote_types(dtype, jnp.float32)


def wide(x: jax.Array) -> jax.Array:
    """``x`` in its ``wide_type``."""
    return x.astype(wide_type(x.dtype))


def uniform(bound: float) -> Callable:
    """Initialiser: uniform within ``bound`` of zero."""

    def init(key, shape, dtype=jnp.float32, **_):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def scaled_linear(
    width_in: int, width_out: int, scale: float, *, rngs: nnx.Rngs, dtype=jnp.float32, use_bias: bool = True
) -> nnx.Linear:
    """A linear layer whose PyTorch-default kernel starts ``scale`` times as large, its bias within 0.1 ``scale``."""
    return nnx.Linear(
        width_in,
        width_out,
        use_bias=use_bias,
        kernel_init=uniform(scale / math.sqrt(width_in)),
        bias_init=uniform(0.1 * scale),
        dtype=dtype,
        rngs=rngs,
    )


_INIT = nnx.initializers.normal(0.02)


def _linear(width_in: int, width_out: int, rngs: nnx.Rngs, dtype) -> nnx.Linear:
    return nnx.Linear(width_in, width_out, kernel_init=_INIT, dtype=dtype, rngs=rngs)


class TextEmbeddings(nnx.Module):
    """Sum of word, position and token type embeddings, normalised; every token has type 0."""

    def __init__(self, config: TextTowerConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        def table(rows):
            return nnx.Embed(rows, config.hidden_size, embedding_init=_INIT, rngs=rngs)

        self.rate = config.hidden_dropout_prob
        self.word_embeddings = table(config.vocab_size)
        self.position_embeddings = table(config.max_position_embeddings)
        self.token_type_embeddings = table(config.type_vocab_size)
        self.norm = layer_norm(config.hidden_size, config.layer_norm_eps, rngs=rngs, dtype=dtype)

    def __call__(self, text_BL: jax.Array, key: jax.Array | None = None) -> jax.Array:
        length, longest = text_BL.shape[1], self.position_embeddings.num_embeddings
        if length > longest:
            raise UserError(f"{length} text tokens exceed model.text.max_position_embeddings={longest}")
        # the order of the sum is BertModel's: words, types, positions, then the norm; another order rounds differently
        x = look_up(self.word_embeddings, text_BL) + self.token_type_embeddings(jnp.zeros_like(text_BL))
        x = x + self.position_embeddings(jnp.arange(length))
        return dropout(self.norm(x), self.rate, key)


class TextAttention(nnx.Module):
    """Self-attention with its output projection, residual and norm."""

    def __init__(self, config: TextTowerConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        width = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.rate, self.weight_rate = config.hidden_dropout_prob, config.attention_probs_dropout_prob
        self.query = _linear(width, width, rngs, dtype)
        self.key = _linear(width, width, rngs, dtype)
        self.value = _linear(width, width, rngs, dtype)
        self.output = _linear(width, width, rngs, dtype)
        self.norm = layer_norm(width, config.layer_norm_eps, rngs=rngs, dtype=dtype)

    def __call__(self, x_BLD: jax.Array, allowed_BLL: jax.Array, key: jax.Array | None = None) -> jax.Array:
        weight_key, out_key = split_key(key, 2)
        attended = attend(
            self.query(x_BLD),
            self.key(x_BLD),
            self.value(x_BLD),
            allowed_BLL,
            num_heads=self.num_heads,
            rate=self.weight_rate,
            key=weight_key,
        )
        # post-norm, as BERT was published: weights of a pre-norm tower would not fit here
        return self.norm(x_BLD + dropout(self.output(attended), self.rate, out_key))


class TextLayer(nnx.Module):
    """One post-norm transformer layer with exact GELU."""

    def __init__(self, config: TextTowerConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        self.rate = config.hidden_dropout_prob
        self.attention = TextAttention(config, rngs=rngs, dtype=dtype)
        self.intermediate = _linear(config.hidden_size, config.intermediate_size, rngs, dtype)
        self.output = _linear(config.intermediate_size, config.hidden_size, rngs, dtype)
        self.norm = layer_norm(config.hidden_size, config.layer_norm_eps, rngs=rngs, dtype=dtype)

    def __call__(self, x_BLD: jax.Array, allowed_BLL: jax.Array, key: jax.Array | None = None) -> jax.Array:
        attention_key, out_key = split_key(key, 2)
        x_BLD = self.attention(x_BLD, allowed_BLL, attention_key)
        hidden = constrain(self.intermediate(x_BLD), "batch", "time", "hidden")
        hidden = self.output(jax.nn.gelu(hidden, approximate=False))
        return constrain(self.norm(x_BLD + dropout(hidden, self.rate, out_key)), "batch", "time", "width")


class TextTower(nnx.Module):
    """Token ids to contextual vectors; position 0 stands for the whole text."""

    def __init__(self, config: TextTowerConfig, *, rngs: nnx.Rngs, dtype=jnp.float32, remat: bool = False):
        self.remat = remat
        if config.hidden_size % config.num_attention_heads:
            raise UserError(
                f"model.text.hidden_size={config.hidden_size} is not a multiple of "
                f"model.text.num_attention_heads={config.num_attention_heads}"
            )
        self.embeddings = TextEmbeddings(config, rngs=rngs, dtype=dtype)
        self.layers = nnx.List([TextLayer(config, rngs=rngs, dtype=dtype) for _ in range(config.num_hidden_layers)])

    def __call__(self, text_BL: jax.Array, text_len_B: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Encodes texts.

        Args:
          text_BL: int token ids, special tokens included, padded with any id.
          text_len_B: tokens per text; later positions are not attended to.
          key: randomness of the dropout; None is deterministic.

        Returns:
          hidden_BLD in the computing type; positions beyond the length are meaningless.

        Raises:
          UserError: more positions than ``max_position_embeddings``.
        """
        keys = split_key(key, len(self.layers) + 1)
        allowed_BLL = valid_mask(text_len_B, text_BL.shape[1])[:, None, :]
        x_BLD = self.embeddings(text_BL, keys[0])
        for layer, layer_key in zip(self.layers, keys[1:], strict=True):
            x_BLD = recompute_if(self.remat, layer)(x_BLD, allowed_BLL, layer_key)
        return x_BLD
