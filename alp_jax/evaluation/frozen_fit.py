"""The loop that fits a small model to the frames of a frozen encoder, and the text sides that it trains.

Probes, text towers, decoders and adapters differ in what they learn, in their batches and in how a state is selected;
they share the loop ``fit``. Frames are read from files, so the encoder never runs here.

A text side is trained as in locked-image tuning (LiT, Zhai et al. 2022, arXiv 2111.07991), with audio in the place of
images: a text tower and both projection heads for retrieval, a decoder for captioning.
"""

import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alp_jax.config.schema import EvalConfig, MeshConfig, ModelConfig, ObjectiveConfig
from alp_jax.core.progress import Progress
from alp_jax.evaluation.fit_state import FitState
from alp_jax.models.decoding import Ids
from alp_jax.models.dual import FrameTextModel
from alp_jax.models.functional import functionalize
from alp_jax.objectives.base import SpecialTokens
from alp_jax.objectives.registry import make_objective, sides_of
from alp_jax.optim.stacks import decay_mask
from alp_jax.parallel.mesh import make_mesh, replicated

BATCH, LOOKS = 32, 4  # clips in a batch; how often the loss on the held-out clips is checked
EPOCH_STEPS = 1024  # of a large set, at most, while its batches may grow
RATE, WARMUP, DECAY, CLIP_NORM = 1e-3, 0.05, 0.01, 1.0  # AdamW; the warm-up is a share of the steps

Frames = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # positions of clips -> (frames_NTD, len_N)


class Kept(NamedTuple):
    """The parameters with the lowest held-out loss, that loss, and the number of steps that led to them."""

    loss: float
    step: int
    params: Any


@dataclasses.dataclass(frozen=True)
class FitSchedule:
    """A fit of ``steps`` batches of ``batch`` clips, with looks at the held-out clips after the steps in ``looks``."""

    steps: int
    batch: int
    looks: tuple[int, ...]

    @classmethod
    def of(cls, clips: int, epochs: float, least: int, batch: int, most_batch: int, *, looks: int) -> "FitSchedule":
        """At least ``least`` steps, and ``epochs`` passes over ``clips``, with ``looks`` evenly spaced looks.

        An epoch of a large set has few steps of large batches: the batch doubles, up to ``most_batch``, while an epoch
        would have more than EPOCH_STEPS.
        """
        while batch < most_batch and clips > batch * EPOCH_STEPS:
            batch *= 2
        steps = max(least, math.ceil(epochs * clips / batch))
        return cls(steps, batch, evenly(steps, looks))


def fit(
    update: Callable[[Any, Any, Any], tuple[Any, Any]],
    params: Any,
    state: Any,
    batches: Iterable,
    *,
    steps: int,
    look: Callable[[Any], float] | None = None,
    looks: Container[int] = (),
    start_loss: float = math.inf,
    label: str = "",
    saved: FitState | None = None,
) -> Kept:
    """Trains on ``steps`` batches and keeps the best of the states that ``look`` saw; among equals, the earliest.

    Args:
      update: (params, state, batch) -> new parameters and optimizer state.
      batches: cheap to draw, as a fit that goes on draws the earlier ones again: ``update`` reads what they name.
      look: params -> loss on held-out clips, called after the steps in ``looks``. None keeps the last parameters.
      start_loss: loss of the initial ``params``; infinite means that untrained parameters are never kept.
      label: title of the progress bar; empty for none.
      saved: where the state is written now and then, and from which the fit goes on; None keeps it in memory alone.
    """
    kept = Kept(start_loss, 0, params)
    begun = saved.read((0, kept, params, state)) if saved else None
    done, kept, params, state = begun or (0, kept, params, state)
    progress = Progress(label, steps, "steps", initial=int(done)) if label else contextlib.nullcontext()
    with progress:
        for number, batch in enumerate(itertools.islice(batches, int(done), steps), int(done) + 1):
            before = params
            params, state = update(params, state, batch)
            jax.block_until_ready(before)  # two steps at most are under way, and in memory with their batches
            if label:
                progress.update()
            # Strictly below: a NaN never wins, and a tie keeps the shorter training.
            if number in looks and (loss := look(params)) < kept.loss:
                kept = Kept(loss, number, params)
            if saved and saved.due():
                saved.write((number, kept, params, state))
    return Kept(float(kept.loss), int(kept.step), kept.params) if look else Kept(math.nan, steps, params)


def evenly(steps: int, count: int) -> tuple[int, ...]:
    """``count`` evenly spaced step numbers, ending with ``steps``; fewer if there are fewer steps."""
    return tuple(sorted({max(1, round(steps * (k + 1) / count)) for k in range(count)}))


