"""Trains an adapter on questions with answers; encoder and language model stay as they are.

The encoder's frames are read, never computed here. The loss covers the tokens of the answers only and is differentiated
with respect to the adapter's parameters, so no gradient of the language model's is ever formed.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alp_jax.core.errors import NumericsError, UserError
from alp_jax.core.hashing import fingerprint
from alp_jax.evaluation.frozen_fit import FitSchedule, fit, permuted
from alp_jax.evaluation.qa import adapter as adapters
from alp_jax.evaluation.qa.adapter import Adapter, AdapterConfig
from alp_jax.evaluation.qa.chat import Batch, Dialogue, LanguageModel, dialogue, lay_out
from alp_jax.evaluation.qa.format import Question
from alp_jax.evaluation.table import hold_out
from alp_jax.models.functional import functionalize
from alp_jax.models.qwen import Qwen

# questions -> frames_TD float32 of the sound of each, at most max_frames; None where a sound is missing
Sounds = Callable[[Sequence[Question]], list[np.ndarray | None]]
MEASURED = 512  # sounds from whose frames mean and deviation are computed
MULTIPLE = 32  # rows are padded to multiples of this length


@dataclasses.dataclass(frozen=True)
class LearnConfig:
    """How an adapter is trained: AdamW with warm-up and cosine decay to zero; the best of ``looks`` states is kept.

    ``steps`` are the fewest; more questions than those take ``epochs`` passes.
    """

    steps: int = 1000
    epochs: float = 1.0
    batch: int = 16
    rate: float = 1e-3
    decay: float = 0.01
    warmup: float = 0.05  # share of the steps
    clip_norm: float = 1.0
    looks: int = 4
    seed: int = 0


def language_apply(model: LanguageModel) -> Callable[..., Any]:
    """The function ``apply(params, ..., method=...)`` of the language model."""
    return functionalize(lambda rngs: Qwen(model.config, rngs=rngs, dtype=jnp.dtype(model.dtype)))[1]


def join(apply: Callable, lm_params: dict, sound_BPW: jax.Array, batch: Batch) -> jax.Array:
    """x_BLW, inputs of the language model: embeddings of words, the adapter's output for sounds, each in place."""
    words_BLW = apply(lm_params, batch.token_BL, method="embed")
    at_BL1 = jnp.maximum(batch.sound_BL, 0)[:, :, None]
    return jnp.where(
        batch.sound_BL[:, :, None] >= 0,
        jnp.take_along_axis(sound_BPW, at_BL1, axis=1).astype(words_BLW.dtype),
        words_BLW,
    )


def make_loss(model: LanguageModel, stack: int) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """``loss(params, fixed, lm_params, frames_BTD, len_B, batch)`` -> (mean cross-entropy per answer token, tokens)."""
    apply = language_apply(model)

    def loss(params, fixed, lm_params, frames_BTD, len_B, batch: Batch):
        sound_BPW = adapters.apply(params, fixed, frames_BTD, len_B, stack)
        hidden_BLW = apply(lm_params, join(apply, lm_params, sound_BPW, batch), remat=True, method="hidden")
        replies_BAW = jnp.take_along_axis(hidden_BLW, batch.at_BA[:, :, None], axis=1)
        logits_BAV = apply(lm_params, replies_BAW, method="logits")
        each_BA = optax.softmax_cross_entropy_with_integer_labels(logits_BAV, batch.target_BA)
        count = jnp.sum(batch.weight_BA)
        return jnp.sum(each_BA * batch.weight_BA) / jnp.maximum(count, 1.0), count

    return loss


class Lessons:
    """Questions with their answers and sounds, as batches of one shape.

    Raises:
      UserError: a sound is missing, or a row has more positions than the language model supports.
    """

    def __init__(self, questions: Sequence[Question], sounds: Sounds, model: LanguageModel, config: AdapterConfig):
        self.questions, self.sounds, self.config = questions, sounds, config
        self.talks = [dialogue(model.tokenizer, question.prompt(), question.target()) for question in questions]
        longest = max(talk.length(config.positions) for talk in self.talks)
        self.length = padded_length(longest, model)
        self.replies = max(len(talk.reply) for talk in self.talks)

    def batch(self, chosen: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, Batch]:
        """(frames_BTD, len_B, batch) of the ``chosen`` questions; rows up to ``size`` repeat them but do not count."""
        count, chosen = len(chosen), np.resize(chosen, size)
        questions = [self.questions[i] for i in chosen]
        frames_BTD, len_B = stack_sounds(questions, self.sounds(questions), self.config)
        talks: list[Dialogue] = [self.talks[i] for i in chosen]
        batch = lay_out(talks, adapters.positions(len_B, self.config.stack), self.length, self.replies)
        batch.weight_BA[count:] = 0.0
        return frames_BTD, len_B, batch


