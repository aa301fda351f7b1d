"""BART-shaped caption decoder with autoregressive and parallel rows.

Follows PyTorch's ``TransformerDecoder`` (no final norm) behind a token embedding with sinusoidal positions. Parallel
decoding from MASK tokens: Tschannen et al., "Image Captioners Are Scalable Vision Learners Too" (CapPa), 2023.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from alp_jax.config.schema import DecoderConfig
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.models.decoding import Ids, beam_search
from alp_jax.models.transformer import (
    attend_by_head,
    dropout,
    layer_norm,
    linear,
    look_up,
    recompute_if,
    split_heads,
    split_key,
    valid_mask,
)
from alp_jax.parallel.mesh import constrain

_NORM_EPS = 1e-5
ACTIVATIONS = {"gelu": lambda x: jax.nn.gelu(x, approximate=False), "relu": jax.nn.relu}


def sinusoid(length: int, width: int) -> np.ndarray:
    """positions_LD float32: sine in even and cosine in odd columns, wavelengths from 2 pi to 10000 * 2 pi."""
    angles = np.arange(length)[:, None] * np.exp(np.arange(0, width, 2) * (-math.log(10000.0) / width))
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, -1)[:, :width].astype(np.float32)


class PackedAttention(nnx.Module):
    """Multi-head attention whose query, key and value projections are one matrix, as in ``MultiheadAttention``."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        width, bias = config.d_model, config.decoder_bias
        self.num_heads, self.rate, self.dtype = config.decoder_nhead, config.decoder_dropout, dtype
        xavier = nnx.initializers.xavier_uniform()
        self.in_proj = nnx.Linear(width, 3 * width, use_bias=bias, kernel_init=xavier, dtype=dtype, rngs=rngs)
        self.out_proj = linear(width, width, rngs=rngs, dtype=dtype, use_bias=bias)
        if bias:
            self.out_proj.bias[...] = jnp.zeros(width)

    def _project(self, x: jax.Array, first: int, last: int) -> jax.Array:
        """Columns ``first`` to ``last`` of the packed projection, in units of the width."""
        width = self.out_proj.in_features
        columns = slice(first * width, last * width)
        y = x @ self.in_proj.kernel[:, columns].astype(self.dtype)
        return y if self.in_proj.bias is None else y + self.in_proj.bias[columns].astype(self.dtype)

    def __call__(self, x_BLD, source_BSD, allowed_BLS, key: jax.Array | None = None) -> jax.Array:
        """Queries from ``x_BLD``, keys and values from ``source_BSD``; returns out_BLD."""
        return self.look(x_BLD, *self.keys_values(source_BSD), allowed_BLS, key)

    def keys_values(self, source_BSD: jax.Array) -> list[jax.Array]:
        """keys_BHSd and values_BHSd of what is attended to."""
        return self._heads(self._project(source_BSD, 1, 3), 2)

    def look(self, x_BLD, keys_BHSd, values_BHSd, allowed_BLS, key: jax.Array | None = None) -> jax.Array:
        """As ``__call__``, with keys and values computed beforehand."""
        return self._look(*self._heads(self._project(x_BLD, 0, 1), 1), keys_BHSd, values_BHSd, allowed_BLS, key)

    def _heads(self, packed_BLD: jax.Array, parts: int) -> list[jax.Array]:
        return [split_heads(part, self.num_heads) for part in jnp.split(packed_BLD, parts, axis=-1)]

    def _look(self, query_BHLd, keys_BHSd, values_BHSd, allowed_BLS, key: jax.Array | None = None) -> jax.Array:
        weight_key, out_key = split_key(key, 2)
        attended = attend_by_head(query_BHLd, keys_BHSd, values_BHSd, allowed_BLS, rate=self.rate, key=weight_key)
        return dropout(self.out_proj(attended), self.rate, out_key)

    def extend(self, x_RD, position, kept: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple]:
        """(out_RD, kept) of tokens that attend to themselves and earlier ones; ``kept``: keys, values [R, H, L, d]."""
        query_RH1d, *new = self._heads(self._project(x_RD[:, None], 0, 3), 3)
        kept = tuple(
            jax.lax.dynamic_update_slice_in_dim(old, x, position, axis=2) for old, x in zip(kept, new, strict=True)
        )
        allowed_11L = (jnp.arange(kept[0].shape[2]) <= position)[None, None]
        return self._look(query_RH1d, *kept, allowed_11L)[:, 0], kept


