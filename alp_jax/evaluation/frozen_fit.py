"""Trains a text side on frozen frames, as in LiT (Zhai et al. 2022, arXiv 2111.07991): the audio encoder is locked.

For retrieval a text tower and both projection heads learn, for captioning a decoder. Frames come from files, so the
encoder never runs. The parameters kept are those with the lowest loss on the clips that select.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alp_jax.config.schema import MeshConfig, ModelConfig, ObjectiveConfig
from alp_jax.core.progress import Progress
from alp_jax.models.decoding import Ids
from alp_jax.models.dual import FrameTextModel
from alp_jax.models.functional import functionalize
from alp_jax.objectives.base import SpecialTokens
from alp_jax.objectives.registry import make_objective
from alp_jax.optim.optimizer import decay_mask
from alp_jax.parallel.mesh import make_mesh

BATCH, LOOKS = 32, 4  # clips in a batch; how often the loss of the selecting clips is looked at
RATE, WARMUP, DECAY, CLIP_NORM = 1e-3, 0.05, 0.01, 1.0  # AdamW; the warm-up is a share of the steps

Frames = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # positions of clips -> (frames_NTD, len_N)


@dataclasses.dataclass(frozen=True)
class Captioned:
    """Clips to learn from.

    Attributes:
      frames: reads clips by position.
      ids: the captions of every clip as token ids without special tokens; each clip has one at least.
      groups: equal for captions of equal text; captions of one group are not each other's negatives.
      held: bool per clip, True where a clip only selects.
    """

    frames: Frames
    ids: Sequence[Sequence[Sequence[int]]]
    groups: Sequence[Sequence[int]]
    held: np.ndarray


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained text side: ``apply(params, ..., method=...)`` of ``FrameTextModel``, and how it was selected."""

    apply: Callable[..., Any]
    params: dict
    chosen: dict

    def decoder(self, special: SpecialTokens, beams: int, tokens: int) -> Callable[..., jax.Array]:
        """(frames_BTD, len_B) -> tokens_BL of captions by beam search."""
        options = {"ids": Ids(special.bos, special.eos, special.pad), "beams": beams, "max_length": tokens}
        said = jax.jit(lambda params, x_BTD, len_B: self.apply(params, x_BTD, len_B, method="caption", **options))
        return functools.partial(said, self.params)


