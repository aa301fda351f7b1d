"""Splits by group, and the labels to keep: a class that cannot be both learnt and tested is of no use to a probe.

Policies of a group: ``train`` and ``test`` are fixed; ``hash:T:V`` puts the group into test or valid with
probabilities T and V percent, from a seeded hash of its name; ``rank:POOL:T:V`` orders the groups of a pool by that
hash and gives the first T percent (at least one) to test and the next V percent to valid, which keeps small pools
such as the tracks of one soundtrack exact.
"""

import collections
from collections.abc import Iterable, Mapping

from alp_jax.core.hashing import hash64
from alp_jax.corpora.captioned.mini.item import Item

SEED = 2024
MIN_TRAIN, MIN_TEST = 8, 4


def assign(items: Iterable[Item]) -> dict[str, str]:
    """group -> ``train``, ``valid`` or ``test``; ValueError if a group has two policies."""
    policies: dict[str, str] = {}
    for item in items:
        if policies.setdefault(item.group, item.policy) != item.policy:
            raise ValueError(f"group {item.group} asks for {policies[item.group]} and {item.policy}")
    pools: dict[str, list[str]] = collections.defaultdict(list)
    splits = {}
    for group, policy in policies.items():
        kind, *rest = policy.split(":")
        if kind in ("train", "test"):
            splits[group] = kind
        elif kind == "hash":
            test, valid = map(int, rest)
            draw = hash64(SEED, group) % 10_000
            splits[group] = "test" if draw < 100 * test else "valid" if draw < 100 * (test + valid) else "train"
        else:
            pools[policy].append(group)
    for policy, groups in pools.items():
        test, valid = map(int, policy.split(":")[2:])
        groups.sort(key=lambda group: hash64(SEED, group))
        for rank, group in enumerate(groups):
            in_test = max(1, round(len(groups) * test / 100)) if len(groups) > 1 else 0
            in_valid = round(len(groups) * valid / 100)
            splits[group] = "test" if rank < in_test else "valid" if rank < in_test + in_valid else "train"
    return splits


def kept_labels(items: Iterable[Item], splits: Mapping[str, str]) -> set[tuple[str, str]]:
    """The (task, class) pairs with at least MIN_TRAIN training and MIN_TEST test clips."""
    counts = collections.Counter(
        (task, label, splits[item.group])
        for item in items
        for task, label in item.labels_in(splits[item.group]).items()
    )
    return {
        (task, label)
        for task, label, _ in counts
        if counts[task, label, "train"] >= MIN_TRAIN and counts[task, label, "test"] >= MIN_TEST
    }
