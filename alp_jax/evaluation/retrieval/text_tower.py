"""Retrieval by a text tower that is trained on the frozen frames of an encoder."""

import functools

import jax
import numpy as np

from alp_jax.config.schema import ObjectiveConfig
from alp_jax.data.text.normalise import normalise
from alp_jax.evaluation.evaluator import Setup
from alp_jax.evaluation.features import Features
from alp_jax.evaluation.frozen_fit import (
    BATCH,
    Captioned,
    Fitted,
    Frames,
    fit_text_side,
    in_batches,
    text_steps,
)
from alp_jax.evaluation.measured import Measured
from alp_jax.evaluation.retrieval.task import CaptionedClips, score_retrieval
from alp_jax.objectives.base import SpecialTokens
from alp_jax.objectives.contrastive import wrap_caption

OBJECTIVE = ObjectiveConfig(name="contrastive", temperature=0.07)


def search(clips: CaptionedClips, setup: Setup, features: Features) -> dict[str, Measured]:
    """Trains a text tower on the training clips and measures both directions of retrieval among the test clips."""
    texts = sorted({normalise(text) for captions in clips.train_captions for text in captions})
    number = {text: k for k, text in enumerate(texts)}

    config = setup.config
    most = config.attention_frames or features.longest(clips.train_row, clips.test_row)

    def reader(rows: np.ndarray) -> Frames:
        return lambda chosen: features.frames(rows[chosen], most)

    data = Captioned(
        reader(clips.train_row),
        [[setup.encode(text) for text in captions] for captions in clips.train_captions],
        [[number[normalise(text)] for text in captions] for captions in clips.train_captions],
        clips.held,
    )
    start = {"text": setup.text_start} if setup.text_start else None
    fitted = fit_text_side(
        data,
        setup.model_config,
        OBJECTIVE,
        setup.special,
        steps=(steps := text_steps(config, clips.held)),
        start=start,
        saved=features.saves("text tower", clips.split_hash, steps, config.lit_text, most).state(),
    )
    audio_AE = embed_frames(fitted, reader(clips.test_row), len(clips.test_row))
    text_ME = embed_ids(fitted, [setup.encode(text) for text in clips.test_captions], setup.special)
    return score_retrieval(clips, audio_AE, text_ME, selected=fitted.selected)


def embed_frames(fitted: Fitted, frames: Frames, clips: int) -> np.ndarray:
    """audio_AE, float32 of unit length."""
    pool = jax.jit(lambda params, x_BTD, len_B: fitted.apply(params, x_BTD, len_B, method="pool_audio"))
    return in_batches(functools.partial(pool, fitted.params), frames, clips)


def embed_ids(fitted: Fitted, ids: list[list[int]], tokens: SpecialTokens) -> np.ndarray:
    """text_ME, float32 of unit length; always in batches of BATCH rows."""
    longest = max(map(len, ids))

    @jax.jit
    def embed(params, text_BL, text_len_B):
        return fitted.apply(params, *wrap_caption(text_BL, text_len_B, tokens), method="embed_text")

    embedded = []
    for first in range(0, len(ids), BATCH):
        some = ids[first : first + BATCH]
        text_BL, text_len_B = np.full((BATCH, longest), tokens.pad, np.int32), np.zeros(BATCH, np.int32)
        for i, row in enumerate(some):
            text_BL[i, : len(row)], text_len_B[i] = row, len(row)
        embedded.append(np.asarray(embed(fitted.params, text_BL, text_len_B))[: len(some)])
    return np.concatenate(embedded)
