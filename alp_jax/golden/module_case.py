"""What cases of modules share: names, axes, recorded draws, and forward and backward passes in one program."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.golden.case import Case
from alp_jax.golden.compare import GRADIENT, MODULE_FORWARD, MODULE_GRADIENT, Line, compare, compare_gradient
from alp_jax.interop.formats.names import from_torch, to_torch
from alp_jax.models.functional import functionalize, outline
from alp_jax.models.regularisers import DrawCounts, Draws, count_draws

Inputs = dict[str, jax.Array]


class Recorded(Draws):
    """Draws of 0 for decisions, so that any probability above 0 acts, and of 1 for drops, so that nothing is dropped.

    Args:
      counts: of the module that is run.
      num_clips: of the batch.
      clips_NB: recorded per-clip draws instead.
      mask: a recorded dropout mask instead.
    """

    def __init__(self, counts: DrawCounts, batch_count: float = 0.0, *, num_clips=1, clips_NB: Any = None, mask=None):
        self._mask = mask
        clips_NB = jnp.ones((counts.clips, num_clips)) if clips_NB is None else jnp.asarray(clips_NB)
        scalars_N, whitening_N = jnp.zeros(counts.scalars), jnp.ones(counts.whitenings)
        channels_BC = jnp.ones((num_clips, counts.channels))
        super().__init__(jax.random.key(0), batch_count, scalars_N, clips_NB, channels_BC, whitening_N)

    def draw_channels(self, width: int) -> jax.Array:
        """The recorded mask [B,width], or ones."""
        return super().draw_channels(width) if self._mask is None else self._mask.reshape(-1, width)

    def draw_mask(self, shape: tuple[int, ...]) -> jax.Array:
        """Ones: nothing is dropped."""
        return jnp.ones(shape)


def swap(x: jax.Array) -> jax.Array:
    """(time, clips, ...) to (clips, time, ...) and back."""
    return jnp.swapaxes(x, 0, 1)


def check_function(
    case: Case,
    run: Callable[[Any, Inputs], jax.Array],
    params: Any = None,
    names: Callable[[Any], dict[str, Any]] = lambda grads: grads,
    *,
    prefix: str = "",
) -> Iterator[Line]:
    """Output and gradients of ``run(params, inputs by name)``.

    Args:
      params: what ``gradp.*`` are gradients of.
      names: gradients of ``params`` under the reference's names.
      prefix: of the keys in ``io``, for a file that holds two functions.
    """
    io = case.tensors()
    start = f"{prefix}in."
    inputs = {name.removeprefix(start): jnp.asarray(value) for name, value in io.items() if name.startswith(start)}
    upstream = inputs.pop("grad_y")
    moving = {name: x for name, x in inputs.items() if f"{prefix}grad.{name}" in io}

    @jax.jit
    def forward_and_backward(params, moving, upstream):
        y, backward = jax.vjp(lambda params, moving: run(params, {**inputs, **moving}), params, moving)
        return y, *backward(upstream)

    # one program, so that the backward pass belongs to this forward pass and not to a second one
    y, grad_params, grad_inputs = forward_and_backward({} if params is None else params, moving, upstream)
    actual = {f"{prefix}grad.{name}": value for name, value in grad_inputs.items()}
    actual |= {f"{prefix}gradp.{name}": value for name, value in names(grad_params).items()}
    yield compare(case.name, f"{prefix}out.y", y, io[f"{prefix}out.y"], MODULE_FORWARD)
    kinds = (f"{prefix}grad.", f"{prefix}gradp.")
    expected = {name: value for name, value in io.items() if name.startswith(kinds)}
    yield from gradient_lines(case, actual, expected, MODULE_GRADIENT)


def check_module(
    case: Case,
    make: Callable[[Any], Any],
    run: Callable[[Callable, Any, Inputs, DrawCounts], jax.Array],
    ours: str,
    theirs: str,
) -> Iterator[Line]:
    """``check_function`` for a module with the reference's weights.

    Args:
      make: builds the module from a source of keys.
      run: (apply, params, inputs by name, draw_counts) -> output in the reference's axes.
      ours, theirs: where the module sits in our parameter tree (``a/b``) and in the reference's names (``a.b.``).
    """
    init, apply = functionalize(make)
    like = jax.eval_shape(init, jax.random.key(0))
    weights = {f"{theirs}{name}": value for name, value in case.tensors("weights").items()}
    params = _unnest(from_torch(weights, _nest(like, ours), "zipformer"), ours)

    def names(grads):
        return {name.removeprefix(theirs): value for name, value in to_torch(_nest(grads, ours), "zipformer").items()}

    draw_counts = count_draws(outline(make))
    yield from check_function(case, lambda params, inputs: run(apply, params, inputs, draw_counts), params, names)


def gradient_lines(
    case: Case, actual: dict[str, Any], expected: dict[str, np.ndarray], tolerance: float = GRADIENT
) -> Iterator[Line]:
    """One line per gradient of the reference; one of ours that has no counterpart there must be zero."""
    largest = max(float(np.max(np.abs(value), initial=0.0)) for value in expected.values())
    for name in sorted(expected):
        yield compare_gradient(case.name, name, actual.get(name, np.zeros(0)), expected[name], largest, tolerance)
    for name in sorted(actual.keys() - expected.keys()):
        size = np.max(np.abs(np.asarray(actual[name])), initial=0.0)
        yield compare(case.name, f"{name} (not in the reference)", size, np.zeros(()), 0)


def _nest(tree: Any, path: str) -> Any:
    for name in reversed(path.split("/")):
        tree = {name: tree}
    return tree


def _unnest(tree: Any, path: str) -> Any:
    for name in path.split("/"):
        tree = tree[name]
    return tree
