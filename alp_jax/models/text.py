"""BERT-shaped text tower without pooler, equal to transformers' BertModel.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2019.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from alp_jax.config.schema import TextTowerConfig
from alp_jax.core.errors import UserError
from alp_jax.models.transformer import attend, dropout, layer_norm, look_up, recompute_if, split_key, valid_mask
from alp_jax.parallel.activations import constrain

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
          hidden_BLD in the computing type; rows beyond the length hold no meaning.

        Raises:
          UserError: more positions than ``max_position_embeddings``.
        """
        keys = split_key(key, len(self.layers) + 1)
        allowed_BLL = valid_mask(text_len_B, text_BL.shape[1])[:, None, :]
        x_BLD = self.embeddings(text_BL, keys[0])
        for layer, layer_key in zip(self.layers, keys[1:], strict=True):
            x_BLD = recompute_if(self.remat, layer)(x_BLD, allowed_BLL, layer_key)
        return x_BLD
