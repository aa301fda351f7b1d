"""The encoder of a run, frozen, handed to the evaluation."""

import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp

from alp_jax.config import RunConfig
from alp_jax.evaluation.model import EvalModel
from alp_jax.features.logmel import log_mel
from alp_jax.objectives.base import SpecialTokens
from alp_jax.objectives.contrastive import wrap_caption
from alp_jax.train.build import make_model, read_config
from alp_jax.train.checkpoint import load_params


def eval_model(run_dir: str | pathlib.Path, step: int | None = None) -> tuple[EvalModel, RunConfig]:
    """The frozen encoder of a run, ready for evaluation on the default device, and the run's configuration."""
    config = read_config(run_dir)
    params, step = load_params(run_dir, step)
    return frozen_model(config, params, f"{pathlib.Path(run_dir).name}@{step}"), config


def frozen_model(config: RunConfig, params: dict, name: str) -> EvalModel:
    """Wraps ``params`` as the jitted functions that evaluators call."""
    _, apply = make_model(config)
    params = jax.tree.map(jnp.asarray, params)

    def on_audio(method: str) -> Callable:
        @jax.jit
        def run(params, audio_BS, audio_len_B):
            return apply(params, *log_mel(audio_BS, audio_len_B, config.features), method=method)

        return lambda audio_BS, audio_len_B: run(params, jnp.asarray(audio_BS), jnp.asarray(audio_len_B))

    @jax.jit
    def embed_text(params, text_BL, text_len_B):
        return apply(params, text_BL, text_len_B, method="embed_text")

    def embed_captions(text_BL, text_len_B, tokens: SpecialTokens):
        return embed_text(params, *wrap_caption(jnp.asarray(text_BL), jnp.asarray(text_len_B), tokens))

    contrastive = config.objective.name == "contrastive"
    return EvalModel(
        name=name,
        frames=on_audio("encode"),
        embed_audio=on_audio("embed_audio") if contrastive else None,
        embed_text=embed_captions if contrastive else None,
    )
