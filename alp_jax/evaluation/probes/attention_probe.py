"""Probe with multi-head attention pooling over frames, for several settings and seeds at once.

Each head has a learned query, a small key projection and a value projection; the heads' pooled values go through one
linear layer. As in arXiv 2511.16757, it shows how much of a result is lost by averaging the frames. Frames are read
from disk batch by batch, and settings and seeds run side by side as far as the memory budget allows.
"""

import functools
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alp_jax.evaluation.budget import Budget
from alp_jax.evaluation.fit_state import Saves
from alp_jax.evaluation.frozen_fit import Frames, Kept, Schedule, fit, permuted
from alp_jax.evaluation.probes.data import (
    ProbeData,
    answers,
    chunks,
    class_offset,
    losses,
    one_hot,
    pad_to,
    padded_classes,
    score,
)

HEADS, KEY_WIDTH, VALUE_WIDTH = 4, 16, 32
SEEDS = (0, 1, 2)  # for initial values and minibatches
SETTINGS = tuple((lr, decay) for lr in (3e-3, 1e-2) for decay in (1e-2, 1.0))  # AdamW: learning rate, weight decay
BATCH, MOST_BATCH = 64, 512  # clips in a minibatch: of a small set and at most
ROUNDS = 6  # settings are scored on the held-out clips this often, at equal distances
WARMUP = 20  # steps
MAX_FRAME_SCALE = 4.0  # largest deviation of standardised frames
CHUNK = 256  # clips per prediction


def init(rng: np.random.Generator, width: int, classes: int) -> dict[str, np.ndarray]:
    """Parameters of one probe on frames of ``width``: attention starts near the mean, the classifier near zero."""

    def normal(scale: float, *shape: int) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    return {
        "query_HK": normal(0.1, HEADS, KEY_WIDTH),
        "key_DHK": normal(width**-0.5, width, HEADS, KEY_WIDTH),
        "value_DHV": normal(width**-0.5, width, HEADS, VALUE_WIDTH),
        "out_FC": normal(1e-3, HEADS * VALUE_WIDTH, classes),
        "bias_C": np.zeros(classes, np.float32),
    }


def logits(params: dict, frames_BTD: jax.Array, len_B: jax.Array) -> jax.Array:
    """logits_BC from the first ``len_B`` frames of each clip.

    A head has just one query, so (frames @ key) @ query is computed as frames @ (key @ query), and values are projected
    after pooling: the same function, without a key and a value per frame.
    """
    folded_DH = jnp.einsum("dhk,hk->dh", params["key_DHK"], params["query_HK"])
    score_BTH = frames_BTD @ folded_DH
    valid_BT1 = (jnp.arange(frames_BTD.shape[1]) < len_B[:, None])[:, :, None]
    # a finite mask: padding clips have no valid frame, and a softmax over nothing but -inf is NaN
    attention_BTH = jax.nn.softmax(jnp.where(valid_BT1, score_BTH, -1e9), axis=1)
    pooled_BHD = jnp.einsum("bth,btd->bhd", attention_BTH, frames_BTD)
    value_BF = jnp.einsum("bhd,dhv->bhv", pooled_BHD, params["value_DHV"]).reshape(len(len_B), -1)
    return value_BF @ params["out_FC"] + params["bias_C"]


