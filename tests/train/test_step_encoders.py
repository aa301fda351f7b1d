"""A training step with every kind of encoder: it learns, and only a regularised encoder is random."""

import dataclasses

import jax
import numpy as np
import pytest

from alp_jax.config.schema import (
    ConformerConfig,
    FeatureConfig,
    MeshConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimConfig,
    RunConfig,
    SpecAugmentConfig,
    TextTowerConfig,
    TrainConfig,
    ViTConfig,
    ZipformerConfig,
)
from alp_jax.objectives.base import SpecialTokens
from alp_jax.objectives.registry import make_objective
from alp_jax.optim.optimizer import make_optimizer
from alp_jax.parallel.mesh import make_mesh, put_batch
from alp_jax.parallel.rules import infer_shardings
from alp_jax.train.build import make_model
from alp_jax.train.state import create_state, state_maker, state_shapes
from alp_jax.train.step import make_train_step

MODEL = ModelConfig(
    encoder=ZipformerConfig(
        num_encoder_layers=(1,),
        downsampling_factor=(2,),
        encoder_dim=(16,),
        encoder_unmasked_dim=(16,),
        feedforward_dim=(24,),
        num_heads=(2,),
        query_head_dim=(4,),
        value_head_dim=(4,),
        pos_dim=8,
        cnn_module_kernel=(5,),
        frontend_channels=(2, 4, 8),
    ),
    vit=ViTConfig(width=16, num_layers=1, num_heads=2, mlp_dim=32),
    conformer=ConformerConfig(subsampling_channels=4, width=16, num_layers=1, num_heads=2, ff_dim=32, kernel=5),
    text=TextTowerConfig(
        vocab_size=32,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ),
    shared_emb_dim=16,
    depthwise_form="lax",
)


def tones(clips):
    """Each clip its own pitch and length, with a caption that tells them apart."""
    rng = np.random.default_rng(0)
    length = rng.integers(6000, 8001, clips)
    wave = np.sin(2 * np.pi * 150 * 1.5 ** np.arange(clips)[:, None] * np.arange(8000) / 16000)
    wave = np.where(np.arange(8000) < length[:, None], 8000 * wave + 100 * rng.standard_normal(wave.shape), 0)
    return {
        "audio": wave.astype(np.int16),
        "audio_len": length.astype(np.int32),
        "text": rng.integers(5, 32, (clips, 6)).astype(np.int32),
        "text_len": np.full(clips, 6, np.int32),
        "recording": np.arange(clips, dtype=np.int32),
        "caption_group": np.arange(clips, dtype=np.int32),
        "mask": np.ones(clips, bool),
        "source": np.zeros(clips, np.int32),
    }


def stepper(kind, regularise, average="none"):
    """(make a state from a seed, step on the fixed batch, with other values of some of its arrays if given)."""
    config = RunConfig(
        model=dataclasses.replace(MODEL, encoder_kind=kind, regularise=regularise),
        features=FeatureConfig(spec_augment=SpecAugmentConfig(enabled=False)),
        objective=ObjectiveConfig(name="contrastive"),
        optim=OptimConfig(lr=1e-2, warmup_steps=1),
        train=TrainConfig(average=average, average_period=2),
    )
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    init, apply = make_model(config)
    optimizer = make_optimizer(config.optim, 100)
    make = state_maker(init, apply, optimizer, average != "none")
    shardings = infer_shardings(state_shapes(make), mesh)
    objective = make_objective(config.objective, SpecialTokens(0, 1, 2, 3), mesh)
    step, batch = make_train_step(apply, objective, optimizer, config, mesh, shardings), put_batch(tones(4), mesh)
    return lambda seed: create_state(make, seed, mesh), lambda state, **other: step(state, {**batch, **other})


@pytest.mark.parametrize(
    ("kind", "regularise"),
    # a regularised Zipformer skips half its layers for thousands of steps; test_loop.py trains one
    [("zipformer", False), ("vit", True), ("conformer", True)],
)
def test_every_encoder_learns_and_only_a_regularised_one_is_random(kind, regularise):
    make, step = stepper(kind, regularise)
    first_losses = []
    for seed in (1, 2):  # the same parameters, another key of the step
        _, metrics = step({**make(0), "seed": np.int32(seed)})
        first_losses.append(float(metrics["loss"]))
    assert (first_losses[0] != first_losses[1]) == regularise
    state, losses = make(0), []
    before = jax.device_get(state["params"]["encoder"])
    for _ in range(80):
        state, metrics = step(state)
        losses.append(float(metrics["loss"]))
    print([round(x, 2) for x in losses[::8]])
    assert np.mean(losses[-3:]) < losses[0] - 0.5  # four clips: it starts near ln 4
    assert int(state["bad_steps"]) == 0
    moved = jax.tree_util.tree_map_with_path(
        lambda path, a, b: bool(np.any(a != b)) or "bypass_scale" in jax.tree_util.keystr(path),
        before,
        jax.device_get(state["params"]["encoder"]),
    )
    assert all(jax.tree.leaves(moved))


def test_a_skipped_step_still_enters_the_running_average():
    make, step = stepper("vit", False, average="running")
    state, path = make(0), []
    for number in range(1, 5):
        state, metrics = step(state, **({"mask": np.zeros(4, bool)} if number == 4 else {}))
        path.append(jax.device_get({name: state[name] for name in ("params", "average")}))
    assert int(metrics["bad_steps"]) == 1
    second, third, last = path[1]["params"], path[2]["params"], path[3]["average"]
    jax.tree.map(lambda a, b, c: np.testing.assert_allclose(c, (a + b) / 2, rtol=1e-5, atol=1e-7), second, third, last)
