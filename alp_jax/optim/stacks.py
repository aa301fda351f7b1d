"""Small arrays side by side: an optimiser then runs one kernel for all biases of a size instead of one for each.

A Zipformer-M with a text tower has 937 parameters, of which two thirds hold less than one per cent of the numbers. One
by one they cost more launches on an accelerator, and more time to compile anywhere, than all the others.
"""

import collections
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

# As in alp_jax.parallel.rules, where smaller arrays are whole on every device: side by side they still are.
SMALL = 2**12
_DECAYED = ("kernel", "embedding")


class Stacks:
    """Which leaves of a tree of nested dictionaries go together: small ones of one last name and shape.

    ``join`` gives ``{"whole": the others, "stacked": {name: {shape: (n, *shape)}}}``; ``split`` undoes it.

    Fields:
      size_N: how many numbers each leaf of the tree holds.
    """

    def __init__(self, tree: Any):
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        self._treedef = jax.tree.structure(tree)
        self.size_N = np.array([math.prod(leaf.shape) for _, leaf in leaves])
        self._places: dict[tuple[str, ...], list[int]] = collections.defaultdict(list)
        for i, (path, leaf) in enumerate(leaves):
            names = tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)
            if self.size_N[i] < SMALL:
                names = "stacked", names[-1], "x".join(map(str, leaf.shape)) or "number"
            else:
                names = "whole", *names
            self._places[names].append(i)
        nested = _nest({names: names for names in self._places})
        ordered = jax.tree.leaves(nested, is_leaf=lambda node: isinstance(node, tuple))
        # for every leaf of a joined tree the leaves that it holds: several, or one without an axis for them
        self._members = [
            self._places[names][0] if names[0] == "whole" else np.array(self._places[names]) for names in ordered
        ]
        self._ranks = [len(leaves[np.ravel(who)[0]][1].shape) for who in self._members]

    def join(self, tree: Any) -> dict[str, Any]:
        """The leaves of ``tree``, one of the structure and shapes that this was made of, side by side."""
        leaves = jax.tree.leaves(tree)

        def joined(names, who):
            return leaves[who[0]] if names[0] == "whole" else jnp.stack([leaves[i] for i in who])

        return _nest({names: joined(names, who) for names, who in self._places.items()})

    def split(self, joined: Any) -> Any:
        """The tree whose leaves ``joined`` holds."""
        leaves: list[Any] = [None] * self._treedef.num_leaves
        for array, who in zip(jax.tree.leaves(joined), self._members, strict=True):
            for slot, i in enumerate(np.ravel(who)):
                leaves[i] = array[slot] if np.ndim(who) else array
        return self._treedef.unflatten(leaves)

    def dots(self, a: Any, b: Any) -> jax.Array:
        """Inner products (N), in float32, of the leaves of two trees that were joined.

        Of large leaves first to one number per row or column, whichever are fewer; those of all leaves with as many
        are summed at once. To one number each would take two kernels each.
        """
        groups, sums = [], collections.defaultdict(list)
        for x, y, who in zip(jax.tree.leaves(a), jax.tree.leaves(b), self._members, strict=True):
            products = x.astype(jnp.float32) * y.astype(jnp.float32)
            if np.ndim(who):
                groups.append((who, jnp.sum(products.reshape(len(who), -1), axis=1)))
                continue
            by_rows = math.prod(x.shape[:-1]) < x.shape[-1]
            some = jnp.sum(products, axis=-1 if by_rows else tuple(range(x.ndim - 1))).reshape(-1)
            sums[len(some)].append((who, some))
        for alike in sums.values():
            groups.append(([who for who, _ in alike], jnp.sum(jnp.stack([some for _, some in alike]), axis=1)))
        order = np.concatenate([who for who, _ in groups])
        return jnp.concatenate([numbers for _, numbers in groups])[np.argsort(order)]

    def pickers(self) -> Iterator[Callable[[Any], Any]]:
        """For every leaf of a joined tree: picks its own out of one number per leaf (N), so that they broadcast."""
        for who, rank in zip(self._members, self._ranks, strict=True):
            shape = (len(who),) + (1,) * rank if np.ndim(who) else ()
            yield lambda number_N, who=who, shape=shape: number_N[who].reshape(shape)


def in_stacks(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """``inner``, which treats every element by itself, on small arrays side by side; so is its state."""

    def init(params):
        return inner.init(Stacks(params).join(params))

    def update(grads, state, params=None):
        stacks = Stacks(grads)
        updates, state = inner.update(stacks.join(grads), state, None if params is None else stacks.join(params))
        return stacks.split(updates), state

    return optax.GradientTransformation(init, update)


def global_norm(tree: Any) -> jax.Array:
    """The Euclidean norm of all leaves together."""
    stacks = Stacks(tree)
    joined = stacks.join(tree)
    return jnp.sqrt(jnp.sum(stacks.dots(joined, joined)))


def clip_to_norm(limit: float, grads: Any, _: Any) -> Any:
    """``grads``, scaled down to a norm of ``limit`` where it is larger; for ``optax.stateless``."""
    factor = limit / jnp.maximum(global_norm(grads), limit)
    return jax.tree.map(lambda g: g * factor, grads)


def decay_mask(params: Any) -> Any:
    """True for matrices and kernels, False for biases, scales and norms, of parameters as ``Stacks`` joins them."""

    def decayed(path, _):
        name = path[1:2] if jax.tree_util.keystr(path[:1], simple=True) == "stacked" else path[-1:]
        return jax.tree_util.keystr(name, simple=True) in _DECAYED

    return jax.tree_util.tree_map_with_path(decayed, params)


def _nest(flat: dict[tuple[str, ...], Any]) -> dict[str, Any]:
    """Nested dictionaries from paths."""
    tree: dict[str, Any] = {}
    for names, leaf in flat.items():
        branch = tree
        for name in names[:-1]:
            branch = branch.setdefault(name, {})
        branch[names[-1]] = leaf
    return tree