class DecoderLayer(nnx.Module):
    """Self-attention, attention to the audio frames, feed-forward; norms before or after each."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs, dtype=jnp.float32):
        width, bias = config.d_model, config.decoder_bias
        self.norm_first, self.rate = config.decoder_norm_first, config.decoder_dropout
        self.activation = config.decoder_activation
        self.self_attn = PackedAttention(config, rngs=rngs, dtype=dtype)
        self.multihead_attn = PackedAttention(config, rngs=rngs, dtype=dtype)
        self.linear1 = linear(width, config.dim_feedforward, rngs=rngs, dtype=dtype, use_bias=bias)
        self.linear2 = linear(config.dim_feedforward, width, rngs=rngs, dtype=dtype, use_bias=bias)
        self.norm1 = layer_norm(width, _NORM_EPS, rngs=rngs, dtype=dtype, use_bias=bias)
        self.norm2 = layer_norm(width, _NORM_EPS, rngs=rngs, dtype=dtype, use_bias=bias)
        self.norm3 = layer_norm(width, _NORM_EPS, rngs=rngs, dtype=dtype, use_bias=bias)

    def __call__(self, x_BLD, memory_BTD, allowed_BLL, allowed_B1T, key: jax.Array | None = None) -> jax.Array:
        self_key, cross_key, inner_key, out_key = split_key(key, 4)

        def feed_forward(x):
            hidden = constrain(self.linear1(x), "batch", "time", "hidden")
            hidden = dropout(ACTIVATIONS[self.activation](hidden), self.rate, inner_key)
            return dropout(self.linear2(hidden), self.rate, out_key)

        x_BLD = self._residual(
            x_BLD,
            lambda x: self.self_attn(x, x, allowed_BLL, self_key),
            lambda x: self.multihead_attn(x, memory_BTD, allowed_B1T, cross_key),
            feed_forward,
        )
        return constrain(x_BLD, "batch", "time", "width")

    def extend(self, x_BKD, position, kept, heard, allowed_B1T) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """(x_BKD, kept) of one token at ``position`` for every beam, deterministic.

        Args:
          kept: keys and values of earlier tokens, [B, K, H, L, d] each; slot ``position`` is written.
          heard: keys and values of the audio frames, [B, H, T, d] each.
        """
        stored = []

        def look_back(x_BKD):
            flat = [old.reshape(-1, *old.shape[2:]) for old in kept]
            out_RD, new = self.self_attn.extend(x_BKD.reshape(-1, x_BKD.shape[2]), position, flat)
            stored.extend(x.reshape(old.shape) for x, old in zip(new, kept, strict=True))
            return out_RD.reshape(x_BKD.shape)

        x_BKD = self._residual(
            x_BKD,
            look_back,
            lambda x: self.multihead_attn.look(x, *heard, allowed_B1T),  # beams are queries side by side
            lambda x: self.linear2(ACTIVATIONS[self.activation](self.linear1(x))),
        )
        return x_BKD, tuple(stored)

    def _residual(self, x: jax.Array, *parts: Callable[[jax.Array], jax.Array]) -> jax.Array:
        for norm, part in zip((self.norm1, self.norm2, self.norm3), parts, strict=True):
            x = x + part(norm(x)) if self.norm_first else norm(x + part(x))
        return x


class CaptionDecoder(nnx.Module):
    """Audio frames and input tokens to logits over the vocabulary."""

    def __init__(
        self, config: DecoderConfig, memory_width: int, *, rngs: nnx.Rngs, dtype=jnp.float32, remat: bool = False
    ):
        choose(config.decoder_activation, ACTIVATIONS, "activation in model.decoder.decoder_activation")
        if config.d_model % config.decoder_nhead:
            raise UserError(
                f"model.decoder.d_model={config.d_model} is not a multiple of "
                f"model.decoder.decoder_nhead={config.decoder_nhead}"
            )
        width = config.d_model
        normal = nnx.initializers.normal(1.0)
        self.dtype, self.remat = dtype, remat
        self.text_embed = nnx.Embed(config.vocab_size, width, embedding_init=normal, rngs=rngs)
        self.enc_dec_proj = nnx.data(None)
        if memory_width != width:
            self.enc_dec_proj = linear(memory_width, width, rngs=rngs, dtype=dtype, use_bias=False)
        # The reference makes one layer and copies it, so all layers start with the same values.
        layer_key = rngs.params()
        layers = [DecoderLayer(config, rngs=nnx.Rngs(layer_key), dtype=dtype) for _ in range(config.num_decoder_layers)]
        self.layers = nnx.List(layers)
        self.output_proj = nnx.data(None)
        if not config.decoder_shared_emb:
            self.output_proj = linear(width, config.vocab_size, rngs=rngs, dtype=dtype, use_bias=False)

    def memory(self, frames_BTD: jax.Array) -> jax.Array:
        """Audio frames in the width of the decoder."""
        frames_BTD = frames_BTD.astype(self.dtype)
        return frames_BTD if self.enc_dec_proj is None else self.enc_dec_proj(frames_BTD)

    def hidden(self, tokens_BL, tokens_len_B, causal_B, memory_BTD, memory_len_B, key=None) -> jax.Array:
        """hidden_BLD after the last layer; ``memory_BTD`` comes from ``memory``. Arguments as in ``__call__``."""
        length = tokens_BL.shape[1]
        triangle_LL = jnp.tril(jnp.ones((length, length), bool))
        allowed_BLL = valid_mask(tokens_len_B, length)[:, None, :] & (triangle_LL | ~causal_B[:, None, None])
        allowed_B1T = valid_mask(memory_len_B, memory_BTD.shape[1])[:, None, :]
        x_BLD = (look_up(self.text_embed, tokens_BL) + sinusoid(length, self.text_embed.features)).astype(self.dtype)
        for layer, layer_key in zip(self.layers, split_key(key, len(self.layers)), strict=True):
            x_BLD = recompute_if(self.remat, layer)(x_BLD, memory_BTD, allowed_BLL, allowed_B1T, layer_key)
        return x_BLD

    def vocabulary(self) -> jax.Array:
        """vocab_DV, what makes logits of states: a matrix of its own or the token embedding."""
        return self.text_embed.embedding[...].T if self.output_proj is None else self.output_proj.kernel[...]

    def logits(self, hidden_BLD: jax.Array) -> jax.Array:
        """logits_BLV float32."""
        return jnp.matmul(hidden_BLD, self.vocabulary().astype(self.dtype), preferred_element_type=jnp.float32)

    def __call__(
        self,
        tokens_BL: jax.Array,
        tokens_len_B: jax.Array,
        causal_B: jax.Array,
        frames_BTD: jax.Array,
        frames_len_B: jax.Array,
        *,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Predicts a token for every input position.

        Args:
          tokens_BL: int input ids: BOS and the caption for causal rows, MASK everywhere for parallel rows.
          tokens_len_B: input ids per row; later positions are not attended to.
          causal_B: bool, True where a position must not see later ones.
          frames_BTD: audio frames in the width of the encoder, ``frames_len_B`` of them valid.
          key: randomness of the dropout; None is deterministic.

        Returns:
          logits_BLV float32; positions beyond ``tokens_len_B`` are meaningless.
        """
        memory_BTD = self.memory(frames_BTD)
        hidden_BLD = self.hidden(tokens_BL, tokens_len_B, causal_B, memory_BTD, frames_len_B, key)
        return constrain(self.logits(hidden_BLD), "batch", "time", "vocab")

    def generate(
        self,
        frames_BTD: jax.Array,
        frames_len_B: jax.Array,
        *,
        max_length: int,
        ids: Ids,
        beams: int = 1,
        length_penalty: float = 1.0,
    ) -> jax.Array:
        """Captions by beam search: tokens_BL int32 with L = ``max_length``, without BOS, PAD from the first EOS on.

        Keys and values of frames and of earlier tokens are computed once. Arguments as in ``beam_search``.
        """
        memory_BTD = self.memory(frames_BTD)
        allowed_B1T = valid_mask(frames_len_B, memory_BTD.shape[1])[:, None, :]
        heard = [layer.multihead_attn.keys_values(memory_BTD) for layer in self.layers]
        batch, width = len(frames_BTD), self.text_embed.features
        heads = self.layers[0].self_attn.num_heads
        empty = jnp.zeros((batch, beams, heads, max_length, width // heads), self.dtype)
        table_LD = jnp.asarray(sinusoid(max_length, width))

        def extend(tokens_BK, position, cache):
            x_BKD = (look_up(self.text_embed, tokens_BK) + table_LD[position]).astype(self.dtype)
            kept_layers = []
            for layer, kept, frames in zip(self.layers, cache, heard, strict=True):
                x_BKD, kept = layer.extend(x_BKD, position, kept, frames, allowed_B1T)
                kept_layers.append(kept)
            return self.logits(x_BKD), kept_layers

        cache = [(empty, empty) for _ in self.layers]
        options = {"beams": beams, "max_length": max_length, "length_penalty": length_penalty}
        return beam_search(extend, cache, batch, ids, **options).tokens_BKL[:, 0]
