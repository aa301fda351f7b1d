"""Greedy answers of a frozen language model to questions about sounds, which it gets through a trained adapter."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.core.errors import UserError
from alp_jax.core.progress import Progress
from alp_jax.evaluation.qa import adapter as adapters
from alp_jax.evaluation.qa.adapter import Adapter
from alp_jax.evaluation.qa.chat import LanguageModel, dialogue, lay_out
from alp_jax.evaluation.qa.format import Question
from alp_jax.evaluation.qa.journal import Journal
from alp_jax.evaluation.qa.learn import Sounds, join, language_apply, padded_length, stack_sounds

READ = 128  # questions whose sounds are read at a time


class Answerer:
    """Answers questions, given the frames of their sounds.

    Args:
      max_tokens: length of the longest answer.
      batch: questions answered at a time; fewer are padded to this many.

    Raises:
      UserError: the adapter was trained with another language model.
    """

    def __init__(self, model: LanguageModel, adapter: Adapter, *, max_tokens: int, batch: int):
        if adapter.origin.get("language_model") != model.identity:
            raise UserError("the adapter was trained with another language model: give that one as --qa_model")
        self.model, self.adapter, self.max_tokens, self.batch = model, adapter, max_tokens, batch
        self.lm_params = jax.tree.map(jnp.asarray, model.params)
        apply, stack, tokenizer = language_apply(model), adapter.config.stack, model.tokenizer

        @jax.jit
        def generate(params, fixed, lm_params, frames_BTD, len_B, laid_out):
            sound_BPW = adapters.apply(params, fixed, frames_BTD, len_B, stack)
            x_BLW = join(apply, lm_params, sound_BPW, laid_out)
            options = {"max_length": max_tokens, "eos": tokenizer.eos_id, "pad": tokenizer.pad_id}
            return apply(lm_params, x_BLW, laid_out.len_B, **options, method="generate")

        self.generate = generate

    def __call__(self, questions: Sequence[Question], frames: Sequence[np.ndarray]) -> list[str]:
        """One text per question; at most ``batch`` of them."""
        config, tokenizer = self.adapter.config, self.model.tokenizer
        frames_BTD, len_B = stack_sounds(questions, frames, config)
        talks = [dialogue(tokenizer, question.prompt()) for question in questions]
        rows = np.resize(np.arange(len(questions)), self.batch)
        frames_BTD, len_B, talks = frames_BTD[rows], len_B[rows], [talks[i] for i in rows]
        sound_B = adapters.positions(len_B, config.stack)
        longest = max(talk.length(config.positions) for talk in talks)
        padded_length(longest + self.max_tokens, self.model)
        batch = lay_out(talks, sound_B, padded_length(longest, self.model), 1)
        found_BL = self.generate(self.adapter.params, self.adapter.fixed, self.lm_params, frames_BTD, len_B, batch)
        return [tokenizer.decode(ids).strip() for ids in np.asarray(found_BL)[: len(questions)]]


def answer_all(
    questions: Sequence[Question], sounds: Sounds, answerer: Answerer, journal: Journal
) -> tuple[list[dict], list[Question]]:
    """Answers the questions that ``journal`` lacks, and finishes it.

    Returns:
      the records with their ``response``, in the order of the questions, and the questions whose sounds are missing.
    """
    todo = [question for question in questions if question.uniq_id not in journal.done]
    todo.sort(key=lambda question: len(question.prompt()))  # questions of similar length share a batch
    missing: list[Question] = []
    with Progress("answer", len(todo), "questions") as progress:
        for start in range(0, len(todo), READ):
            asked = todo[start : start + READ]
            frames_of = sounds(asked)
            missing += [question for question, frames in zip(asked, frames_of, strict=True) if frames is None]
            answerable = [pair for pair in zip(asked, frames_of, strict=True) if pair[1] is not None]
            progress.update(len(asked) - len(answerable))
            for first in range(0, len(answerable), answerer.batch):
                batch, frames = zip(*answerable[first : first + answerer.batch], strict=True)
                responses = answerer(batch, frames)
                journal.add(q.record() | {"response": text} for q, text in zip(batch, responses, strict=True))
                progress.update(len(batch))
    if len(missing) == len(questions):
        raise UserError(f"none of the {len(questions)} sounds was found: the first is {missing[0].path}")
    lost = {question.uniq_id for question in missing}
    return journal.finish(q.uniq_id for q in questions if q.uniq_id not in lost), missing