def fit_text_side(
    data: Captioned,
    model: ModelConfig,
    objective: ObjectiveConfig,
    tokens: SpecialTokens,
    *,
    steps: int,
    start: dict | None = None,
    only: str = "",
    seed: int = 0,
) -> Fitted:
    """Trains the sides that ``objective`` needs.

    Args:
      model: sizes of the text side; the audio width comes from the frames.
      steps: of AdamW with BATCH clips, cosine schedule.
      start: parameters to begin with for some of the parts, ``text`` for instance.
      only: a name on the path of the parameters that learn; empty: all do.
      seed: of the start values, the batches and the choice among captions.

    Raises:
      ValueError: a part of ``start`` that the text side does not have, or of another shape.
    """
    width = data.frames(np.array([0]))[0].shape[2]
    init, apply = functionalize(
        lambda rngs: FrameTextModel(model, objective.name, width, temperature=objective.temperature, rngs=rngs)
    )
    params = _started(jax.jit(init)(jax.random.key(seed)), start or {})
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    parts = make_objective(objective, tokens, mesh)
    rate = optax.warmup_cosine_decay_schedule(0.0, RATE, max(1, round(WARMUP * steps)), steps)
    optimizer = optax.chain(
        optax.clip_by_global_norm(CLIP_NORM), optax.adamw(rate, b2=0.98, weight_decay=DECAY, mask=decay_mask)
    )
    if only:
        learns = jax.tree_util.tree_map_with_path(lambda path, _: f"'{only}'" in jax.tree_util.keystr(path), params)
        labels = jax.tree.map(lambda yes: "learns" if yes else "stays", learns)
        optimizer = optax.multi_transform({"learns": optimizer, "stays": optax.set_to_zero()}, labels)

    def loss(params, batch, key):
        objective_key, *side_keys = jax.random.split(key, 3)
        inputs = parts.prepare(batch, objective_key)
        outputs = apply(params, batch["frames"], batch["frames_len"], inputs, *side_keys, method="compare")
        return parts.loss(outputs, inputs, batch)[0]

    @jax.jit
    def step(params, state, batch, key):
        updates, state = optimizer.update(jax.grad(loss)(params, batch, key), state, params)
        return optax.apply_updates(params, updates), state

    @jax.jit
    def held_loss(params, batch):
        inputs = parts.prepare(batch, jax.random.key(0))
        outputs = apply(params, batch["frames"], batch["frames_len"], inputs, method="compare")
        return parts.loss(outputs, inputs, batch)[0]

    make = _batcher(data, tokens.pad, np.random.default_rng(seed))
    fitted, held = np.flatnonzero(~data.held), np.flatnonzero(data.held)
    order = np.random.default_rng(seed + 1)
    held_batches = [make(held[i : i + BATCH], first=True) for i in range(0, len(held), BATCH)]
    state, best = optimizer.init(params), (np.inf, 0, params)
    looks = {round(steps * (k + 1) / LOOKS) for k in range(LOOKS)}
    with Progress(f"align {objective.name}", steps, "steps") as progress:
        for number in range(1, steps + 1):
            clips = np.sort(order.choice(fitted, min(BATCH, len(fitted)), replace=False))
            key = jax.random.fold_in(jax.random.key(seed), number)
            params, state = step(params, state, make(clips), key)
            progress.update()
            if number in looks:
                value = float(np.mean([held_loss(params, batch) for batch in held_batches]))
                best = min(best, (value, number, params), key=lambda entry: entry[0])
    value, number, params = best
    return Fitted(apply, params, {"selection_loss": value, "step": number, "steps": steps})


def _started(params: dict, start: dict) -> dict:
    for name, part in start.items():
        if name not in params:
            raise ValueError(f"the text side has no part {name!r}")
        have, need = (jax.tree.map(jnp.shape, tree) for tree in (part, params[name]))
        if have != need:
            raise ValueError(f"the start of {name!r} has other shapes than the configuration gives")
    return {**params, **{name: jax.tree.map(jnp.asarray, part) for name, part in start.items()}}


def _batcher(data: Captioned, pad: int, rng: np.random.Generator) -> Callable[..., dict[str, np.ndarray]]:
    """(clips, first) -> a batch of BATCH rows in one shape; ``first`` takes every clip's first caption."""
    longest = max(len(ids) for captions in data.ids for ids in captions)

    def make(clips: np.ndarray, first: bool = False) -> dict[str, np.ndarray]:
        frames_NTD, frames_len_N = data.frames(clips)
        text_BL, text_len_B = np.full((BATCH, longest), pad, np.int32), np.zeros(BATCH, np.int32)
        group_B = -1 - np.arange(BATCH, dtype=np.int32)
        for i, clip in enumerate(clips):
            chosen = 0 if first else int(rng.integers(len(data.ids[clip])))
            ids = data.ids[clip][chosen]
            text_BL[i, : len(ids)], text_len_B[i], group_B[i] = ids, len(ids), data.groups[clip][chosen]
        missing = BATCH - len(clips)
        return {
            "frames": np.pad(frames_NTD, [(0, missing), (0, 0), (0, 0)]),
            "frames_len": np.pad(frames_len_N, (0, missing)).astype(np.int32),
            "text": text_BL,
            "text_len": text_len_B,
            "recording": np.arange(BATCH, dtype=np.int32),
            "caption_group": group_B,
            "mask": np.arange(BATCH) < len(clips),
        }

    return make
