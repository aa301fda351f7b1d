"""The settings of the paper's evaluation (arXiv 2511.16757): the same for every run, whatever it was trained with.

What the paper does not state is the default of ``EvalConfig``, so that two encoders are never measured differently.
"""

import dataclasses

from alp_jax.config.schema import DataConfig, EvalConfig, ModelConfig
from alp_jax.evaluation.stats.published import PAPER_TASKS

PAPER = "paper"
# No published clip of the paper's sets is longer, MagnaTagATune's 29 s included, apart from some of VoxCeleb: those are
# cut, and results count them. 10.1 holds ten-second cuts of videos, which mostly end a little late.
LONGEST_S = 30.0
PAPER_EDGES_S = (1.0, 2.0, 4.0, 6.0, 8.0, 10.1, 20.0, LONGEST_S)
CAPTION_TOKENS = 128  # of the public recipe for captions: learnt, and written at most
# settings of a run that are about its machine, or name files that a user chose
_KEPT = ("batch_seconds", "host_gib", "device_gib", "prompts", "lit_text", "lit_decoder", "lit_decoder_trains")


def task_names(suite: str) -> tuple[str, ...]:
    """The tasks that a ``suite`` setting names; empty for ``mini``, which runs every task of the data set.

    ``paper`` gives all tasks of the paper's protocol; ``Suite`` leaves out those that the data set does not have.
    """
    if suite == PAPER:
        return PAPER_TASKS
    return () if suite == "mini" else tuple(suite.split(","))


def protocol(suite: str, config: EvalConfig, data: DataConfig) -> tuple[EvalConfig, DataConfig]:
    """``config`` and ``data`` as ``suite`` needs them: for ``paper`` all clips at their full lengths, and text sides
    trained on the frozen frames; any other suite changes nothing."""
    if suite != PAPER:
        return config, data
    everything = dict.fromkeys(("max_train_clips", "max_test_clips", "retrieval_clips", "alignment_clips"), 0)
    fixed = EvalConfig(
        suite=PAPER, max_seconds=LONGEST_S, lit_tokens=CAPTION_TOKENS, caption_tokens=CAPTION_TOKENS, **everything
    )
    kept = {name: getattr(config, name) for name in _KEPT}
    return dataclasses.replace(fixed, **kept), dataclasses.replace(data, bucket_seconds=PAPER_EDGES_S)


def text_sides(suite: str, model: ModelConfig, tokens: int) -> ModelConfig:
    """Sizes of the text towers and decoders that ``suite`` trains on the frozen frames: those of ``model``, a run's, or
    for ``paper`` those of the paper (BERT-base, the decoder of BART-base), for a tokenizer of ``tokens`` tokens."""
    if suite != PAPER:
        return model
    paper = ModelConfig()
    return dataclasses.replace(
        paper,
        text=dataclasses.replace(paper.text, vocab_size=tokens),
        decoder=dataclasses.replace(paper.decoder, vocab_size=tokens),
    )
