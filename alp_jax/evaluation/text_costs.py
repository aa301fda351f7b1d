"""What text towers and decoders that are trained on frozen frames will take, by the arithmetic of ``probes.costs``.

Operations are those of ``models.accounting``: a step costs three forward passes of BATCH clips, a look one for every
held-out clip. A caption is searched token by token, with all its beams, and every token reads the decoder's weights.
"""

import dataclasses

from alp_jax.config.schema import EvalConfig, ModelConfig
from alp_jax.core.run_files import CAPTIONING, LOCKED, TEXT_TO_AUDIO
from alp_jax.evaluation.frozen_fit import BATCH, LOOKS, FitSchedule
from alp_jax.evaluation.probes.costs import ADAM_BYTES, FitCost
from alp_jax.models.accounting import decoder_flops, text_flops

WEIGHT_BYTES = 5 * 4  # bytes of a weight: itself, its gradient, both moments, and the best so far


@dataclasses.dataclass(frozen=True)
class TextSize:
    """The captioned clips of a data set: training clips, those of them that are held, test clips and their captions.

    Attributes:
      tokens: of the longest caption; all are padded to it.
      tasks: those of captioned clips that are measured.
      model: the sizes of the text sides.
    """

    train: int
    held: int
    test: int
    captions: int
    tokens: int
    tasks: tuple[str, ...]
    model: ModelConfig


def text_side_costs(size: TextSize, frames: int, width: int, config: EvalConfig) -> dict[str, FitCost]:
    """Result -> cost of the text sides that are trained, on at most ``frames`` frames of ``width`` per clip."""
    plan = FitSchedule.of(size.train - size.held, config.lit_epochs, config.lit_steps, BATCH, BATCH, looks=LOOKS)
    text, decoder, tokens = size.model.text, size.model.decoder, size.tokens + 2
    seen, passes = plan.steps * BATCH, 3 * plan.steps * BATCH + len(plan.looks) * size.held
    read = 2 * width * frames * (seen + len(plan.looks) * size.held + size.test)
    host = 4 * 4 * BATCH * frames * width

    def cost(weights: int, wide: int, flops: float, written: int, how: str = "") -> FitCost:
        steps, batches = plan.steps + written * -(-size.test // BATCH), 4 * BATCH * (tokens * wide + 4 * frames * width)
        traffic = plan.steps * (ADAM_BYTES * weights + 3 * batches) + 4 * weights * (steps - plan.steps)
        words = f"{plan.steps} steps x {BATCH} ({seen / (size.train - size.held):.0f} epochs){how}"
        return FitCost(words, plan, (1,), host, WEIGHT_BYTES * weights + batches, flops, traffic, read, steps)

    found = {}
    if TEXT_TO_AUDIO in size.tasks:
        layer = 4 * text.hidden_size**2 + 2 * text.hidden_size * text.intermediate_size
        weights = text.num_hidden_layers * layer + text.vocab_size * text.hidden_size
        wide = text.num_hidden_layers * (8 * text.hidden_size + 2 * text.intermediate_size)
        flops = text_flops(text, tokens) * (passes + size.captions)
        found[f"{TEXT_TO_AUDIO}-{LOCKED}"] = cost(weights, wide, flops, 0)
    if CAPTIONING in size.tasks:
        layer = 8 * decoder.d_model**2 + 2 * decoder.d_model * decoder.dim_feedforward
        weights = decoder.num_decoder_layers * layer + 2 * decoder.vocab_size * decoder.d_model
        wide = decoder.num_decoder_layers * (12 * decoder.d_model + 2 * decoder.dim_feedforward) + decoder.vocab_size
        written = config.caption_beams * decoder_flops(decoder, width, frames, config.caption_tokens)
        flops = decoder_flops(decoder, width, frames, tokens) * passes + written * size.test
        how = f", captions of up to {config.caption_tokens} tokens by {config.caption_beams} beams"
        found[f"{CAPTIONING}-{LOCKED}"] = cost(weights, wide, flops, config.caption_tokens, how)
    return found
