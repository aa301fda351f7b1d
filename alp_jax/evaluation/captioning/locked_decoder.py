"""Captions from frozen frames, by the model's own decoder or by one trained on the frames."""

from collections.abc import Callable
from typing import Any

import numpy as np

from alp_jax.config.schema import ObjectiveConfig
from alp_jax.data.text.tokenizer import Tokenizer
from alp_jax.evaluation.evaluator import Setup
from alp_jax.evaluation.fit_state import Saves
from alp_jax.evaluation.frozen_fit import Captioned, Fitted, Frames, fit_text_side, in_batches, text_steps
from alp_jax.evaluation.retrieval.task import CaptionedClips

# every token is predicted from the earlier ones, as in generation
OBJECTIVE = ObjectiveConfig(name="captioning", autoregressive_share=1.0)
TRAINS = {"all": "", "cross_attention": "multihead_attn"}  # setting -> name on the path of parameters that learn

Decode = Callable[[np.ndarray, np.ndarray], Any]  # (frames_BTD, len_B) -> tokens_BL, PAD from the end on


def fit_decoder(clips: CaptionedClips, frames: Frames, setup: Setup, saves: Saves) -> Fitted:
    """Trains a decoder on the training clips; the encoder stays as it is.

    Args:
      frames: reads training clips by position, padded to the same number of frames in every call.
      saves: keeps the state of the fit, so that it can go on.
    """
    data = Captioned(
        frames,
        [[setup.encode(text) for text in captions] for captions in clips.train_captions],
        [[0] * len(captions) for captions in clips.train_captions],
        clips.held,
    )
    return fit_text_side(
        data,
        setup.model_config,
        OBJECTIVE,
        setup.special,
        steps=(steps := text_steps(setup.config, clips.held)),
        start={"decoder": setup.decoder_start} if setup.decoder_start else None,
        only=TRAINS[setup.config.lit_decoder_trains],
        saved=saves.of(steps, setup.config.lit_decoder, setup.config.lit_decoder_trains).state(),
    )


def generate(decode: Decode, frames: Frames, clips: int, tokenizer: Tokenizer) -> list[str]:
    """A caption for each of the clips 0 to ``clips - 1``."""
    rows = in_batches(decode, frames, clips)
    return [tokenizer.decode([token for token in row if token != tokenizer.pad_id]) for row in rows.tolist()]