def permuted(rng: np.random.Generator, among: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """``size`` of ``among`` at a time from endless permutations: each is used up before the next begins."""
    order = np.zeros(0, np.int64)
    while True:
        while len(order) < size:
            order = np.concatenate([order, rng.permutation(among)])
        yield order[:size]
        order = order[size:]


@dataclasses.dataclass(frozen=True)
class Captioned:
    """Clips to learn from.

    Attributes:
      frames: reads clips by position.
      ids: the captions of every clip as token ids without special tokens; every clip has at least one.
      groups: a number per caption, equal for equal texts; captions of one group are not each other's negatives.
      held: bool per clip, True for clips that select a state and are not trained on.
    """

    frames: Frames
    ids: Sequence[Sequence[Sequence[int]]]
    groups: Sequence[Sequence[int]]
    held: np.ndarray


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained text side: ``apply(params, ..., method=...)`` of its ``FrameTextModel``, and how it was selected."""

    apply: Callable[..., Any]
    params: dict
    selected: dict

    def decoder(self, special: SpecialTokens, beams: int, tokens: int) -> Callable[..., jax.Array]:
        """A function (frames_BTD, len_B) -> tokens_BL that writes captions by beam search."""
        options = {"ids": Ids(special.bos, special.eos, special.pad), "beams": beams, "max_length": tokens}
        caption = jax.jit(lambda params, x_BTD, len_B: self.apply(params, x_BTD, len_B, method="caption", **options))
        return functools.partial(caption, self.params)


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
    saved: FitState | None = None,
) -> Fitted:
    """Trains the text side that ``objective`` needs (a text tower, a decoder or both) and keeps its best state.

    Args:
      model: sizes of the text side; the audio width comes from the frames.
      steps: steps of AdamW on BATCH clips each, with a cosine schedule.
      start: part (``text``, for instance) -> its initial parameters; the other parts start at random.
      only: train only parameters with this name on their path; empty trains all of them.
      seed: for initial values, batches and the choice among a clip's captions.
      saved: as in ``fit``.

    Raises:
      ValueError: ``start`` has a part that the text side lacks, or one of another shape.
    """
    width = data.frames(np.array([0]))[0].shape[2]
    init, apply = functionalize(
        lambda rngs: FrameTextModel(model, sides_of(objective), width, temperature=objective.temperature, rngs=rngs)
    )
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    # as the first step returns them: otherwise the second compiles the program again
    params = jax.device_put(_started(jax.jit(init)(jax.random.key(seed)), start or {}), replicated(mesh))
    parts = make_objective(objective, tokens, mesh)
    optimizer = _text_optimizer(params, steps, only)

    def loss(params, batch, key):
        objective_key, *side_keys = jax.random.split(key, 3)
        inputs = parts.prepare(batch, objective_key)
        outputs = apply(params, batch["frames"], batch["frames_len"], inputs, *side_keys, method="compare")
        return parts.loss(outputs, inputs, batch)[0]

    @jax.jit
    def step(params, state, batch, key):
        updates, state = optimizer.update(jax.grad(loss)(params, batch, key), state, params)
        return optax.apply_updates(params, updates), state

    # The key never changes: what the objective draws is the same at every look, so that looks differ in the parameters
    # alone. A new key each time would let noise pick the state.
    @jax.jit
    def measured(params, batch):
        """The mean loss of a batch, and over how much it is a mean: tokens of captions, or clips."""
        inputs = parts.prepare(batch, jax.random.key(0))
        outputs = apply(params, batch["frames"], batch["frames_len"], inputs, method="compare")
        counted = jnp.sum(batch["mask"] * inputs.get("decoder_len_B", 1))
        return parts.loss(outputs, inputs, batch)[0], counted

    make = _batcher(data, tokens.pad)
    fitted, held = np.flatnonzero(~data.held), np.flatnonzero(data.held)

    def held_loss(params) -> float:
        found = [measured(params, make(held[i : i + BATCH])) for i in range(0, len(held), BATCH)]
        return float(sum(float(loss) * float(count) for loss, count in found) / sum(float(n) for _, n in found))

    def update(params, state, numbered: tuple[int, np.ndarray]):
        number, some = numbered
        # keyed by the step, so that a fit that goes on draws what it would have drawn
        batch = make(some, np.random.default_rng([seed, number]))
        return step(params, state, batch, jax.random.fold_in(jax.random.key(seed), number))

    kept = fit(
        update,
        params,
        jax.device_put(optimizer.init(params), replicated(mesh)),
        enumerate(permuted(np.random.default_rng(seed + 1), fitted, BATCH), 1),
        steps=steps,
        look=held_loss,
        looks=evenly(steps, LOOKS),
        label=f"align {objective.name}",
        saved=saved,
    )
    return Fitted(apply, kept.params, {"selection_loss": kept.loss, "step": kept.step, "steps": steps})


def _text_optimizer(params: dict, steps: int, only: str) -> optax.GradientTransformation:
    rate = optax.warmup_cosine_decay_schedule(0.0, RATE, max(1, round(WARMUP * steps)), steps)
    # the clip comes first: behind AdamW it would bound the update, and one huge gradient would stay in the moments
    optimizer = optax.chain(
        optax.clip_by_global_norm(CLIP_NORM), optax.adamw(rate, b2=0.98, weight_decay=DECAY, mask=decay_mask)
    )
    if only:
        # the whole chain is wrapped, so the clipped norm is that of the trained parameters, and the others do not decay
        learns = jax.tree_util.tree_map_with_path(lambda path, _: f"'{only}'" in jax.tree_util.keystr(path), params)
        labels = jax.tree.map(lambda yes: "learns" if yes else "stays", learns)
        optimizer = optax.multi_transform({"learns": optimizer, "stays": optax.set_to_zero()}, labels)
    return optimizer


def text_steps(config: EvalConfig, held: np.ndarray) -> int:
    """Steps of ``fit_text_side`` on the clips that are not ``held``, as the settings have it."""
    return FitSchedule.of(int((~held).sum()), config.lit_epochs, config.lit_steps, BATCH, BATCH, looks=LOOKS).steps


def in_batches(call: Callable[[np.ndarray, np.ndarray], Any], frames: Frames, clips: int) -> np.ndarray:
    """``call(frames_BTD, len_B)`` of clips 0 to ``clips - 1``, always in batches of BATCH rows, joined."""
    parts = []
    for first in range(0, clips, BATCH):
        x_NTD, len_N = frames(np.arange(first, min(first + BATCH, clips)))
        missing = BATCH - len(x_NTD)
        # padding rows repeat the last length: with length 0, ``call`` would have to cope with clips without frames
        padded = np.pad(x_NTD, [(0, missing), (0, 0), (0, 0)]), np.pad(len_N, (0, missing), mode="edge")
        parts.append(np.asarray(call(*padded))[: len(x_NTD)])
    return np.concatenate(parts)


def _started(params: dict, start: dict) -> dict:
    for name, part in start.items():
        if name not in params:
            raise ValueError(f"the text side has no part {name!r}")
        have, need = (jax.tree.map(jnp.shape, tree) for tree in (part, params[name]))
        if have != need:
            raise ValueError(f"the start of {name!r} has shapes that differ from those of the configuration")
    return {**params, **{name: jax.tree.map(jnp.asarray, part) for name, part in start.items()}}


def _batcher(data: Captioned, pad: int) -> Callable[..., dict[str, np.ndarray]]:
    """(clips, rng) -> a batch of BATCH rows, always of one shape; ``rng`` draws a caption per clip, else the first."""
    longest = max(len(ids) for captions in data.ids for ids in captions)

    def make(clips: np.ndarray, rng: np.random.Generator | None = None) -> dict[str, np.ndarray]:
        frames_NTD, frames_len_N = data.frames(clips)
        text_BL, text_len_B = np.full((BATCH, longest), pad, np.int32), np.zeros(BATCH, np.int32)
        # padding rows get groups and recordings of their own, all negative: with 0 they would share those of a real row
        group_B = -1 - np.arange(BATCH, dtype=np.int32)
        recording_B = group_B.copy()
        # a set of fewer clips than a batch has rows repeats them: their captions are not each other's negatives
        recording_B[: len(clips)] = clips
        for i, clip in enumerate(clips):
            chosen = 0 if rng is None else int(rng.integers(len(data.ids[clip])))
            ids = data.ids[clip][chosen]
            text_BL[i, : len(ids)], text_len_B[i], group_B[i] = ids, len(ids), data.groups[clip][chosen]
        missing = BATCH - len(clips)
        return {
            "frames": np.pad(frames_NTD, [(0, missing), (0, 0), (0, 0)]),
            "frames_len": np.pad(frames_len_N, (0, missing)).astype(np.int32),
            "text": text_BL,
            "text_len": text_len_B,
            "recording": recording_B,
            "caption_group": group_B,
            "mask": np.arange(BATCH) < len(clips),
        }

    return make
