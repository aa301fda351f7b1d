"""Captions of the test clips, by the decoder that came with the encoder or by one trained on its frames."""

from alp_jax.core.run_files import CAPTIONING, DECODER, LOCKED
from alp_jax.evaluation.captioning.locked_decoder import fit_decoder, generate
from alp_jax.evaluation.captioning.task import nearest_captions, score_captions
from alp_jax.evaluation.evaluator import Evaluator, Setup
from alp_jax.evaluation.features import Features
from alp_jax.evaluation.measured import Measured
from alp_jax.evaluation.model import EvalModel
from alp_jax.evaluation.retrieval.task import captioned_clips
from alp_jax.evaluation.table import Shortage


class CaptioningEvaluator(Evaluator):
    """Captions of the clips that retrieval tests on, scored against all references of each."""

    names = (CAPTIONING,)

    @classmethod
    def find(cls, setup: Setup) -> tuple[list[Evaluator], dict[str, Shortage]]:
        return cls.from_split(setup.shared(captioned_clips), setup)

    def poolings(self, model: EvalModel) -> tuple[str, ...]:
        own = (DECODER,) if model.caption else ()
        return (*own, *((LOCKED,) if self.setup.config.lit_steps else ()))

    def measure(self, features: Features, model: EvalModel, pooling: str) -> dict[str, Measured]:
        clips, config = self.split, self.setup.config
        options = self.setup.special, config.caption_beams, config.caption_tokens
        if pooling == DECODER:
            most, selected = features.longest(clips.test_row), {}  # one shape for all batches

            def decode(frames_BTD, len_B):
                return model.caption(frames_BTD, len_B, *options)

        else:
            most = config.attention_frames or features.longest(clips.train_row, clips.test_row)
            saves = features.saves("decoder", clips.split_hash, most)
            fitted = fit_decoder(
                clips, lambda chosen: features.frames(clips.train_row[chosen], most), self.setup, saves
            )
            decode, selected = fitted.decoder(*options), fitted.selected
        captions = generate(
            decode,
            lambda chosen: features.frames(clips.test_row[chosen], most),
            len(clips.test_row),
            self.setup.tokenizer,
        )
        return {CAPTIONING: score_captions(clips, captions, selected)}

    def floor(self, features: Features) -> dict[str, Measured]:
        train_x, test_x = features.moments(self.split.train_row), features.moments(self.split.test_row)
        return {CAPTIONING: score_captions(self.split, nearest_captions(self.split, train_x, test_x), {})}
