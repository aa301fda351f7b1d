"""Linear probe: logistic regression by L-BFGS, for a grid of penalties at once; held-out rows choose the penalty."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alp_jax.evaluation.stats.metrics import mean_average_precision, standardise

# the objective adds 0.5 * penalty * |w|^2 to the mean loss; features are standardised
PENALTIES = tuple(10.0**k for k in (-4, -3, -2, -1, 0, 1))
MAX_ITERATIONS = 60
GRADIENT_NORM = 1e-3
ROWS_MULTIPLE, CLASSES_MULTIPLE = 512, 32  # sizes are padded up to these, so that tasks share compiled programs
_ABSENT = -1e9  # logit of a padding class


@dataclasses.dataclass(frozen=True)
class ProbeData:
    """The data of a probe.

    Attributes:
      train_x, test_x: float32[N,...] features.
      train_y: int32[N] classes, or float32[N,C] with 1 for each label of a multi-label task.
      held: bool[N], training rows that only select settings.
      num_classes: C.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    held: np.ndarray
    test_x: np.ndarray
    num_classes: int

    @property
    def multi(self) -> bool:
        """Whether a clip may have several labels."""
        return self.train_y.ndim == 2

    @property
    def onehot(self) -> np.ndarray:
        """``train_y`` as float32[N,C]."""
        return self.train_y if self.multi else np.eye(self.num_classes, dtype=np.float32)[self.train_y]


def padded(size: int, multiple: int) -> int:
    """The smallest product of ``multiple`` and a power of two that is at least ``size``."""
    while multiple < size:
        multiple *= 2
    return multiple


def pad_to(array: np.ndarray, *sizes: int) -> np.ndarray:
    """``array`` with its leading axes padded with zeros to ``sizes``."""
    widths = [(0, size - have) for size, have in zip(sizes, array.shape, strict=False)]
    return np.pad(array, widths + [(0, 0)] * (array.ndim - len(widths)))


def class_offset(num_classes: int) -> np.ndarray:
    """What to add to logits so that padding classes are never chosen; float32[padded C]."""
    total = padded(num_classes, CLASSES_MULTIPLE)
    return np.where(np.arange(total) < num_classes, 0.0, _ABSENT).astype(np.float32)


def losses(logits_NC: jax.Array, onehot_NC: jax.Array, multi) -> jax.Array:
    """loss_N: softmax cross-entropy or, if ``multi``, sigmoid cross-entropy summed over classes."""
    # where instead of *: nothing of a padding class, whose log-probability is near -1e9, enters the sum or its gradient
    one = -jnp.sum(jnp.where(onehot_NC > 0, onehot_NC * jax.nn.log_softmax(logits_NC), 0.0), axis=-1)
    many = jnp.sum(jax.nn.softplus(logits_NC) - jnp.where(onehot_NC > 0, onehot_NC * logits_NC, 0.0), axis=-1)
    return jnp.where(multi, many, one)


@functools.partial(jax.jit, static_argnames="iterations")
def fit_grid(x_ND, onehot_NC, weight_GN, penalty_G, offset_C, multi, iterations: int = MAX_ITERATIONS):
    """Weighted, penalised logistic regressions, one per row of ``weight_GN`` and ``penalty_G``.

    Regressions run side by side until the slowest ends; one that has converged keeps its state meanwhile.

    Returns:
      (w_GDC, b_GC), float32.
    """

    def one(weight_N, penalty):
        def objective(p):
            loss_N = losses(x_ND @ p["w"] + p["b"] + offset_C, onehot_NC, multi)
            return jnp.sum(loss_N * weight_N) / jnp.sum(weight_N) + 0.5 * penalty * jnp.sum(p["w"] ** 2)

        optimizer = optax.lbfgs()
        value_and_grad = optax.value_and_grad_from_state(objective)

        def step(carry):
            p, state, n, _ = carry
            value, grad = value_and_grad(p, state=state)
            update, state = optimizer.update(grad, state, p, value=value, grad=grad, value_fn=objective)
            return optax.apply_updates(p, update), state, n + 1, optax.global_norm(grad)

        start = {"w": jnp.zeros((x_ND.shape[1], onehot_NC.shape[1])), "b": jnp.zeros(onehot_NC.shape[1])}
        carry = start, optimizer.init(start), 0, jnp.float32(jnp.inf)
        p = jax.lax.while_loop(lambda c: (c[2] < iterations) & (c[3] > GRADIENT_NORM), step, carry)[0]
        return p["w"], p["b"]

    return jax.vmap(one)(weight_GN, penalty_G)


def score(logits_NC: np.ndarray, target: np.ndarray) -> float:
    """The score that selects settings: accuracy, or mean average precision for a multi-label ``target`` [N,C]."""
    if target.ndim == 2:
        value = mean_average_precision(logits_NC, target).value
        return -1.0 if np.isnan(value) else value
    return float((logits_NC.argmax(1) == target).mean())


def linear_probe(data: ProbeData) -> tuple[np.ndarray, dict]:
    """Fits every penalty without the held-out rows and again with them, in one program; the held-out rows select.

    The largest penalty wins a tie. Deterministic.

    Returns:
      logits_NC float32 of the test rows, with the selected penalty fitted to all training rows, and what was selected.
    """
    train_x, test_x = standardise(data.train_x, data.test_x)
    rows = padded(len(train_x), ROWS_MULTIPLE)
    offset_C = class_offset(data.num_classes)
    # Rows are left out by a weight of 0, as padding rows are, so that every fit has one shape and they share a program.
    # The first half of G is fitted without the held-out rows, the second with them.
    weight_GN = np.repeat([~data.held, np.ones(len(data.held), bool)], len(PENALTIES), axis=0).astype(np.float32)
    w_GDC, b_GC = fit_grid(
        pad_to(train_x, rows),
        pad_to(data.onehot, rows, len(offset_C)),
        np.pad(weight_GN, [(0, 0), (0, rows - len(train_x))]),
        np.array(PENALTIES * 2, np.float32),
        offset_C,
        data.multi,
    )
    w_GDC, b_GC = np.asarray(w_GDC)[..., : data.num_classes], np.asarray(b_GC)[:, : data.num_classes]
    held_x, held_y = train_x[data.held], data.train_y[data.held]
    scores = [score(held_x @ w_GDC[g] + b_GC[g], held_y) for g in range(len(PENALTIES))]
    best = max(range(len(PENALTIES)), key=lambda g: (scores[g], PENALTIES[g]))
    refit = best + len(PENALTIES)  # the same penalty, fitted to the held-out rows too
    logits = test_x @ w_GDC[refit] + b_GC[refit]
    return logits, {"penalty": PENALTIES[best], "selection_score": scores[best]}
