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

from alp_jax.evaluation.budget import MemoryBudget
from alp_jax.evaluation.fit_state import Saves
from alp_jax.evaluation.frozen_fit import FitSchedule, Frames, Kept, fit, permuted
from alp_jax.evaluation.probes.data import (
    ProbeData,
    answers,
    class_offset,
    in_chunks,
    losses,
    one_hot,
    pad_to,
    padded_classes,
    score,
)

HEADS, KEY_WIDTH, VALUE_WIDTH = 4, 16, 32
SEEDS = (0, 1, 2)  # for initial values and minibatches
SETTINGS = tuple((lr, decay) for lr in (3e-3, 1e-2) for decay in (1e-2, 1.0))  # AdamW: learning rate, weight decay
LEAST_BATCH, MOST_BATCH = 64, 512  # clips in a minibatch: of a small set and at most
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


def schedule(clips: int, epochs: float, least: int) -> FitSchedule:
    """The minibatches of a fit of ``clips``: at least ``least``, and as many as ROUNDS equal rounds have."""
    plan = FitSchedule.of(clips, epochs, least, LEAST_BATCH, MOST_BATCH, looks=ROUNDS)
    # rounded up: the last round may run a few steps beyond the schedule, where the rate is near 0
    per_round = -(-plan.steps // ROUNDS)
    return FitSchedule(plan.steps, plan.batch, tuple(per_round * (k + 1) for k in range(ROUNDS)))


def fit_bytes(frames: int, width: int, num_classes: int, batch: int, own_batches: bool) -> tuple[int, int]:
    """Bytes on a device: those that all fits of a step share, and those of each.

    Args:
      frames: per clip. own_batches: whether every fit has its own minibatches: seeds do, settings do not.
    """
    batch, classes = max(batch, CHUNK), padded_classes(num_classes)
    read = 4 * 3 * batch * frames * width
    weights = width * HEADS * (KEY_WIDTH + VALUE_WIDTH) + HEADS * VALUE_WIDTH * classes
    each = 4 * (10 * weights + 8 * batch * HEADS * (frames + width) + 6 * batch * classes)
    return (0, each + read) if own_batches else (read, each)


def host_bytes(frames: int, width: int, batch: int, own_batches: int) -> int:
    """Bytes of the host: the minibatches of a step, stacked, those of the next, and a chunk with what is made of it."""
    return 4 * frames * width * (3 * own_batches * batch + 4 * CHUNK)


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
def clip_logits(params_G, frames_BTD, len_B, given):
    """logits_GBC of every probe."""
    return jax.vmap(lambda params: logits(params, _scaled(frames_BTD, given), len_B))(params_G)


def _scaled(frames_BTD: jax.Array, given: dict) -> jax.Array:
    return (frames_BTD - given["mean_D"]) * given["scale_D"]


def frame_moments(read: Frames, clips: int) -> tuple[np.ndarray, np.ndarray]:
    """(mean_D, scale_D) float32: of all valid frames the mean, and what scales clips' means to a deviation of 1.

    Means over clips vary less than single frames do, so scaling by the frames would leave the classifier, which sees
    near-means at first, with small inputs that it learns last. The scale is bounded: a feature that varies between
    frames but hardly between clips would explode otherwise.
    """
    count, sums, squares, means = 0, 0.0, 0.0, []
    for at in in_chunks(np.arange(clips), CHUNK):
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
    data: ProbeData, *, epochs: float, least: int, budget: MemoryBudget, saves: Saves
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
    probes = _Probes(data, epochs, least, saves)
    best, setting = Kept(math.inf, 0, None), SETTINGS[0]
    side = budget.side_by_side(len(SETTINGS), *probes.fit_bytes(own_batches=False))
    for some in (SETTINGS[first : first + side] for first in range(0, len(SETTINGS), side)):
        kept = probes.select(some)
        if kept.loss < best.loss:
            best, setting = kept, some[int(np.argmax(probes.scores(kept.params)))]
    side = budget.side_by_side(len(SEEDS), *probes.fit_bytes(own_batches=True))
    found = [probes.refit(setting, SEEDS[at : at + side], best.step) for at in range(0, len(SEEDS), side)]
    rate, decay = setting
    selected = {"learning_rate": rate, "weight_decay": decay, "steps": best.step, "seeds": list(SEEDS)}
    return np.concatenate(found), {**selected, "batch": probes.plan.batch, "selection_score": -best.loss}


class _Probes:
    """Attention probes of one task, several trained at once."""

    def __init__(self, data: ProbeData, epochs: float, least: int, saves: Saves):
        self.data, self._saves = data, saves
        self._every, self._own, self._held = np.arange(len(data.held)), *map(np.flatnonzero, (~data.held, data.held))
        self.plan = schedule(len(self._own), epochs, least)
        mean_D, scale_D = frame_moments(data.train, len(self._every))
        self._given = {"mean_D": mean_D, "scale_D": scale_D, "offset_C": class_offset(data.num_classes)}

    def fit_bytes(self, *, own_batches: bool) -> tuple[int, int]:
        """``fit_bytes`` of these frames and classes."""
        frames, width = self.data.train(self._every[:1])[0].shape[1:]
        return fit_bytes(frames, width, self.data.num_classes, self.plan.batch, own_batches)

    def _start(self, seed: int, among: np.ndarray) -> tuple[dict, Iterator[np.ndarray]]:
        """Initial values for one seed, and its minibatches."""
        rng = np.random.default_rng(seed)
        # initial values are drawn before the first permutation: results depend on the order of the two
        params = init(rng, len(self._given["mean_D"]), len(self._given["offset_C"]))
        return params, permuted(rng, among, self.plan.batch)

    def _train(self, params_G, settings: list[tuple[float, float]], batches: Iterator, steps: int, named, **options):
        """Trains all probes at once; a batch holds clips for all of them, or a row of clips for each."""
        setting_G2 = np.array(settings, np.float32)

        def read(at: np.ndarray) -> tuple[np.ndarray, ...]:
            return (*self.data.train(at), self.data.target(at, len(self._given["offset_C"])))

        def update(params_G, state_G, at):
            batch = read(at) if at.ndim == 1 else tuple(map(np.stack, zip(*map(read, at), strict=True)))
            carry_G = params_G, state_G
            return step(carry_G, setting_G2, batch, self._given, multi=self.data.multi, steps=self.plan.steps)

        # a schedule, though its value is never used: for a constant rate the state would have no step count and another
        # structure than the optimizer of ``step`` expects
        state_G = jax.vmap(optax.adamw(lambda _: 0.0).init)(params_G)
        saved = self._saves.of("attention", settings, named, steps, self.plan.steps, self.plan.batch).state()
        options |= {"saved": saved, "label": "attention probe"}
        return fit(update, params_G, state_G, batches, steps=steps, **options)

    def select(self, settings: tuple[tuple[float, float], ...]) -> Kept:
        """Trains ``settings`` without the held-out clips."""
        # every setting starts from the same values and sees the same minibatches, so that they differ in nothing else
        params, batches = self._start(SEEDS[0], self._own)
        params_G = jax.tree.map(lambda x: np.repeat(x[None], len(settings), axis=0), params)
        options = {"look": lambda params_G: -max(self.scores(params_G)), "looks": self.plan.looks}
        return self._train(params_G, list(settings), batches, self.plan.looks[-1], "select", **options)

    def scores(self, params_G) -> list[float]:
        """The score of every probe on the held-out clips."""
        target = self.data.train_y[self._held]
        return [score(found, target) for found in self._answers(params_G, self.data.train, self._held)]

    def refit(self, setting: tuple[float, float], seeds: tuple[int, ...], steps: int) -> np.ndarray:
        """What the test clips get from probes of one setting that learn from all training clips."""
        starts, orders = zip(*(self._start(seed, self._every) for seed in seeds), strict=True)
        params_S = jax.tree.map(lambda *x: np.stack(x), *starts)
        orders_S = (np.stack(of_seeds) for of_seeds in zip(*orders, strict=True))
        # The same schedule as in the selection, stopped after the same step: a shorter schedule would end at another
        # learning rate than the state that was selected.
        final = self._train(params_S, [setting] * len(seeds), orders_S, steps, seeds)
        return self._answers(final.params, self.data.test, np.arange(self.data.num_test))

    def _answers(self, params_G, read: Frames, rows: np.ndarray) -> np.ndarray:
        """int32[G,N], the likeliest classes, or logits_GNC of a multi-label task; one program serves all chunks."""
        parts = []
        for at in in_chunks(rows, CHUNK):
            frames_NTD, len_N = read(at)
            logits_GBC = clip_logits(params_G, pad_to(frames_NTD, CHUNK), pad_to(len_N, CHUNK), self._given)
            logits_GNC = np.asarray(logits_GBC)[:, : len(at), : self.data.num_classes]
            parts.append(logits_GNC if self.data.multi else answers(logits_GNC))
        return np.concatenate(parts, axis=1)
