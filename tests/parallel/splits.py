"""One small run on any split of the devices, and a command that compares all splits of eight.

python -m tests.parallel.splits [contrastive|captioning] [steps]
"""

import dataclasses
import os
import sys

import numpy as np

from alp_jax.config.schema import (
    DecoderConfig,
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

SPLITS = [(d, f, 8 // d // f) for d in (8, 4, 2, 1) for f in (1, 2, 4, 8) if 8 % (d * f) == 0]
ROWS, TOKENS, STEPS = 16, 6, 20

# wide enough for every tactic to split something, with one layer of everything
CONFIG = RunConfig(
    model=ModelConfig(
        encoder=ZipformerConfig(
            num_encoder_layers=(1,),
            downsampling_factor=(2,),
            encoder_dim=(64,),
            encoder_unmasked_dim=(48,),
            feedforward_dim=(128,),
            num_heads=(4,),
            query_head_dim=(8,),
            value_head_dim=(16,),
            pos_dim=8,
            cnn_module_kernel=(5,),
            frontend_channels=(2, 4, 8),
        ),
        vit=ViTConfig(width=64, num_layers=1, num_heads=4, mlp_dim=128),
        text=TextTowerConfig(
            vocab_size=64,
            hidden_size=64,
            num_hidden_layers=1,
            num_attention_heads=4,
            intermediate_size=128,
            max_position_embeddings=16,
        ),
        decoder=DecoderConfig(vocab_size=96, d_model=64, num_decoder_layers=1, decoder_nhead=4, dim_feedforward=128),
        shared_emb_dim=64,
        depthwise_form="lax",
    ),
    optim=OptimConfig(lr=1e-3, warmup_steps=2),
    train=TrainConfig(steps=STEPS),
)


def config_for(objective: str, mesh: tuple[int, ...], encoder: str = "zipformer") -> RunConfig:
    """Captioning with the encoder's regularisers and the reference's optimiser, contrastive without them.

    ``encoder="vit"`` compiles in a fraction of the time.
    """
    config = dataclasses.replace(CONFIG, objective=ObjectiveConfig(name=objective), mesh=MeshConfig(*mesh))
    if objective == "captioning":
        return dataclasses.replace(config, optim=OptimConfig(name="scaled_adam", lr=0.02, warmup_steps=2))
    features = dataclasses.replace(config.features, spec_augment=SpecAugmentConfig(enabled=False))
    return dataclasses.replace(
        config, features=features, model=dataclasses.replace(config.model, regularise=False, encoder_kind=encoder)
    )


def batch(step: int) -> dict[str, np.ndarray]:
    """Global batch ``step``: noisy tones with captions of their own, ragged, the last row padding."""
    rng = np.random.default_rng(step)
    length = rng.integers(4000, 6001, ROWS)
    wave = np.sin(2 * np.pi * 150 * 1.2 ** rng.permutation(ROWS)[:, None] * np.arange(6000) / 16000)
    wave = np.where(np.arange(6000) < length[:, None], 8000 * wave + 100 * rng.standard_normal(wave.shape), 0)
    return {
        "audio": wave.astype(np.int16),
        "audio_len": length.astype(np.int32),
        "text": rng.integers(5, 64, (ROWS, TOKENS)).astype(np.int32),
        "text_len": rng.integers(3, TOKENS + 1, ROWS).astype(np.int32),
        "recording": np.arange(ROWS, dtype=np.int32),
        "caption_group": np.arange(ROWS, dtype=np.int32),
        "mask": np.arange(ROWS) < ROWS - 1,
        "source": np.zeros(ROWS, np.int32),
    }


def train(config: RunConfig, steps: int = STEPS, devices=None):
    """(losses, state) after ``steps`` steps on this process's part of every batch."""
    from alp_jax.objectives.base import SpecialTokens
    from alp_jax.objectives.registry import make_objective
    from alp_jax.optim.optimizer import make_optimizer
    from alp_jax.parallel.mesh import batch_part, make_mesh, put_batch
    from alp_jax.parallel.rules import infer_shardings
    from alp_jax.train.build import make_model
    from alp_jax.train.state import create_state, state_maker, state_shapes
    from alp_jax.train.step import make_train_step

    mesh = make_mesh(config.mesh, devices)
    init, apply = make_model(config)
    optimizer = make_optimizer(config.optim, config.train.steps)
    make = state_maker(init, apply, optimizer)
    shardings = infer_shardings(state_shapes(make), mesh)
    objective = make_objective(config.objective, SpecialTokens(0, 1, 2, 3), mesh)
    step_fn = make_train_step(apply, objective, optimizer, config, mesh, shardings)
    part, parts = batch_part(mesh)
    mine = slice(part * ROWS // parts, (part + 1) * ROWS // parts)
    state, losses = create_state(make, config.seed, mesh), []
    for step in range(steps):
        rows = {name: value[mine] for name, value in batch(step).items()}
        state, metrics = step_fn(state, put_batch(rows, mesh))
        losses.append(float(metrics["loss"]))
    return losses, state


def differences(first, second) -> tuple[float, float]:
    """Largest relative difference of the losses, and largest difference of a parameter."""
    import jax

    loss = max(abs(a - b) / abs(a) for a, b in zip(first[0], second[0], strict=True))
    arrays = zip(jax.tree.leaves(first[1]["params"]), jax.tree.leaves(second[1]["params"]), strict=True)
    return loss, max(float(np.max(np.abs(a - b))) for a, b in arrays)


def main(objective: str = "contrastive", steps: str = str(STEPS)) -> None:
    import jax

    one = train(config_for(objective, (1, 1, 1)), int(steps), jax.devices()[:1])
    one = (one[0], jax.device_get(one[1]))
    print(f"{objective}, {steps} steps, against one device; loss {one[0][0]:.4f} to {one[0][-1]:.4f}")
    print("data fsdp tensor   loss      parameters", flush=True)
    for split in SPLITS:
        losses, state = train(config_for(objective, split), int(steps))
        loss, parameters = differences(one, (losses, jax.device_get(state)))
        print(f"{split[0]:4} {split[1]:4} {split[2]:6}   {loss:.1e}   {parameters:.1e}", flush=True)
        jax.clear_caches()


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_CPU_ENABLE_ASYNC_DISPATCH"] = "false"
    os.environ["XLA_FLAGS"] = (
        "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 "
        "--xla_cpu_use_fusion_emitters=false "
        "--xla_cpu_enable_concurrency_optimized_scheduler=false"
    )
    main(*sys.argv[1:])