def schedule(clips: int, epochs: float, least: int) -> Schedule:
    """The minibatches of a fit of ``clips``: at least ``least``, and as many as ROUNDS equal rounds have."""
    plan = Schedule.of(clips, epochs, least, BATCH, MOST_BATCH, looks=ROUNDS)
    # rounded up: the last round may run a few steps beyond the schedule, where the rate is near 0
    per_round = -(-plan.steps // ROUNDS)
    return Schedule(plan.steps, plan.batch, tuple(per_round * (k + 1) for k in range(ROUNDS)))


def fit_bytes(frames: int, width: int, num_classes: int, batch: int, own_batches: bool) -> tuple[int, int]:
    """Bytes on a device: those that all fits of a step share, and those of each.

    Args:
      frames: per clip. own_batches: whether every fit has its own minibatches, as seeds have and settings have not.
    """
    batch, classes = max(batch, CHUNK), padded_classes(num_classes)
    read = 4 * 3 * batch * frames * width
    weights = width * HEADS * (KEY_WIDTH + VALUE_WIDTH) + HEADS * VALUE_WIDTH * classes
    each = 4 * (10 * weights + 8 * batch * HEADS * (frames + width) + 6 * batch * classes)
    return (0, each + read) if own_batches else (read, each)


def _optimizer(setting_2: jax.Array, steps: int) -> optax.GradientTransformation:
    """AdamW with warm-up and cosine decay over ``steps``; learning rate and weight decay may be traced values."""

    def rate(count):
        return setting_2[0] * jnp.minimum(1.0, (count + 1) / WARMUP) * 0.5 * (1 + jnp.cos(jnp.pi * count / steps))

    return optax.adamw(rate, b2=0.99, weight_decay=setting_2[1])


@functools.partial(jax.jit, static_argnames=("multi", "steps"))
def step(carry_G, setting_G2, batch, given, *, multi: bool, steps: int):
    """One step of every probe; ``batch`` is (frames_BTD, len_B, target), shared by all of them or [G,...] each.

    ``steps`` is the length of the schedule.
    """

    def one(params, state, setting_2, batch):
        frames_BTD, len_B, target = batch
        onehot_BC = one_hot(target, len(given["offset_C"]))

        def objective(p):
            logits_BC = logits(p, _scaled(frames_BTD, given), len_B)
            return jnp.mean(losses(logits_BC + given["offset_C"], onehot_BC, multi))

        update, state = _optimizer(setting_2, steps).update(jax.grad(objective)(params), state, params)
        return optax.apply_updates(params, update), state

    return jax.vmap(one, (0, 0, 0, 0 if batch[0].ndim == 4 else None))(*carry_G, setting_G2, batch)


@jax.jit
def predict(params_G, frames_BTD, len_B, given):
    """logits_GBC of every probe."""
    return jax.vmap(lambda params: logits(params, _scaled(frames_BTD, given), len_B))(params_G)


def _scaled(frames_BTD: jax.Array, given: dict) -> jax.Array:
    return (frames_BTD - given["mean_D"]) * given["scale_D"]


def _answers(params_G, read: Frames, rows: np.ndarray, given: dict, num_classes: int, multi: bool) -> np.ndarray:
    """int32[G,N], the likeliest classes, or logits_GNC if ``multi``; in chunks of one shape, for one program."""
    parts = []
    for at in chunks(rows, CHUNK):
        frames_NTD, len_N = read(at)
        logits_GBC = predict(params_G, pad_to(frames_NTD, CHUNK), pad_to(len_N, CHUNK), given)
        logits_GNC = np.asarray(logits_GBC)[:, : len(at), :num_classes]
        parts.append(logits_GNC if multi else answers(logits_GNC))
    return np.concatenate(parts, axis=1)


def frame_moments(read: Frames, clips: int) -> tuple[np.ndarray, np.ndarray]:
    """(mean_D, scale_D) float32: of all valid frames the mean, and what scales clips' means to a deviation of 1.

    Means over clips vary less than single frames do, so scaling by the frames would leave the classifier, which sees
    near-means at first, with small inputs that it learns last. The scale is bounded: a feature that varies between
    frames but hardly between clips would explode otherwise.
    """
    count, sums, squares, means = 0, 0.0, 0.0, []
    for at in chunks(np.arange(clips), CHUNK):
        frames_NTD, len_N = read(at)
        valid_NT = np.arange(frames_NTD.shape[1]) < len_N[:, None]
        frames_MD = frames_NTD[valid_NT].astype(np.float64)
        count, sums, squares = count + len(frames_MD), sums + frames_MD.sum(0), squares + (frames_MD**2).sum(0)
        of_clips = np.where(valid_NT[:, :, None], frames_NTD, 0).sum(1) / np.maximum(len_N, 1)[:, None]
        means.append((len(at), of_clips.mean(0, np.float64), (of_clips.astype(np.float64) ** 2).sum(0)))
    mean_D = sums / count
    clip_mean_D = sum(n * mean for n, mean, _ in means) / clips
    clip_std_D = np.sqrt(np.maximum(sum(square for *_, square in means) / clips - clip_mean_D**2, 0))
    frame_std_D = np.sqrt(np.maximum(squares / count - mean_D**2, 0))
    scale_D = 1 / np.maximum(np.maximum(clip_std_D, frame_std_D / MAX_FRAME_SCALE), 1e-6)
    return mean_D.astype(np.float32), scale_D.astype(np.float32)


def attention_probe(
    data: ProbeData, *, epochs: float, least: int, budget: Budget, saves: Saves
) -> tuple[np.ndarray, dict]:
    """Trains every setting without the held-out rows, which then select a setting and a stopping point.

    The selected setting is trained for as long on all training rows, once for each of SEEDS. Equal inputs give equal
    results on one machine.

    Args:
      epochs, least: passes over the training clips, and the fewest steps.
      saves: keeps the states of fits, so that they can go on.

    Returns:
      What the test rows get, one set per seed (int32[S,N], the class; for a multi-label task float32[S,N,C] logits),
      and what was selected.

    Raises:
      UserError: the memory budget of a device is too small for a single probe.
    """
    offset_C, every, held = class_offset(data.num_classes), np.arange(len(data.held)), np.flatnonzero(data.held)
    own = np.flatnonzero(~data.held)
    mean_D, scale_D = frame_moments(data.train, len(every))
    given = {"mean_D": mean_D, "scale_D": scale_D, "offset_C": offset_C}
    plan = schedule(len(own), epochs, least)
    frames = data.train(every[:1])[0].shape[1]

    def side_by_side(fits: int, own_batches: bool) -> int:
        sizes = fit_bytes(frames, len(mean_D), data.num_classes, plan.batch, own_batches)
        return budget.side_by_side(fits, *sizes)

    def start(seed: int, among: np.ndarray) -> tuple[dict, Iterator[np.ndarray]]:
        """Initial values for one seed, and its minibatches."""
        rng = np.random.default_rng(seed)
        # initial values are drawn before the first permutation: results depend on the order of the two
        return init(rng, len(mean_D), len(offset_C)), permuted(rng, among, plan.batch)

    def read(at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return (*data.train(at), data.target(at, len(offset_C)))

    def train(params_G, settings: list[tuple[float, float]], batches: Iterator, steps: int, *named, **options) -> Kept:
        """Trains all probes at once; a batch holds clips for all of them, or a row of clips for each."""
        setting_G2 = np.array(settings, np.float32)

        def update(params_G, state_G, at):
            each = [read(row) for row in at] if at.ndim == 2 else None
            batch = tuple(np.stack(part) for part in zip(*each, strict=True)) if each else read(at)
            return step((params_G, state_G), setting_G2, batch, given, multi=data.multi, steps=plan.steps)

        # a schedule, though its value is never used: for a constant rate the state would have no step count and another
        # structure than the optimizer of ``step`` expects
        state_G = jax.vmap(optax.adamw(lambda _: 0.0).init)(params_G)
        saved = saves.of("attention", settings, steps, plan.steps, plan.batch, *named).state()
        options |= {"saved": saved, "label": "attention probe"}
        return fit(update, params_G, state_G, batches, steps=steps, **options)

    def scores(params_G) -> list[float]:
        found = _answers(params_G, data.train, held, given, data.num_classes, data.multi)
        return [score(one, data.train_y[held]) for one in found]

    best, setting = Kept(math.inf, 0, None), SETTINGS[0]
    side = side_by_side(len(SETTINGS), own_batches=False)
    for some in (SETTINGS[first : first + side] for first in range(0, len(SETTINGS), side)):
        # every setting starts from the same values and sees the same minibatches, so that they differ in nothing else
        params, batches = start(SEEDS[0], own)
        params_G = jax.tree.map(lambda x, some=some: np.repeat(x[None], len(some), axis=0), params)
        options = {"look": lambda params_G: -max(scores(params_G)), "looks": plan.looks}
        kept = train(params_G, list(some), batches, plan.looks[-1], **options)
        if kept.loss < best.loss:
            best, setting = kept, some[int(np.argmax(scores(kept.params)))]
    found, side = [], side_by_side(len(SEEDS), own_batches=True)
    for some in (SEEDS[first : first + side] for first in range(0, len(SEEDS), side)):
        starts, orders = zip(*(start(seed, every) for seed in some), strict=True)
        params_S = jax.tree.map(lambda *x: np.stack(x), *starts)
        orders_S = (np.stack(of_seeds) for of_seeds in zip(*orders, strict=True))
        # The same schedule as in the selection, stopped after the same step: a shorter schedule would end at another
        # learning rate than the state that was selected.
        final = train(params_S, [setting] * len(some), orders_S, best.step, some)
        at = np.arange(data.num_test)
        found.append(_answers(final.params, data.test, at, given, data.num_classes, data.multi))
    rate, decay = setting
    selected = {"learning_rate": rate, "weight_decay": decay, "steps": best.step, "seeds": list(SEEDS)}
    return np.concatenate(found), {**selected, "batch": plan.batch, "selection_score": -best.loss}
