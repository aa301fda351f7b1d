"""Hands the frozen encoder of a run to the evaluation."""

import contextlib
import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.config import RunConfig
from alp_jax.config.schema import ModelConfig
from alp_jax.config.schema.model import DECODER, TEXT
from alp_jax.core import storage
from alp_jax.core.errors import UserError
from alp_jax.core.files import read_object
from alp_jax.core.names import choose
from alp_jax.core.progress import say, stage
from alp_jax.core.run_files import ENVIRONMENT, FLOORS, RESULTS
from alp_jax.data.store.dataset import open_dataset
from alp_jax.data.text.open import open_tokenizer, tokenizer_path
from alp_jax.evaluation.captioning.locked_decoder import TRAINS
from alp_jax.evaluation.evaluator import Setup
from alp_jax.evaluation.model import EvalModel
from alp_jax.evaluation.protocol import protocol, task_names, text_sides
from alp_jax.evaluation.stats.overlap import Trained
from alp_jax.evaluation.suite import Suite, run_suite
from alp_jax.features.logmel import log_mel
from alp_jax.models.decoding import Ids
from alp_jax.objectives.base import SpecialTokens
from alp_jax.objectives.contrastive import wrap_caption
from alp_jax.objectives.registry import sides_of
from alp_jax.parallel.rows import over_rows
from alp_jax.train.build import find_data, make_model, read_config, require_data, run_tokenizer
from alp_jax.train.checkpoint import load_params
from alp_jax.train.remote_run import local_run, steps_for


def evaluate_run(run_dir: storage.Location, floors: str | None = None) -> list[dict]:
    """Evaluates the latest checkpoint of a run with its own suite; results go to ``eval/`` and are returned.

    Args:
      floors: file in which runs on the same data share the results of the log-mel floor; None keeps it in the run.
    """
    with contextlib.ExitStack() as stack:
        with stage("loading the encoder"):
            folder = stack.enter_context(local_run(run_dir, [None], write=True))
            model, config = eval_model(folder)
        if config.evaluation.suite == "none":
            return []
        with stage("opening the tasks"):
            suite = open_suite(folder, config)
        for name, shortage in suite.shortages.items():
            say(f"evaluate: {name}: {shortage}")
        return run_suite(model, suite, folder / RESULTS, floors_path=floors or folder / FLOORS)


def trained_on(run_dir: str | pathlib.Path) -> Trained | None:
    """What a run was trained on; None for a folder that was imported and not trained here."""
    path = pathlib.Path(run_dir) / ENVIRONMENT
    if not path.exists():
        return None
    config = read_config(run_dir)
    data = dataclasses.replace(config.data, path=find_data(run_dir, config) or config.data.path)
    fingerprint = read_object(path, "run environment").get("data_fingerprint")
    if not isinstance(fingerprint, str):
        raise UserError(f"run environment {path} has no data_fingerprint: give back the file that training wrote")
    return Trained(data, fingerprint)


def open_suite(
    run_dir: str | pathlib.Path | None,
    config: RunConfig,
    suite: str | None = None,
    data: storage.Location | None = None,
) -> Suite:
    """The tasks that ``suite`` names (as ``config.evaluation.suite`` does) on a data set.

    Args:
      run_dir: folder of the run or import that is evaluated; None for an encoder that was not made here.
      config: its configuration.
      suite: None takes that of ``config``, less the tasks that the data set does not have.
      data: the data set; None takes the one that the run was trained on.

    Raises:
      UserError: no such data set, tokenizer or task.
    """
    if run_dir is None:
        dataset = open_dataset(data or config.data.path)
        tokenizer = open_tokenizer(tokenizer_path(dataset.path, config.data))
    else:
        dataset = open_dataset(data or require_data(run_dir, config))
        tokenizer = run_tokenizer(run_dir, config, dataset.path)
    chosen = config.evaluation.suite if suite is None else suite
    trains = choose(config.evaluation.lit_decoder_trains, TRAINS, "config.evaluation.lit_decoder_trains")
    if trains == "cross_attention" and config.evaluation.lit_decoder == "scratch":
        raise UserError(
            "config.evaluation.lit_decoder_trains = cross_attention leaves the rest of the decoder at its random "
            "start: name a trained one, config.evaluation.lit_decoder=FOLDER"
        )
    evaluation, data_config = protocol(chosen, config.evaluation, config.data)
    sizes, starts = text_sides(chosen, config.model, tokenizer.vocab_size), {}
    for side, knob in ((TEXT, "lit_text"), (DECODER, "lit_decoder")):
        if (start := getattr(evaluation, knob)) != "scratch":
            starts[side], sizes = _start(start, side, f"config.evaluation.{knob}", sizes, tokenizer.vocab_size)
    setup = Setup(
        dataset,
        tokenizer,
        evaluation,
        data_config,
        config.features,
        sizes,
        text_start=starts.get(TEXT),
        decoder_start=starts.get(DECODER),
    )
    trained = None if run_dir is None else trained_on(run_dir)
    return Suite(setup, only=task_names(chosen), strict=suite is not None, trained=trained)


