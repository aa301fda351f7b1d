"""Probe with multi-head attention pooling over frames, for several settings and seeds at once.

Each head has a learned query, a small key projection and a value projection; the heads' pooled values go through one
linear layer. As in arXiv 2511.16757, it shows how much of a result is lost by averaging the frames.
"""

import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alp_jax.evaluation.frozen_fit import Kept, fit, permuted
from alp_jax.evaluation.probes.linear_probe import ROWS_MULTIPLE, ProbeData, class_offset, losses, pad_to, padded, score

HEADS, KEY_WIDTH, VALUE_WIDTH = 4, 16, 32
SEEDS = (0, 1, 2)  # for initial values and minibatches
SETTINGS = tuple((lr, decay) for lr in (3e-3, 1e-2) for decay in (1e-2, 1.0))  # AdamW: learning rate, weight decay
BATCH = 64
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


def _optimizer(setting_2: jax.Array, steps: int) -> optax.GradientTransformation:
    """AdamW with warm-up and cosine decay over ``steps``; learning rate and weight decay may be traced values."""

    def rate(count):
        return setting_2[0] * jnp.minimum(1.0, (count + 1) / WARMUP) * 0.5 * (1 + jnp.cos(jnp.pi * count / steps))

    return optax.adamw(rate, b2=0.99, weight_decay=setting_2[1])


@functools.partial(jax.jit, static_argnames="steps")
def _round(carry_G, setting_G2, frames_NTD, len_N, onehot_NC, chosen, offset_C, multi, steps: int):
    """One step per minibatch of rows in ``chosen``: [R,B] shared by all probes, or [G,R,B].

    ``steps`` is the length of the whole schedule, not of the round: the state counts on from round to round.
    """

    def one(params, state, setting_2, chosen_RB):
        optimizer = _optimizer(setting_2, steps)

        def step(carry, chosen_B):
            params, state = carry

            def objective(p):
                logits_BC = logits(p, frames_NTD[chosen_B], len_N[chosen_B])
                return jnp.mean(losses(logits_BC + offset_C, onehot_NC[chosen_B], multi))

            update, state = optimizer.update(jax.grad(objective)(params), state, params)
            return (optax.apply_updates(params, update), state), None

        return jax.lax.scan(step, (params, state), chosen_RB)[0]

    return jax.vmap(one, (0, 0, 0, 0 if chosen.ndim == 3 else None))(*carry_G, setting_G2, chosen)


@jax.jit
def _predict(params_G, frames_BTD, len_B):
    return jax.vmap(lambda params: logits(params, frames_BTD, len_B))(params_G)


def _predict_all(params_G, frames_NTD: np.ndarray, len_N: np.ndarray) -> np.ndarray:
    """logits_GNC, in chunks of one shape so that one program serves them all."""
    chunks = []
    for start in range(0, len(len_N), CHUNK):
        part = slice(start, start + CHUNK)
        chunks.append(np.asarray(_predict(params_G, pad_to(frames_NTD[part], CHUNK), pad_to(len_N[part], CHUNK))))
    return np.concatenate(chunks, axis=1)[:, : len(len_N)]


def _standardise(train_NTD, train_len_N, test_NTD):
    """Both with mean 0 over the valid training frames, and scaled so that the clips' means have deviation 1.

    Means over clips vary less than single frames do, so scaling by the frames would leave the classifier, which sees
    near-means at first, with small inputs that it learns last. The scale is bounded: a feature that varies between
    frames but hardly between clips would explode otherwise.
    """
    valid_NT = np.arange(train_NTD.shape[1]) < train_len_N[:, None]
    frames = train_NTD[valid_NT]
    clip_means = np.where(valid_NT[:, :, None], train_NTD, 0).sum(1) / np.maximum(train_len_N, 1)[:, None]
    deviation = np.maximum(clip_means.std(0), frames.std(0) / MAX_FRAME_SCALE)
    scale = 1 / np.maximum(deviation, 1e-6)
    return (train_NTD - frames.mean(0)) * scale, (test_NTD - frames.mean(0)) * scale


