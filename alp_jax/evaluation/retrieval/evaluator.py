"""Retrieval in both directions: by the model's own text tower, a linear alignment, or a tower trained on its frames."""

import numpy as np

from alp_jax.core.run_files import ALIGNMENT, JOINT, LOCKED, RETRIEVAL
from alp_jax.evaluation.evaluator import Evaluator, Setup
from alp_jax.evaluation.features import Features
from alp_jax.evaluation.measured import Measured
from alp_jax.evaluation.model import EvalModel
from alp_jax.evaluation.retrieval.alignment import align
from alp_jax.evaluation.retrieval.task import captioned_clips, score_retrieval
from alp_jax.evaluation.retrieval.text_tower import search
from alp_jax.evaluation.table import Shortage


class RetrievalEvaluator(Evaluator):
    """Both directions of retrieval among the captioned test clips."""

    names = RETRIEVAL

    @classmethod
    def find(cls, setup: Setup) -> tuple[list[Evaluator], dict[str, Shortage]]:
        return cls.from_split(setup.shared(captioned_clips), setup)

    def poolings(self, model: EvalModel) -> tuple[str, ...]:
        own = (JOINT,) if model.compares_text else ()
        return (*own, ALIGNMENT, *((LOCKED,) if self.setup.config.lit_steps else ()))

    def measure(self, features: Features, model: EvalModel, pooling: str) -> dict[str, Measured]:
        clips, setup = self.split, self.setup
        if pooling == ALIGNMENT:
            return self._aligned(features.mean(clips.train_row), features.mean(clips.test_row))
        if pooling == LOCKED:
            return search(clips, setup, features)
        text_ME = setup.embed_texts(model, clips.test_captions)
        # nothing is fitted, so there is nothing to select
        return score_retrieval(clips, features.joint(clips.test_row), text_ME, notes={"selection": "none"})

    def _aligned(self, train_x: np.ndarray, test_x: np.ndarray) -> dict[str, Measured]:
        clips = self.split
        audio_AV, text_MV, selected = align(train_x, clips.train_captions, clips.held, test_x, clips.test_captions)
        return score_retrieval(clips, audio_AV, text_MV, selected=selected)

    def floor(self, features: Features) -> dict[str, Measured]:
        return self._aligned(features.moments(self.split.train_row), features.moments(self.split.test_row))

    def facts(self) -> dict:
        return {**self.split.facts(), "classes": len(self.split.test_captions)}
