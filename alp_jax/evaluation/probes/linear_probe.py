"""Linear probe: logistic regressions with a grid of penalties, of which held-out rows choose one.

Where all of them fit into the memory budget at once they are fitted exactly, by L-BFGS; otherwise in minibatches that
are read from disk, see ``streamed_linear``. Both minimise the same objective.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from alp_jax.evaluation.budget import MemoryBudget
from alp_jax.evaluation.fit_state import Saves
from alp_jax.evaluation.probes.data import (
    ROWS_MULTIPLE,
    ProbeData,
    Reader,
    answers,
    class_offset,
    feature_moments,
    in_chunks,
    losses,
    padded,
    padded_classes,
    score,
)
from alp_jax.evaluation.probes.streamed_linear import Linear, fit_streamed

# the objective adds 0.5 * penalty * |w|^2 to the mean loss; features are standardised
PENALTIES = tuple(10.0**k for k in (-4, -3, -2, -1, 0, 1))
MAX_ITERATIONS = 60
GRADIENT_NORM = 1e-3
CELLS = 1 << 24  # most logits in memory at a time (64 MB)


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


def exact_bytes(rows: int, width: int, num_classes: int) -> tuple[int, int]:
    """Bytes that the exact fits of ``rows`` training clips take: on the host, and on a device, all at once.

    The device holds features and targets, and for every fit about thirty tables of logits and of weights (ten
    steps of L-BFGS with their gradients among them); that the compiled program takes no more is tested.
    """
    rows, classes = padded(rows, ROWS_MULTIPLE), padded_classes(num_classes)
    given = 4 * rows * (width + classes)
    return 2 * given, given + 4 * 2 * len(PENALTIES) * (30 * rows * classes + 30 * (width + 1) * classes)


def is_exact(rows: int, width: int, num_classes: int, budget: MemoryBudget) -> bool:
    """Whether the fits are exact."""
    host, device = exact_bytes(rows, width, num_classes)
    return host <= budget.host and device <= budget.device


def linear_probe(data: ProbeData, *, epochs: float, budget: MemoryBudget, saves: Saves) -> tuple[np.ndarray, dict]:
    """Fits every penalty without the held-out rows, which select one, and that one again with them.

    The largest penalty wins a tie. Deterministic.

    Args:
      epochs: passes over the training rows, where the fit is streamed.
      saves: keeps the state of a streamed fit, so that it can go on.

    Returns:
      What the selected penalty answers on the test rows (int32[N], the class; for a multi-label task float32[N,C]
      logits), and what was selected.
    """
    fitted, selected = fit_linear(data, epochs=epochs, budget=budget, saves=saves)
    return _answers(fitted, data, data.test, np.arange(data.num_test)), selected


def fit_linear(data: ProbeData, *, epochs: float, budget: MemoryBudget, saves: Saves) -> tuple[Linear, dict]:
    """The classifier of ``linear_probe``, and what was selected."""
    width = data.train(np.arange(1)).shape[1]
    if not is_exact(len(data.train_y), width, data.num_classes, budget):
        return fit_streamed(data, tuple(reversed(PENALTIES)), epochs=epochs, budget=budget, saves=saves)
    every = np.arange(len(data.train_y))
    mean_D, scale_D = feature_moments(data.train, every)
    offset_C = class_offset(data.num_classes)
    x_ND = np.zeros((padded(len(every), ROWS_MULTIPLE), width), np.float32)
    onehot_NC = np.zeros((len(x_ND), len(offset_C)), np.float32)
    for at in in_chunks(every):
        x_ND[at] = (data.train(at) - mean_D) * scale_D
        if data.multi:
            onehot_NC[at, : data.num_classes] = data.train_y[at]
        else:
            onehot_NC[at, data.train_y[at]] = 1
    # Rows are left out by a weight of 0, as padding rows are, so that every fit has one shape and they share a program.
    # The first half of G is fitted without the held-out rows, the second with them.
    weight_GN = np.zeros((2 * len(PENALTIES), len(x_ND)), np.float32)
    weight_GN[:, every] = np.repeat([~data.held, np.ones(len(every), bool)], len(PENALTIES), axis=0)
    w_GDC, b_GC = fit_grid(x_ND, onehot_NC, weight_GN, np.array(PENALTIES * 2, np.float32), offset_C, data.multi)
    w_GDC, b_GC = np.asarray(w_GDC)[..., : data.num_classes], np.asarray(b_GC)[:, : data.num_classes]
    fits = [Linear(mean_D, scale_D, w_DC, b_C) for w_DC, b_C in zip(w_GDC, b_GC, strict=True)]
    held = np.flatnonzero(data.held)
    scores = [score(_answers(fits[g], data, data.train, held), data.train_y[held]) for g in range(len(PENALTIES))]
    best = max(range(len(PENALTIES)), key=lambda g: (scores[g], PENALTIES[g]))
    # the same penalty, fitted to the held-out rows too
    return fits[best + len(PENALTIES)], {"penalty": PENALTIES[best], "selection_score": scores[best]}


def _answers(fitted: Linear, data: ProbeData, read: Reader, rows: np.ndarray) -> np.ndarray:
    """int32[N], the likeliest classes of ``rows``, or logits_NC of a multi-label task."""
    parts = []
    for at in in_chunks(rows, max(1, CELLS // data.num_classes)):
        logits_NC = fitted.logits(read(at))
        parts.append(logits_NC if data.multi else answers(logits_NC))
    return np.concatenate(parts)