def attention_probe(
    data: ProbeData, train_len_N: np.ndarray, test_len_N: np.ndarray, *, steps: int
) -> tuple[np.ndarray, dict]:
    """Trains every setting without the held-out rows, which then select a setting and a stopping point.

    The selected setting is trained for as long on all training rows, once for each of SEEDS. ``data.train_x`` and
    ``data.test_x`` are frames [N,T,D], valid up to the given lengths. Equal inputs give equal results on one machine.

    Returns:
      logits_SNC float32 of the test rows, one set per seed, and what was selected.
    """
    train_NTD, test_NTD = _standardise(data.train_x, train_len_N, data.test_x)
    rows, offset_C = padded(len(train_NTD), ROWS_MULTIPLE), class_offset(data.num_classes)
    # rounded up: the last round may run a few steps beyond the schedule, where the rate is near 0
    per_round = -(-steps // ROUNDS)
    frames_NTD, len_N = jnp.asarray(pad_to(train_NTD, rows)), jnp.asarray(pad_to(train_len_N, rows))
    onehot_NC = jnp.asarray(pad_to(data.onehot, rows, len(offset_C)))

    def start(seed: int, among: np.ndarray) -> tuple[dict, Iterator[np.ndarray]]:
        """Initial values for one seed, and its minibatches [R,B] of every round."""
        rng = np.random.default_rng(seed)
        # initial values are drawn before the first permutation: results depend on the order of the two
        params, clips = init(rng, train_NTD.shape[2], len(offset_C)), permuted(rng, among, BATCH)
        return params, (np.stack(list(itertools.islice(clips, per_round))) for _ in range(ROUNDS))

    def train(params_G, setting_G2: np.ndarray, orders: Iterator[np.ndarray], rounds: int, **options) -> Kept:
        """Trains all probes at once; a step of ``fit`` is a round."""

        def update(params_G, state_G, chosen):
            chosen = jnp.asarray(chosen, jnp.int32)
            carry = params_G, state_G
            return _round(carry, setting_G2, frames_NTD, len_N, onehot_NC, chosen, offset_C, data.multi, steps)

        # a schedule, though its value is never used: for a constant rate the state would have no step count and another
        # structure than the optimizer of ``_round`` expects
        state_G = jax.vmap(optax.adamw(lambda _: 0.0).init)(params_G)
        return fit(update, params_G, state_G, orders, steps=rounds, **options)

    held_NTD, held_len_N, held_y = train_NTD[data.held], train_len_N[data.held], data.train_y[data.held]
    best_setting: dict[float, int] = {}

    def look(params_G) -> float:
        """Minus the best score of any setting, as ``fit`` keeps the lowest."""
        logits_GNC = _predict_all(params_G, held_NTD, held_len_N)[..., : data.num_classes]
        scores = [score(logits_NC, held_y) for logits_NC in logits_GNC]
        best_setting.setdefault(-max(scores), int(np.argmax(scores)))  # of equal scores the earliest round counts
        return -max(scores)

    params, orders = start(SEEDS[0], np.flatnonzero(~data.held))
    # every setting starts from the same values and sees the same minibatches, so that they differ in nothing else
    params_G = jax.tree.map(lambda x: np.repeat(x[None], len(SETTINGS), axis=0), params)
    looks = range(1, ROUNDS + 1)
    kept = train(params_G, np.array(SETTINGS, np.float32), orders, ROUNDS, look=look, looks=looks)
    setting = SETTINGS[best_setting[kept.loss]]
    starts, orders = zip(*(start(seed, np.arange(len(train_NTD))) for seed in SEEDS), strict=True)
    params_S = jax.tree.map(lambda *x: np.stack(x), *starts)
    orders_S = (np.stack(of_seeds) for of_seeds in zip(*orders, strict=True))
    # The same schedule of ``steps`` as in the selection, stopped after the same round: a shorter schedule would end at
    # another learning rate than the state that was selected.
    final = train(params_S, np.array([setting] * len(SEEDS), np.float32), orders_S, kept.step)
    logits_SNC = _predict_all(final.params, test_NTD, test_len_N)[..., : data.num_classes]
    rate, decay = setting
    selected = {"learning_rate": rate, "weight_decay": decay, "steps": kept.step * per_round, "seeds": list(SEEDS)}
    return logits_SNC, {**selected, "selection_score": -kept.loss}
