"""Captions out of frozen frames, by the decoder that came with them or one trained on them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from alp_jax.config.schema import EvalConfig, ModelConfig, ObjectiveConfig
from alp_jax.data.text.tokenizer import Tokenizer
from alp_jax.evaluation.captioning.task import CaptionTask
from alp_jax.evaluation.frozen_fit import BATCH, Captioned, Fitted, Frames, fit_text_side
from alp_jax.objectives.base import SpecialTokens

# every position sees the earlier ones, as when captions are generated
OBJECTIVE = ObjectiveConfig(name="captioning", autoregressive_share=1.0)
TRAINS = {"all": "", "cross_attention": "multihead_attn"}  # what of a decoder learns, by a name on its path

Decode = Callable[[np.ndarray, np.ndarray], Any]  # (frames_BTD, len_B) -> tokens_BL, PAD from the end on


def fit_decoder(
    task: CaptionTask,
    frames: Frames,
    encode: Callable[[str], list[int]],
    model: ModelConfig,
    tokens: SpecialTokens,
    config: EvalConfig,
    start: dict | None = None,
) -> Fitted:
    """A decoder that has learnt from the training clips; the encoder is locked.

    Args:
      frames: reads training clips by position, with one number of frames for all.
      encode: caption -> token ids without special tokens.
      start: parameters of a decoder to begin with.
    """
    search = task.search
    data = Captioned(
        frames,
        [[encode(text) for text in captions] for captions in search.train_captions],
        [[0] * len(captions) for captions in search.train_captions],
        search.held,
    )
    only = TRAINS[config.lit_decoder_trains]
    start = {"decoder": start} if start else None
    return fit_text_side(data, model, OBJECTIVE, tokens, steps=config.lit_steps, start=start, only=only)


def generate(decode: Decode, frames: Frames, clips: int, tokenizer: Tokenizer) -> list[str]:
    """A caption for every one of ``clips`` clips, in one shape of BATCH rows."""
    found = []
    for first in range(0, clips, BATCH):
        x_NTD, len_N = frames(np.arange(first, min(first + BATCH, clips)))
        missing = BATCH - len(x_NTD)
        tokens_BL = decode(np.pad(x_NTD, [(0, missing), (0, 0), (0, 0)]), np.pad(len_N, (0, missing), mode="edge"))
        for row in np.asarray(tokens_BL)[: len(x_NTD)].tolist():
            found.append(tokenizer.decode([token for token in row if token != tokenizer.pad_id]))
    return found
