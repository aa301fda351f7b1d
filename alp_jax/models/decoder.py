"""BART-shaped caption decoder with autoregressive and parallel rows.

Follows PyTorch's ``TransformerDecoder`` (no final norm) behind a token embedding with sinusoidal positions. Parallel
decoding from MASK tokens: Tschannen et al., "Image Captioners Are Scalable Vision Learners Too" (CapPa), 2023.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from alp_jax.config.schema import DecoderConfig
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.models.transformer import attend, dropout, layer_norm, linear, look_up, recompute_if, split_key, valid_mask
from alp_jax.parallel.activations import constrain

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

    def __call__(self, x_BLD, source_BKD, allowed_BLK, key: jax.Array | None = None) -> jax.Array:
        """Queries from ``x_BLD``, keys and values from ``source_BKD``; returns out_BLD."""
        weight_key, out_key = split_key(key, 2)
        keys_BKD, values_BKD = jnp.split(self._project(source_BKD, 1, 3), 2, axis=-1)
        attended = attend(
            self._project(x_BLD, 0, 1),
            keys_BKD,
            values_BKD,
            allowed_BLK,
            num_heads=self.num_heads,
            rate=self.rate,
            key=weight_key,
        )
        return dropout(self.out_proj(attended), self.rate, out_key)


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

        parts = (
            (self.norm1, lambda x: self.self_attn(x, x, allowed_BLL, self_key)),
            (self.norm2, lambda x: self.multihead_attn(x, memory_BTD, allowed_B1T, cross_key)),
            (self.norm3, feed_forward),
        )
        for norm, part in parts:
            x_BLD = x_BLD + part(norm(x_BLD)) if self.norm_first else norm(x_BLD + part(x_BLD))
        return constrain(x_BLD, "batch", "time", "width")


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

    def logits(self, hidden_BLD: jax.Array) -> jax.Array:
        """logits_BLV float32, from an own matrix or the token embedding."""
        table = self.text_embed.embedding[...].T if self.output_proj is None else self.output_proj.kernel[...]
        return jnp.matmul(hidden_BLD, table.astype(self.dtype), preferred_element_type=jnp.float32)

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
          logits_BLV float32; positions beyond ``tokens_len_B`` hold no meaning.
        """
        memory_BTD = self.memory(frames_BTD)
        hidden_BLD = self.hidden(tokens_BL, tokens_len_B, causal_B, memory_BTD, frames_len_B, key)
        return constrain(self.logits(hidden_BLD), "batch", "time", "vocab")

    def generate(self, frames_BTD, frames_len_B, *, max_length: int, bos: int, eos: int, pad: int) -> jax.Array:
        """Greedy captions: tokens_BL int32 with L = ``max_length``, without BOS, PAD from the first EOS on.

        Stops early when every row has ended. One full forward pass per token.
        """
        batch = frames_BTD.shape[0]
        memory_BTD = self.memory(frames_BTD)
        causal_B = jnp.ones(batch, bool)

        def unfinished(state):
            step, _, ended_B = state
            return (step < max_length) & ~jnp.all(ended_B)

        def extend(state):
            step, tokens_BL, ended_B = state
            len_B = jnp.full(batch, step + 1)
            hidden_BLD = self.hidden(tokens_BL[:, :-1], len_B, causal_B, memory_BTD, frames_len_B)
            last_BD = jax.lax.dynamic_index_in_dim(hidden_BLD, step, axis=1, keepdims=False)
            next_B = jnp.argmax(self.logits(last_BD), axis=-1).astype(jnp.int32)
            ended_B = ended_B | (next_B == eos)
            return step + 1, tokens_BL.at[:, step + 1].set(jnp.where(ended_B, pad, next_B)), ended_B

        tokens_BL = jnp.full((batch, max_length + 1), pad, jnp.int32).at[:, 0].set(bos)
        return jax.lax.while_loop(unfinished, extend, (0, tokens_BL, jnp.zeros(batch, bool)))[1][:, 1:]
