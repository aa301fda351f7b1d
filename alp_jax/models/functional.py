"""The only adapter between ``flax.nnx`` and the rest: a module becomes ``init`` and ``apply`` on nested dictionaries.

No type of nnx leaves this package: parameters are plain nested dictionaries of arrays with string keys (the entries of
a list are named "0", "1", ...), so names are stable and jit, grad, sharding rules and checkpoints see ordinary leaves.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from alp_jax.models.init_prng import ParamKeys


def _plain(tree: Any) -> Any:
    """Nested dictionaries with string keys, from the integer keys that nnx gives to lists."""
    return {str(name): _plain(value) for name, value in tree.items()} if isinstance(tree, dict) else tree


def _lookup(params: dict, path: tuple[str, ...]) -> jax.Array:
    subtree = params
    for name in path:
        if not isinstance(subtree, dict) or name not in subtree:
            raise KeyError(f"parameter {'/'.join(path)} is missing")
        subtree = subtree[name]
    return subtree


def outline(make: Callable[[nnx.Rngs], nnx.Module]) -> nnx.Module:
    """The module that ``make`` builds, with shapes in place of arrays; nothing is computed."""
    return nnx.eval_shape(lambda: make(ParamKeys(jax.random.key(0))))


def functionalize(make: Callable[[nnx.Rngs], nnx.Module]) -> tuple[Callable[[jax.Array], dict], Callable[..., Any]]:
    """Splits the module that ``make`` builds into pure functions.

    Args:
      make: builds the module from a source of keys with the ``params()`` method of ``nnx.Rngs``, which all nnx layers
        with parameters expect; dropout takes its keys at call time instead.

    Returns:
      ``init(key) -> params``, a nested dictionary of arrays; wrap it in ``jax.eval_shape`` for shapes alone.
      ``apply(params, *args, method="__call__", **kw)``, which calls that method of the module holding ``params``.
      It raises KeyError when a parameter is missing from ``params``.
    """
    graph, abstract = nnx.split(outline(make))
    leaves, structure = jax.tree.flatten(abstract)
    paths = [tuple(str(name) for name in path) for path, _ in nnx.to_flat_state(abstract)]
    if len(paths) != len(leaves):
        raise ValueError(f"{type(make).__name__}: {len(leaves)} leaves under {len(paths)} names")

    def init(key: jax.Array) -> dict:
        return _plain(nnx.to_pure_dict(nnx.state(make(ParamKeys(key)))))

    def apply(params: dict, *args, method: str = "__call__", **kw) -> Any:
        state = jax.tree.unflatten(structure, [_lookup(params, path) for path in paths])
        return getattr(nnx.merge(graph, state), method)(*args, **kw)

    return init, apply
