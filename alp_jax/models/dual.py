"""The whole model: an audio encoder with a text side for contrastive learning, captioning or both."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from alp_jax.config.schema import ModelConfig
from alp_jax.config.schema.model import DECODER, SIDES, TAGGER, TEXT
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.models.decoder import CaptionDecoder
from alp_jax.models.encoder_spec import recomputed
from alp_jax.models.encoders import make_encoder, output_dim
from alp_jax.models.regularisers import TrainInputs
from alp_jax.models.transformer import TextTower, linear, split_key, valid_mask
from alp_jax.parallel.mesh import constrain


class ProjectionHead(nnx.Module):
    """Two linear layers with a ReLU between them; applied to the last axis."""

    def __init__(self, width_in: int, width_out: int, *, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        self.hidden = linear(width_in, width_out, rngs=rngs, dtype=dtype)
        self.output = linear(width_out, width_out, rngs=rngs, dtype=dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.output(jax.nn.relu(self.hidden(x)))


def masked_mean(frames_BTD: jax.Array, len_B: jax.Array) -> jax.Array:
    """Mean over the first ``len_B`` frames in float32; zero for a length of zero."""
    mask_BT1 = valid_mask(len_B, frames_BTD.shape[1])[:, :, None]
    # where, not a product: beyond the length a frame may be anything, even infinite, and 0 * inf is NaN
    total_BD = jnp.sum(jnp.where(mask_BT1, frames_BTD.astype(jnp.float32), 0.0), axis=1)
    return total_BD / jnp.maximum(len_B, 1)[:, None]


def unit(x: jax.Array, eps: float = 1e-12) -> jax.Array:
    """``x`` divided by its L2 norm over the last axis, at least ``eps``, in float32; its gradient at zero is finite."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), eps * eps))


def compute_dtype(config: ModelConfig) -> jnp.dtype:
    """The type of activations; an unknown name is a UserError."""
    return jnp.dtype(choose(config.compute_dtype, ("float32", "bfloat16"), "config.model.compute_dtype"))