def padded_length(longest: int, model: LanguageModel) -> int:
    """``longest`` rounded up to a multiple of MULTIPLE; UserError if the language model has too few positions."""
    if longest > model.config.max_position_embeddings:
        raise UserError(
            f"a question takes {longest} positions with its sound and answer; max_position_embeddings = "
            f"{model.config.max_position_embeddings}: lower --max_frames"
        )
    return -(-longest // MULTIPLE) * MULTIPLE


def stack_sounds(
    questions, sounds: Sequence[np.ndarray | None], config: AdapterConfig
) -> tuple[np.ndarray, np.ndarray]:
    """(frames_BTD float32 with T = ``max_frames``, len_B). Raises UserError that names a missing sound."""
    frames_BTD = np.zeros((len(sounds), config.max_frames, config.frame_width), np.float32)
    for i, frames_TD in enumerate(sounds):
        if frames_TD is None:
            raise UserError(f"question {questions[i].uniq_id!r}: its sound {questions[i].path} was not found")
        frames_BTD[i, : len(frames_TD)] = frames_TD
    return frames_BTD, np.array([len(frames_TD) for frames_TD in sounds], np.int32)


def _fixed(lessons: Lessons, model: LanguageModel) -> dict[str, np.ndarray]:
    """``Adapter.fixed``: mean and deviation of frames, and the root mean square of the language model's embeddings."""
    spread = np.unique(np.linspace(0, len(lessons.questions) - 1, MEASURED).round().astype(int))
    measured = []
    for i in spread:  # one at a time, as padded frames of all may not fit into memory
        asked = [lessons.questions[i]]
        frames_BTD, len_B = stack_sounds(asked, lessons.sounds(asked), lessons.config)
        measured.append(frames_BTD[0, : len_B[0]])
    frames_ND = np.concatenate(measured)
    table = model.params["embed_tokens"]["embedding"]
    size = np.sqrt(np.mean(np.square(np.asarray(table[:: max(1, len(table) // 4096)], np.float32))))
    return {"mean": frames_ND.mean(0), "std": np.maximum(frames_ND.std(0), 1e-5), "size": np.float32(size)}


def optimizer(config: LearnConfig) -> optax.GradientTransformation:
    """AdamW after clipping; weights decay, biases do not."""
    warm = max(1, round(config.warmup * config.steps))
    rate = optax.warmup_cosine_decay_schedule(0.0, config.rate, warm, max(config.steps, warm + 1))
    weights = optax.adamw(rate, weight_decay=config.decay, mask=lambda tree: jax.tree.map(lambda x: x.ndim > 1, tree))
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), weights)


def train(
    questions: Sequence[Question], sounds: Sounds, model: LanguageModel, config: AdapterConfig, learn: LearnConfig,
    origin: dict[str, Any],
) -> Adapter:  # fmt: skip
    """Fits an adapter; the held-out questions, mostly whole groups or sounds, select among its states.

    Raises:
      NumericsError: a loss is not finite.
      UserError: as ``Lessons``, or there are too few questions.
    """
    if len(questions) < 4:
        raise UserError(f"{len(questions)} questions are too few to train on")
    lessons = Lessons(questions, sounds, model, config)
    held, selection = hold_out([question.group or question.path for question in questions])
    asked = int((~held).sum())
    plan = FitSchedule.of(asked, learn.epochs, learn.steps, learn.batch, learn.batch, looks=learn.looks)
    learn = dataclasses.replace(learn, steps=plan.steps)
    held_rows, rows = np.flatnonzero(held)[: 4 * learn.batch], np.flatnonzero(~held)
    fixed, tune = _fixed(lessons, model), optimizer(learn)
    loss, lm_params = make_loss(model, config.stack), jax.tree.map(jnp.asarray, model.params)
    measure = jax.jit(loss)

    @jax.jit
    def step(params, state, lm_params, frames_BTD, len_B, batch):
        (value, _), slope = jax.value_and_grad(loss, has_aux=True)(params, fixed, lm_params, frames_BTD, len_B, batch)
        change, state = tune.update(slope, state, params)
        return optax.apply_updates(params, change), state, value

    def held_loss(params) -> float:
        parts = [held_rows[i : i + learn.batch] for i in range(0, len(held_rows), learn.batch)]
        measured = [measure(params, fixed, lm_params, *lessons.batch(part, learn.batch)) for part in parts]
        return float(sum(value * count for value, count in measured) / sum(count for _, count in measured))

    params = adapters.init(jax.random.key(learn.seed), config)
    values, history = [], []  # losses of steps, left on the device until a look; [step, loss, held loss]

    def update(params, state, chosen: np.ndarray):
        params, state, value = step(params, state, lm_params, *lessons.batch(chosen, learn.batch))
        values.append(value)
        return params, state

    def look(params) -> float:
        now = held_loss(params)
        history.append([len(values), float(values[-1]), now])
        if not np.isfinite(history[-1]).all():
            raise NumericsError(f"adapter: the loss at step {len(values)} is not finite; lower --rate")
        return now

    kept = fit(
        update,
        params,
        tune.init(params),
        permuted(np.random.default_rng(learn.seed), rows, learn.batch),
        steps=learn.steps,
        look=look,
        looks=plan.looks,
        start_loss=held_loss(params),
        label="train adapter",
    )
    selected = {"held_loss": kept.loss, "step": kept.step, "history": history, "selection": selection}
    stated = {"learn": dataclasses.asdict(learn), "questions": fingerprint([q.record() for q in questions]), **selected}
    return Adapter(
        config, jax.tree.map(np.asarray, kept.params), fixed, {**origin, "language_model": model.identity, **stated}
    )
