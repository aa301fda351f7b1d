"""Retrieval by a text tower that was trained on the frozen frames of an encoder."""

from collections.abc import Callable

import jax
import numpy as np

from alp_jax.config.schema import ModelConfig, ObjectiveConfig
from alp_jax.evaluation.frozen_fit import BATCH, Captioned, Fitted, Frames, fit_text_side
from alp_jax.evaluation.measured import Measured, RetrievalTask, judge_retrieval
from alp_jax.objectives.base import SpecialTokens
from alp_jax.objectives.contrastive import wrap_caption

OBJECTIVE = ObjectiveConfig(name="contrastive", temperature=0.07)


def search(
    task: RetrievalTask,
    frames: Callable[[np.ndarray], Frames],
    encode: Callable[[str], list[int]],
    normalise: Callable[[str], str],
    model: ModelConfig,
    tokens: SpecialTokens,
    *,
    steps: int,
    start: dict | None = None,
) -> tuple[dict[str, Measured], dict]:
    """Both directions of retrieval among the test clips after a text tower has learnt from the training clips.

    Args:
      frames: rows of the data set -> a reader of those clips by position, with one number of frames for all.
      encode: caption -> token ids without special tokens.
      start: as in ``fit_text_side``.
    """
    texts = sorted({normalise(text) for captions in task.train_captions for text in captions})
    number = {text: k for k, text in enumerate(texts)}
    data = Captioned(
        frames(task.train_row),
        [[encode(text) for text in captions] for captions in task.train_captions],
        [[number[normalise(text)] for text in captions] for captions in task.train_captions],
        task.held,
    )
    fitted = fit_text_side(data, model, OBJECTIVE, tokens, steps=steps, start=start)
    audio_AE = embed_frames(fitted, frames(task.test_row), len(task.test_row))
    text_TE = embed_ids(fitted, [encode(text) for text in task.test_captions], tokens)
    return judge_retrieval(task, audio_AE, text_TE), fitted.chosen


def embed_frames(fitted: Fitted, frames: Frames, clips: int) -> np.ndarray:
    """float32[A,E] of unit length."""
    pool = jax.jit(lambda params, x_BTD, len_B: fitted.apply(params, x_BTD, len_B, method="pool_audio"))
    found = []
    for first in range(0, clips, BATCH):
        x_NTD, len_N = frames(np.arange(first, min(first + BATCH, clips)))
        missing = BATCH - len(x_NTD)
        x_BTD, len_B = np.pad(x_NTD, [(0, missing), (0, 0), (0, 0)]), np.pad(len_N, (0, missing))
        found.append(np.asarray(pool(fitted.params, x_BTD, len_B))[: len(x_NTD)])
    return np.concatenate(found)


def embed_ids(fitted: Fitted, ids: list[list[int]], tokens: SpecialTokens) -> np.ndarray:
    """float32[T,E] of unit length, in one shape of BATCH rows."""
    longest = max(map(len, ids))

    @jax.jit
    def embed(params, text_BL, text_len_B):
        return fitted.apply(params, *wrap_caption(text_BL, text_len_B, tokens), method="embed_text")

    found = []
    for first in range(0, len(ids), BATCH):
        some = ids[first : first + BATCH]
        text_BL, text_len_B = np.full((BATCH, longest), tokens.pad, np.int32), np.zeros(BATCH, np.int32)
        for i, row in enumerate(some):
            text_BL[i, : len(row)], text_len_B[i] = row, len(row)
        found.append(np.asarray(embed(fitted.params, text_BL, text_len_B))[: len(some)])
    return np.concatenate(found)