class FrameTextModel(nnx.Module):
    """What an objective needs beside an encoder: a text tower with two projection heads, a caption decoder.

    Parts: ``text``, ``audio_proj``, ``text_proj``, the scalar ``logit_scale`` (natural logarithm of the inverse
    temperature) and, where asked for, ``logit_bias`` for contrastive learning; ``decoder`` for captioning; ``tagger``,
    a linear layer on the mean frame, for tagging. Alone it learns from stored frames.

    Args:
      config: sizes and computing type.
      sides: those of ``config.schema.model``'s TEXT, DECODER and TAGGER that the objective needs, see
        ``alp_jax.objectives.base.ObjectiveSpec``; an encoder that was imported alone has none.
      width: width of the encoder's frames.
      temperature: start value of the contrastive temperature.
      bias: start value of the bias on contrastive logits; None: there is none.

    Raises:
      UserError: an unknown side, computing type or activation, widths that heads do not divide.
    """

    def __init__(
        self,
        config: ModelConfig,
        sides: tuple[str, ...],
        width: int,
        *,
        temperature: float = 0.07,
        bias: float | None = None,
        rngs: nnx.Rngs,
    ):
        self.sides = tuple(choose(side, SIDES, "side of a model") for side in sides)
        dtype, remat = compute_dtype(config), "text" in recomputed(config)
        if TEXT in self.sides:
            if temperature <= 0:
                raise UserError(f"objective.temperature={temperature} must be above zero")
            self.text = TextTower(config.text, rngs=rngs, dtype=dtype, remat=remat)
            self.audio_proj = ProjectionHead(width, config.shared_emb_dim, rngs=rngs, dtype=dtype)
            self.text_proj = ProjectionHead(config.text.hidden_size, config.shared_emb_dim, rngs=rngs, dtype=dtype)
            self.logit_scale = nnx.Param(jnp.float32(-math.log(temperature)))
            self.logit_bias = nnx.data(None if bias is None else nnx.Param(jnp.float32(bias)))
        if DECODER in self.sides:
            self.decoder = CaptionDecoder(config.decoder, width, rngs=rngs, dtype=dtype, remat=remat)
        if TAGGER in self.sides:
            self.tagger = linear(width, config.num_tags, rngs=rngs)

    def compare(
        self,
        frames_BTD: jax.Array,
        len_B: jax.Array,
        inputs: dict[str, Any],
        text_key: jax.Array | None = None,
        decoder_key: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """Every side on frames, ``len_B`` of them valid; inputs and outputs as in ``AudioTextModel``."""
        outputs = {}
        if TEXT in self.sides:
            outputs["audio_embed_BD"] = self.pool_audio(frames_BTD, len_B)
            outputs["text_embed_BD"] = self.embed_text(inputs["text_BL"], inputs["text_len_B"], key=text_key)
            outputs["logit_scale"] = self.logit_scale[...]
            if self.logit_bias is not None:
                outputs["logit_bias"] = self.logit_bias[...]
        if DECODER in self.sides:
            decoder_inputs = (inputs["decoder_in_BL"], inputs["decoder_len_B"], inputs["causal_B"])
            memory_BTD = self.decoder.memory(frames_BTD)
            outputs["decoded_BLD"] = self.decoder.hidden(*decoder_inputs, memory_BTD, len_B, decoder_key)
            outputs["vocab_DV"] = self.decoder.vocabulary()
        if TAGGER in self.sides:
            # float32, as for every loss; with fewer tags than the layer has outputs, the extra ones learn nothing
            tags_BV = self.tagger(masked_mean(frames_BTD.astype(jnp.float32), len_B))
            outputs["tag_logits_BV"] = tags_BV[:, : inputs["tags_BV"].shape[1]]
        return outputs

    def decode(
        self,
        tokens_BL: jax.Array,
        tokens_len_B: jax.Array,
        causal_B: jax.Array,
        frames_BTD: jax.Array,
        frames_len_B: jax.Array,
    ) -> jax.Array:
        """logits_BLV of the decoder alone, deterministic; arguments as ``CaptionDecoder``'s."""
        return self.decoder(tokens_BL, tokens_len_B, causal_B, frames_BTD, frames_len_B)

    def caption(self, frames_BTD: jax.Array, frames_len_B: jax.Array, **options: Any) -> jax.Array:
        """tokens_BL of captions that the decoder generates; options as in ``CaptionDecoder.generate``."""
        return self.decoder.generate(frames_BTD, frames_len_B, **options)

    def project_audio(self, frames_BTD: jax.Array, frames_len_B: jax.Array) -> jax.Array:
        """projected_BD float32: every frame through the head, then the mean over valid frames."""
        return masked_mean(self.audio_proj(frames_BTD), frames_len_B)

    def pool_audio(self, frames_BTD: jax.Array, frames_len_B: jax.Array) -> jax.Array:
        """audio_embed_BD: ``project_audio`` at unit length."""
        return unit(self.project_audio(frames_BTD, frames_len_B))

    def embed_text(self, text_BL: jax.Array, text_len_B: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """text_embed_BD, float32 unit vectors: position 0 of the tower through the head."""
        return unit(self.text_proj(self.text(text_BL, text_len_B, key=key)[:, 0]))


class AudioTextModel(FrameTextModel):
    """An audio encoder, ``encoder``, and what the objective needs besides; arguments as in ``FrameTextModel``."""

    def __init__(
        self,
        config: ModelConfig,
        sides: tuple[str, ...],
        *,
        temperature: float = 0.07,
        bias: float | None = None,
        rngs: nnx.Rngs,
    ):
        self.regularise = config.regularise
        self.encoder = make_encoder(config, rngs=rngs, dtype=compute_dtype(config))
        super().__init__(config, sides, output_dim(config), temperature=temperature, bias=bias, rngs=rngs)

    def __call__(
        self,
        mel_BTF: jax.Array,
        len_B: jax.Array,
        inputs: dict[str, Any],
        train: TrainInputs | None = None,
        *,
        padding: str = "exact",
    ) -> dict[str, jax.Array]:
        """Runs the encoder once and every side the model has.

        Args:
          mel_BTF: log-mel features, ``len_B`` frames valid.
          inputs: contrastive ``text_BL`` and ``text_len_B`` (special tokens included); captioning ``decoder_in_BL``,
            ``decoder_len_B`` and ``causal_B`` (bool); tagging ``tags_BV`` (bool).
          train: randomness and state of a training step; None is deterministic and without regularisers.
          padding: as in the encoder.

        Returns:
          contrastive ``audio_embed_BD`` and ``text_embed_BD`` (float32 unit vectors), ``logit_scale`` and, if there is
          one, ``logit_bias``; captioning ``decoded_BLD`` and ``vocab_DV``, whose product would be the logits; tagging
          ``tag_logits_BV`` (float32), the first V.
        """
        # always three keys, with or without a text side, so that an encoder draws the same under every objective
        audio_key, text_key, decoder_key = split_key(None if train is None else train.key, 3)
        regularised = None
        if train is not None and audio_key is not None and self.regularise:
            regularised = train._replace(key=audio_key)
        frames_BTD, frames_len_B = self.encoder(mel_BTF, len_B, padding=padding, train=regularised)
        frames_BTD = constrain(frames_BTD, "batch", "time", "width")
        return self.compare(frames_BTD, frames_len_B, inputs, text_key, decoder_key)

    def start_whitening(self) -> jax.Array:
        """whitening_N at the start of training; one entry at least, since checkpoints hold no empty arrays."""
        counts: Any = self.encoder.draw_counts  # type: ignore[attr-defined]  # make_encoder says nnx.Module
        return jnp.ones((max(counts.whitenings if self.regularise else 0, 1),))

    def encode(self, mel_BTF: jax.Array, len_B: jax.Array, *, padding: str = "exact") -> tuple[jax.Array, jax.Array]:
        """(frames_BTD, len_B) of the audio encoder, deterministic; ``padding`` as in the encoder."""
        return self.encoder(mel_BTF, len_B, padding=padding)

    def embed_audio(self, mel_BTF: jax.Array, len_B: jax.Array) -> jax.Array:
        """audio_embed_BD, float32 unit vectors, deterministic."""
        return self.pool_audio(*self.encode(mel_BTF, len_B))
