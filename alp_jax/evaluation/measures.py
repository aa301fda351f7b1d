"""How every pooling of a task is measured on the features of one encoder."""

import functools
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from alp_jax.config.schema import DataConfig, EvalConfig
from alp_jax.data.text.normalise import caption_ids, normalise
from alp_jax.data.text.tokenizer import Tokenizer
from alp_jax.evaluation.captioning import task as captioning
from alp_jax.evaluation.captioning.locked_decoder import fit_decoder, generate
from alp_jax.evaluation.features import Features
from alp_jax.evaluation.measured import DIRECTIONS, Measured, RetrievalTask, judge, judge_retrieval
from alp_jax.evaluation.model import EvalModel
from alp_jax.evaluation.probes.attention_probe import attention_probe
from alp_jax.evaluation.probes.linear_probe import ProbeData, linear_probe
from alp_jax.evaluation.probes.tasks import Task
from alp_jax.evaluation.probes.zero_shot import POOLING as ZERO_SHOT
from alp_jax.evaluation.probes.zero_shot import zero_shot
from alp_jax.evaluation.retrieval.alignment import align
from alp_jax.evaluation.retrieval.text_tower import search
from alp_jax.evaluation.sed import detection
from alp_jax.evaluation.sed import task as sed
from alp_jax.objectives.base import SpecialTokens

if TYPE_CHECKING:
    from alp_jax.evaluation.suite import Suite

MEAN, ATTENTION, JOINT, ALIGNMENT, LIT = "mean", "attention", "joint", "linear_alignment", "lit"
TEXT_BATCH, TEXT_MULTIPLE = 64, 16


def linear(task: Task, inputs: Callable[[np.ndarray], np.ndarray]) -> tuple[Measured, dict]:
    """Linear probe; ``inputs(rows)`` gives pooled vectors."""
    data = ProbeData(inputs(task.train_row), task.train_y, task.held, inputs(task.test_row), len(task.classes))
    logits_NC, chosen = linear_probe(data)
    return judge(task, logits_NC), chosen


def attention(task: Task, features: Features, config: EvalConfig) -> tuple[Measured, dict]:
    """Probe with attention pooling over frames."""
    train_x, train_len = features.frames(task.train_row, config.attention_frames)
    test_x, test_len = features.frames(task.test_row, config.attention_frames)
    data = ProbeData(train_x, task.train_y, task.held, test_x, len(task.classes))
    logits_SNC, chosen = attention_probe(data, train_len, test_len, steps=config.attention_steps)
    return judge(task, logits_SNC), chosen


def linear_alignment(
    task: RetrievalTask, inputs: Callable[[np.ndarray], np.ndarray]
) -> tuple[dict[str, Measured], dict]:
    """Retrieval through the linear alignment, both directions; ``inputs(rows)`` gives pooled vectors."""
    train_x, test_x = inputs(task.train_row), inputs(task.test_row)
    audio_AV, text_TV, chosen = align(train_x, task.train_captions, task.held, test_x, task.test_captions)
    return judge_retrieval(task, audio_AV, text_TV), chosen


def embed_texts(model: EvalModel, tokenizer: Tokenizer, texts: list[str], config: DataConfig) -> np.ndarray:
    """text_TE of captions as training reads them; each distinct caption is embedded once, in one fixed shape."""
    distinct = sorted(set(texts))
    encoded = [caption_ids(text, tokenizer, config)[0] for text in distinct]
    longest = max(1, *map(len, encoded))
    width = min(config.text_budget, -(-longest // TEXT_MULTIPLE) * TEXT_MULTIPLE)
    special = SpecialTokens.of(tokenizer)
    found = []
    for start in range(0, len(encoded), TEXT_BATCH):
        text_BL = np.full((TEXT_BATCH, width), tokenizer.pad_id, np.int32)
        text_len_B = np.zeros(TEXT_BATCH, np.int32)
        for i, ids in enumerate(encoded[start : start + TEXT_BATCH]):
            text_BL[i, : len(ids)], text_len_B[i] = ids, len(ids)
        found.append(np.asarray(model.embed_text(text_BL, text_len_B, special), np.float32))
    place = {text: i for i, text in enumerate(distinct)}
    return np.concatenate(found)[[place[text] for text in texts]]


def measures(
    model: EvalModel, suite: "Suite", features: Features | None, folder: pathlib.Path
) -> Callable[[str, str], tuple[Measured, dict]]:
    """(task, pooling) -> measured values and what was selected; both directions of retrieval are computed once."""

    def pooled(rows):
        return features.mean[features.index(rows)]

    def embed(texts: list[str]) -> np.ndarray:
        return embed_texts(model, suite.tokenizer, texts, suite.data_config)

    @functools.cache
    def searched(pooling: str):
        task = suite.retrieval
        if pooling == ALIGNMENT:
            return linear_alignment(task, pooled)
        if pooling == LIT:
            return _search(suite, features)
        text_TE = embed(task.test_captions)
        return judge_retrieval(task, features.joint[features.index(task.test_row)], text_TE), {}

    def measure(name: str, pooling: str):
        if name in DIRECTIONS:
            found, chosen = searched(pooling)
            return found[name], chosen
        if name == captioning.NAME:
            return _caption(suite, features, model if pooling == captioning.DECODER else None)
        if name == sed.NAME:
            return detection.measure(model, suite.sed, suite.config, folder / "sed")
        task = suite.tasks[name]
        if pooling == ZERO_SHOT:
            return zero_shot(task, suite.prompts[name], lambda rows: features.joint[features.index(rows)], embed)
        return linear(task, pooled) if pooling == MEAN else attention(task, features, suite.config)

    return measure


def _caption(suite: "Suite", features: Features, model: EvalModel | None) -> tuple[Measured, dict]:
    """Captions by the decoder of ``model``, or by one trained on frozen frames."""
    task, config, special = suite.captioning, suite.config, SpecialTokens.of(suite.tokenizer)
    options = special, config.caption_beams, config.caption_tokens
    if model:
        most = int(features.length[features.index(task.test_row)].max())  # one shape for all batches
        chosen: dict = {}

        def decode(frames_BTD, len_B):
            return model.caption(frames_BTD, len_B, *options)

    else:
        most = config.attention_frames
        fitted = fit_decoder(
            task,
            lambda clips: features.frames(task.train_row[clips], most),
            lambda text: caption_ids(text, suite.tokenizer, suite.data_config)[0],
            suite.model_config,
            special,
            config,
            suite.decoder_start,
        )
        decode, chosen = fitted.decoder(*options), fitted.chosen
    said = generate(
        decode, lambda clips: features.frames(task.test_row[clips], most), len(task.test_row), suite.tokenizer
    )
    return captioning.judge_captions(task, said), chosen


def _search(suite: "Suite", features: Features) -> tuple[dict[str, Measured], dict]:
    """Retrieval by a text tower trained on frozen frames, both directions."""
    return search(
        suite.retrieval,
        lambda rows: lambda clips: features.frames(rows[clips], suite.config.attention_frames),
        lambda text: caption_ids(text, suite.tokenizer, suite.data_config)[0],
        normalise,
        suite.model_config,
        SpecialTokens.of(suite.tokenizer),
        steps=suite.config.lit_steps,
        start={"text": suite.text_start} if suite.text_start else None,
    )
