"""What a contrastive loss costs on this machine's devices: time, memory, and how it compares with the dense loss."""

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from alp_jax.config.schema import MeshConfig, ObjectiveConfig
from alp_jax.core.errors import UserError
from alp_jax.objectives.base import SpecialTokens
from alp_jax.objectives.contrastive import make_contrastive
from alp_jax.parallel.mesh import batch_sharding, make_mesh, replicated

_TOKENS = SpecialTokens(0, 1, 2, 3)  # ids that a loss on embeddings never uses


def measure_sizes(
    sizes: Sequence[int],
    width: int,
    *,
    loss: str,
    chunk: int | None = None,
    devices: int | None = None,
    rounds: int,
    dense: bool = False,
) -> dict[str, Any]:
    """``time_loss`` at several sizes of the global batch.

    Args:
      loss: a name of ``config.objective.loss``; siglip with a bias.
      chunk: columns at a time; None as the configuration has it.
      devices: number to split over, None: all; the CPU is split into that many where JAX has not used it yet.

    Raises:
      UserError: a size that is not positive or does not divide over the devices, or too few devices.
    """
    if devices is not None:
        with contextlib.suppress(RuntimeError):  # the devices are in use: their number is checked below
            jax.config.update("jax_num_cpu_devices", devices)
        if not 1 <= devices <= jax.device_count():
            raise UserError(f"--devices {devices}: this machine has {jax.device_count()}")
    mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
    for pairs in sizes:
        if pairs < 1 or pairs % mesh.size:
            raise UserError(f"--pairs {pairs} does not divide over {mesh.size} devices")
    config = ObjectiveConfig(loss=loss, learn_bias=loss == "siglip", start_bias=-10.0)
    if chunk is not None:
        config = dataclasses.replace(config, chunk=chunk)
    return {
        "devices": mesh.size,
        "device": mesh.devices.ravel()[0].device_kind,
        "versions": {"jax": jax.__version__},
        "config": {"loss": config.loss, "chunk": config.chunk, "rounds": rounds},
        "sizes": [time_loss(config, pairs, width, mesh, rounds=rounds, dense=dense) for pairs in sizes],
    }


def time_loss(
    config: ObjectiveConfig, pairs: int, width: int, mesh: Mesh, *, rounds: int, dense: bool = False
) -> dict[str, Any]:
    """Bytes and times of the loss and its gradients with respect to embeddings and scale.

    Args:
      config: a contrastive objective.
      pairs, width: of random embeddings, no two of the same recording or caption.
      rounds: timed runs after the first; 0 compiles only.
      dense: also time the loss over the whole matrix of similarities, in turns with ours, and compare gradients.
    """
    ours = _compiled(_ours(config, mesh), pairs, width, mesh)
    rivals = {"": ours} | ({"dense": _compiled(_dense(config), pairs, width, mesh)} if dense else {})
    result: dict[str, Any] = {"pairs": pairs, "width": width}
    for name, program in rivals.items():
        result[f"{name}_temp_bytes".lstrip("_")] = program.memory_analysis().temp_size_in_bytes
    if not rounds:
        return result
    rng = np.random.default_rng(0)
    sides = rng.standard_normal((2, pairs, width)).astype(np.float32)
    sides /= np.linalg.norm(sides, axis=-1, keepdims=True)
    args = (
        *(jax.device_put(side, batch_sharding(mesh)) for side in sides),
        jax.device_put(np.float32(np.log(14.3)), replicated(mesh)),
    )
    outputs = {name: jax.block_until_ready(program(*args)) for name, program in rivals.items()}
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, program in rivals.items():
            began = time.perf_counter()
            jax.block_until_ready(program(*args))
            times[name].append(time.perf_counter() - began)
    for name, seconds in times.items():
        result[f"{name}_median_s".lstrip("_")] = round(statistics.median(seconds), 6)
        result[f"{name}_spread_s".lstrip("_")] = [round(min(seconds), 6), round(max(seconds), 6)]
    if dense:
        (value, grads), (dense_value, dense_grads) = outputs[""], outputs["dense"]
        differences = [jnp.linalg.norm(a - b) / jnp.linalg.norm(b) for a, b in zip(grads, dense_grads, strict=True)]
        result["loss_difference"] = float(abs(value - dense_value) / abs(dense_value))
        result["gradient_difference"] = max(map(float, differences))
        paired = [b / a for a, b in zip(times[""], times["dense"], strict=True)]
        result["times_dense"] = round(statistics.median(paired), 3)
    return result


def _ours(config: ObjectiveConfig, mesh: Mesh) -> Callable:
    objective = make_contrastive(config, _TOKENS, mesh)

    def loss(audio_BD, text_BD, log_scale):
        outputs = {"audio_embed_BD": audio_BD, "text_embed_BD": text_BD, "logit_scale": log_scale}
        if config.learn_bias:
            outputs["logit_bias"] = jnp.float32(config.start_bias)
        row_B = jnp.arange(len(audio_BD))
        return objective.loss(outputs, {}, {"recording": row_B, "caption_group": row_B, "mask": row_B >= 0})[0]

    return loss


def _dense(config: ObjectiveConfig) -> Callable:
    def loss(audio_BD, text_BD, log_scale):
        logits_BB = jnp.exp(log_scale) * jnp.matmul(audio_BD, text_BD.T, precision=jax.lax.Precision.HIGHEST)
        own_B = jnp.diagonal(logits_BB)
        if config.loss == "siglip":
            logits_BB = logits_BB + (config.start_bias if config.learn_bias else 0.0)
            sign_BB = 1.0 - 2.0 * jnp.eye(len(own_B))
            value = 2 * jnp.sum(jax.nn.softplus(sign_BB * logits_BB))
        else:
            value = sum(jnp.sum(jax.nn.logsumexp(logits_BB, axis) - own_B) for axis in (0, 1))
        return value if config.reduction == "sum" else value / (2 * len(own_B))

    return loss


def _compiled(loss: Callable, pairs: int, width: int, mesh: Mesh):
    rows, whole = batch_sharding(mesh), replicated(mesh)
    embed, scalar = jax.ShapeDtypeStruct((pairs, width), jnp.float32), jax.ShapeDtypeStruct((), jnp.float32)
    shardings = {"in_shardings": (rows, rows, whole), "out_shardings": (whole, (rows, rows, whole))}
    return jax.jit(jax.value_and_grad(loss, (0, 1, 2)), **shardings).lower(embed, embed, scalar).compile()
