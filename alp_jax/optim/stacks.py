"""Stacks small arrays, so that an optimiser runs one kernel for all biases of one size instead of one for each.

A Zipformer-M with a text tower has 937 parameter arrays, two thirds of which hold less than one per cent of the
numbers. Updated one by one, they cost more kernel launches and more compile time than all the others together.
"""

import collections
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

# The limit of alp_jax.parallel.rules, below which arrays are replicated on every device; stacked, they still are.
SMALL = 2**12
_DECAYED = ("kernel", "embedding")


class Stacks:
    """Groups the leaves of a nested dictionary: small ones with the same last name and shape are stacked.

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
        # The leaves that each leaf of a joined tree holds: an array of them for a stack, one index for a whole leaf.
        # jax flattens dictionaries by sorted key, which is not the order of ``_places``: zipping these with the leaves
        # of a joined tree relies on the order taken above.
        self._members = [
            self._places[names][0] if names[0] == "whole" else np.array(self._places[names]) for names in ordered
        ]
        self._ranks = [len(leaves[np.ravel(who)[0]][1].shape) for who in self._members]

    def join(self, tree: Any) -> dict[str, Any]:
        """The leaves of ``tree``, which has the structure and shapes this was built from, with small ones stacked."""
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
        """Inner products (N), in float32, of corresponding leaves of two joined trees.

        A large leaf is first reduced to one number per row or per column, whichever gives fewer; then all leaves that
        gave the same count are summed together. Reducing each leaf to a single number would take two kernels per leaf.
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
        # the sums are grouped by length; back to the order of the leaves, which everything of size N is in
        order = np.concatenate([who for who, _ in groups])
        return jnp.concatenate([numbers for _, numbers in groups])[np.argsort(order)]

    def pickers(self) -> Iterator[Callable[[Any], Any]]:
        """For every leaf of a joined tree, a function that picks its entries of an array (N), ready to broadcast."""
        for who, rank in zip(self._members, self._ranks, strict=True):
            shape = (len(who),) + (1,) * rank if np.ndim(who) else ()
            yield lambda number_N, who=who, shape=shape: number_N[who].reshape(shape)


def in_stacks(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Runs ``inner``, which must treat each element independently, on stacked arrays; its state is stacked too."""

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
    # exactly 1 below the limit, and never a division by 0
    factor = limit / jnp.maximum(global_norm(grads), limit)
    return jax.tree.map(lambda g: g * factor, grads)


def decay_mask(params: Any) -> Any:
    """True for kernels and embeddings, False for biases, scales and norms, in a tree from ``Stacks.join``."""

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