def _start(run: str, side: str, knob: str, sizes: ModelConfig, tokens: int) -> tuple[dict, ModelConfig]:
    """The parameters of the ``side`` of a run or an import, and ``sizes`` with those of that side."""
    with local_run(run, [None]) as folder:
        params, model = load_params(folder)[0], read_config(folder).model
    own = getattr(model, side)
    if side not in params:
        raise UserError(f"{knob} = {run}: it has no {'text tower' if side == TEXT else side}")
    if own.vocab_size < tokens:
        raise UserError(f"{knob} = {run}: its {side} knows {own.vocab_size} tokens, the tokenizer has {tokens}")
    return params[side], dataclasses.replace(sizes, **{side: own})


def eval_model(
    run_dir: storage.Location, step: int | None = None, since: int | None = None
) -> tuple[EvalModel, RunConfig]:
    """The frozen encoder of a run, ready for evaluation on the devices of this process, and the run's configuration.

    ``step`` and ``since`` as in ``load_params``.
    """
    with local_run(run_dir, steps_for(step, since)) as folder:
        config = read_config(folder)
        params, step = load_params(folder, step, since)
    if "encoder" not in params:
        raise UserError(f"{run_dir} holds a text tower only: there is no audio encoder to evaluate")
    when = step if since is None else f"{since}-{step}"
    return frozen_model(config, params, f"{folder.name}@{when}"), config


class _Programs(NamedTuple):
    """Jitted functions of (parameters, arrays); see ``EvalModel`` for the arrays."""

    frames: Callable
    pool_audio: Callable
    project_audio: Callable
    embed_text: Callable
    caption: Callable


def frozen_model(config: RunConfig, params: dict, name: str) -> EvalModel:
    """Wraps ``params`` as the jitted functions that evaluators call."""
    identity = hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params))).hexdigest()
    params = jax.tree.map(jnp.asarray, params)
    programs = _programs(RunConfig(model=config.model, features=config.features, objective=config.objective))

    def bound(program: Callable) -> Callable:
        return lambda *args: program(params, *(jnp.asarray(arg) for arg in args))

    embed_text = bound(programs.embed_text)

    def embed_captions(text_BL: np.ndarray, text_len_B: np.ndarray, tokens: SpecialTokens) -> jax.Array:
        return embed_text(*wrap_caption(jnp.asarray(text_BL), jnp.asarray(text_len_B), tokens))

    def caption(frames_BTD: jax.Array, len_B: jax.Array, special: SpecialTokens, beams: int, tokens: int) -> jax.Array:
        ids = Ids(special.bos, special.eos, special.pad)
        return programs.caption(params, jnp.asarray(frames_BTD), jnp.asarray(len_B), ids, beams, tokens)

    sides = sides_of(config.objective)
    contrastive = TEXT in sides
    return EvalModel(
        name=name,
        frames=bound(programs.frames),
        pool_audio=bound(programs.pool_audio) if contrastive else None,
        project_audio=bound(programs.project_audio) if contrastive else None,
        embed_text=embed_captions if contrastive else None,
        caption=caption if DECODER in sides else None,
        identity=identity,
    )


@functools.lru_cache(maxsize=4)  # a run, its untrained twin and its other checkpoints are traced and compiled once
def _programs(config: RunConfig) -> _Programs:
    """The functions of all models that ``config`` describes."""
    _, apply = make_model(config)

    def method(name: str) -> Callable:
        return jax.jit(lambda params, *args: apply(params, *args, method=name))

    def frames(params: dict, audio_BS: jax.Array, audio_len_B: jax.Array) -> tuple[jax.Array, jax.Array]:
        return apply(params, *log_mel(audio_BS, audio_len_B, config.features), method="encode")

    @functools.partial(jax.jit, static_argnums=(3, 4, 5))
    def caption(params: dict, frames_BTD: jax.Array, len_B: jax.Array, ids: Ids, beams: int, tokens: int) -> jax.Array:
        options = {"ids": ids, "beams": beams, "max_length": tokens}
        return apply(params, frames_BTD, len_B, method="caption", **options)

    return _Programs(over_rows(frames), method("pool_audio"), method("project_audio"), method("embed_text"), caption)
