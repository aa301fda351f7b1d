"""Probe with multi-head attention pooling over frames, for several settings and seeds at once.

Each head has a learned query, a small key projection and a value projection; the heads' pooled values go through one
linear layer. This is the control of arXiv 2511.16757 for what mean pooling hides.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alp_jax.evaluation.probe import ROWS_MULTIPLE, ProbeData, class_offset, losses, pad_to, padded, score

HEADS, KEY_WIDTH, VALUE_WIDTH = 4, 16, 32
SETTINGS = tuple((lr, decay) for lr in (3e-3, 1e-2) for decay in (1e-2, 1.0))  # AdamW: learning rate, weight decay
BATCH = 64
ROUNDS = 6  # selection looks at the settings this often, at equal distances
DROPOUT = 0.2  # of the pooled values
WARMUP = 20  # steps
CHUNK = 256  # clips per prediction


def init(key: jax.Array, width: int, classes: int) -> dict[str, jax.Array]:
    """Parameters of one probe on frames of ``width``: attention starts near the mean, the classifier near zero."""
    queries, keys, values, output = jax.random.split(key, 4)
    return {
        "query_HK": jax.random.normal(queries, (HEADS, KEY_WIDTH)) * 0.1,
        "key_DHK": jax.random.normal(keys, (width, HEADS, KEY_WIDTH)) * width**-0.5,
        "value_DHV": jax.random.normal(values, (width, HEADS, VALUE_WIDTH)) * width**-0.5,
        "out_FC": jax.random.normal(output, (HEADS * VALUE_WIDTH, classes)) * 1e-3,
        "bias_C": jnp.zeros(classes),
    }


def logits(params: dict, frames_BTD: jax.Array, len_B: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """logits_BC; ``key`` turns dropout on.

    A query meets every key of its head, so (frames @ key) @ query is computed as frames @ (key @ query), and values
    are projected after pooling: the same function, without a key and a value per frame.
    """
    folded_DH = jnp.einsum("dhk,hk->dh", params["key_DHK"], params["query_HK"]) * KEY_WIDTH**0.5
    score_BTH = frames_BTD @ folded_DH
    valid_BT1 = (jnp.arange(frames_BTD.shape[1]) < len_B[:, None])[:, :, None]
    attention_BTH = jax.nn.softmax(jnp.where(valid_BT1, score_BTH, -1e9), axis=1)
    pooled_BHD = jnp.einsum("bth,btd->bhd", attention_BTH, frames_BTD)
    value_BF = jnp.einsum("bhd,dhv->bhv", pooled_BHD, params["value_DHV"]).reshape(len(len_B), -1)
    if key is not None:
        keep_BF = jax.random.bernoulli(key, 1 - DROPOUT, value_BF.shape)
        value_BF = jnp.where(keep_BF, value_BF / (1 - DROPOUT), 0.0)
    return value_BF @ params["out_FC"] + params["bias_C"]


def _optimizer(setting_2: jax.Array, steps: int) -> optax.GradientTransformation:
    """AdamW with warm-up and cosine decay over ``steps``; rate and decay may be traced."""

    def rate(count):
        return setting_2[0] * jnp.minimum(1.0, (count + 1) / WARMUP) * 0.5 * (1 + jnp.cos(jnp.pi * count / steps))

    return optax.adamw(rate, b2=0.99, weight_decay=setting_2[1])


@functools.partial(jax.jit, static_argnames=("steps", "width", "classes"))
def _start(key_G, setting_G2, steps: int, width: int, classes: int):
    params_G = jax.vmap(lambda key: init(key, width, classes))(key_G)
    return params_G, jax.vmap(lambda params, setting: _optimizer(setting, steps).init(params))(params_G, setting_G2)


@functools.partial(jax.jit, static_argnames="steps")
def _round(carry_G, setting_G2, frames_NTD, len_N, onehot_NC, order_SB, key, offset_C, multi, steps: int):
    """One step per row of ``order_SB``, every setting on the same minibatches; ``steps`` is the whole schedule."""

    def one(params, state, setting_2):
        optimizer = _optimizer(setting_2, steps)

        def step(carry, inputs):
            (params, state), (chosen_B, number) = carry, inputs

            def objective(p):
                logits_BC = logits(p, frames_NTD[chosen_B], len_N[chosen_B], jax.random.fold_in(key, number))
                return jnp.mean(losses(logits_BC + offset_C, onehot_NC[chosen_B], multi))

            update, state = optimizer.update(jax.grad(objective)(params), state, params)
            return (optax.apply_updates(params, update), state), None

        return jax.lax.scan(step, (params, state), (order_SB, jnp.arange(len(order_SB))))[0]

    return jax.vmap(one)(*carry_G, setting_G2)


@jax.jit
def _predict(params_G, frames_BTD, len_B):
    return jax.vmap(lambda params: logits(params, frames_BTD, len_B))(params_G)


def _predict_all(params_G, frames_NTD: np.ndarray, len_N: np.ndarray) -> np.ndarray:
    """logits_GNC in chunks of one shape."""
    chunks = []
    for start in range(0, len(len_N), CHUNK):
        part = slice(start, start + CHUNK)
        chunks.append(np.asarray(_predict(params_G, pad_to(frames_NTD[part], CHUNK), pad_to(len_N[part], CHUNK))))
    return np.concatenate(chunks, axis=1)[:, : len(len_N)]


def _standardise(train_NTD, train_len_N, test_NTD):
    """Both with mean 0 and deviation 1 over the valid training frames."""
    valid_NT = np.arange(train_NTD.shape[1]) < train_len_N[:, None]
    mean, scale = train_NTD[valid_NT].mean(0), 1 / np.maximum(train_NTD[valid_NT].std(0), 1e-6)
    return (train_NTD - mean) * scale, (test_NTD - mean) * scale


def attention_probe(
    data: ProbeData, train_len_N: np.ndarray, test_len_N: np.ndarray, *, steps: int, seed: int = 0
) -> tuple[np.ndarray, dict]:
    """Trains every setting on the rows that are not held out; setting and stopping point are selected on those that are.

    ``data.train_x`` and ``data.test_x`` are frames [N,T,D] of which the given lengths are valid. Equal inputs and seed
    give equal results on one machine.

    Returns:
      logits_NC float32 of the test rows, and what was selected.
    """
    train_NTD, test_NTD = _standardise(data.train_x, train_len_N, data.test_x)
    rows, offset_C = padded(len(train_NTD), ROWS_MULTIPLE), class_offset(data.num_classes)
    setting_G2 = np.array(SETTINGS, np.float32)
    rng, key = np.random.default_rng(seed), jax.random.key(seed)
    fit_rows, per_round = np.flatnonzero(~data.held), -(-steps // ROUNDS)
    need = ROUNDS * per_round * BATCH
    order = np.concatenate([rng.permutation(fit_rows) for _ in range(-(-need // len(fit_rows)))])[:need]
    order_RSB = order.reshape(ROUNDS, per_round, BATCH).astype(np.int32)
    carry_G = _start(jax.random.split(key, len(SETTINGS)), setting_G2, steps, train_NTD.shape[2], len(offset_C))
    frames_NTD, len_N = jnp.asarray(pad_to(train_NTD, rows)), jnp.asarray(pad_to(train_len_N, rows))
    onehot_NC = jnp.asarray(pad_to(data.onehot, rows, len(offset_C)))
    held_NTD, held_len_N, held_y = train_NTD[data.held], train_len_N[data.held], data.train_y[data.held]
    best, chosen = (-np.inf,), None
    for number, order_SB in enumerate(order_RSB):
        round_key = jax.random.fold_in(key, number)
        carry_G = _round(
            carry_G, setting_G2, frames_NTD, len_N, onehot_NC, order_SB, round_key, offset_C, data.multi, steps
        )
        logits_GNC = _predict_all(carry_G[0], held_NTD, held_len_N)[..., : data.num_classes]
        values = [score(logits_NC, held_y) for logits_NC in logits_GNC]
        if max(values) > best[0]:
            g = int(np.argmax(values))
            best, chosen = (values[g], g, (number + 1) * per_round), carry_G[0]
    value, g, stopped = best
    logits_NC = _predict_all(chosen, test_NTD, test_len_N)[g, :, : data.num_classes]
    rate, decay = SETTINGS[g]
    return logits_NC, {"learning_rate": rate, "weight_decay": decay, "steps": stopped, "selection_score": value}
