"""Kernels of a compiled program, the bytes they move, and its collectives, from its HLO text (see ``hlo.py``).

A kernel is taken to move its inputs and outputs once, with these exceptions: of an input that it only slices or gathers
from, the slice counts; of an array that is updated in place, the update; scratch space of library calls and arrays kept
in on-chip memory count as nothing. Caches are not modelled, so the true traffic to main memory is at most this. A loop
counts as often as it runs where the compiler knows that, else once. Of the branches of a condition the one that moves
most counts or, for the least that a step can move, the one that moves least.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Callable

import numpy as np

from alp_jax.planning.hlo import Instruction, Module, array_bytes, parse, shape_bytes

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all", "collective-permute")
_NO_KERNEL = {
    *("parameter", "tuple", "get-tuple-element", "bitcast", "constant", "after-all", "partition-id", "replica-id"),
    *("opt-barrier", "optimization-barrier", "domain", "add-dependency", "get-dimension-size"),
}
_FREE_CALLS = ("AllocateBuffer", "Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "PinToDevice")
_SLICES = ("slice", "dynamic-slice", "gather")
# What may stand between an in-place update and the result, or the input, that it shares its memory with.
_VIEWS = ("bitcast", "reshape", "copy", "convert")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel: its ``count`` launches move ``size`` bytes altogether; ``source`` is where in the code it is from."""

    kind: str
    size: float
    count: float
    source: str


@dataclasses.dataclass(frozen=True)
class Collective:
    """``count`` exchanges, whose results are ``size`` bytes altogether on each device of ``group`` (their numbers)."""

    kind: str
    size: float
    count: float
    group: tuple[int, ...]

    @property
    def wire_bytes(self) -> float:
        """Bytes that a device sends, by the usual ring algorithms."""
        n = len(self.group)
        # of the result: all of it for all-gather, but one device's part for reduce-scatter, hence n - 1 and not a share
        share = {"all-reduce": 2 * (n - 1) / n, "reduce-scatter": n - 1.0, "collective-permute": 1.0}
        return self.size * share.get(self.kind, (n - 1) / n)


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What one device does in one run of the program."""

    kernels: tuple[Kernel, ...]
    collectives: tuple[Collective, ...]

    @property
    def bytes(self) -> float:
        """Bytes that all kernels move."""
        return sum(kernel.size for kernel in self.kernels)

    @property
    def launches(self) -> float:
        """How many kernels are launched."""
        return sum(kernel.count for kernel in self.kernels)

    def by_kind(self) -> dict[str, dict[str, float]]:
        """Bytes and kernels by kind of kernel, most bytes first."""
        return _totals(self.kernels, lambda kernel: {"bytes": kernel.size, "kernels": kernel.count})

    def collectives_by_kind(self) -> dict[str, dict[str, float]]:
        """Result bytes, bytes sent and number by kind of collective."""
        return _totals(
            self.collectives, lambda one: {"bytes": one.size, "wire_bytes": one.wire_bytes, "count": one.count}
        )

    def largest(self, number: int) -> list[Kernel]:
        """The ``number`` kernels that move the most bytes."""
        return sorted(self.kernels, key=lambda kernel: -kernel.size)[:number]


def _totals(items, values) -> dict[str, dict[str, float]]:
    totals: dict[str, collections.Counter] = {}
    for item in items:
        totals.setdefault(item.kind, collections.Counter()).update(values(item))
    return {kind: dict(total) for kind, total in sorted(totals.items(), key=lambda pair: -pair[1]["bytes"])}


def traffic(text: str, devices: int = 1) -> tuple[Traffic, Traffic]:
    """What the program of this HLO text moves at most and at least, depending on the branches its conditions take.

    A collective that names no groups is among all ``devices``.
    """
    module = parse(text)
    return tuple(Traffic(*map(tuple, _walk(module, module.entry, 1.0, devices, pick))) for pick in (max, min))


def _walk(
    module: Module, name: str, times: float, devices: int, pick: Callable
) -> tuple[list[Kernel], list[Collective]]:
    kernels, collectives = [], []
    for line in module.computations[name]:
        inner = _inner(module, line)
        if inner is not None:
            repeat, choices = inner
            walked = [_walk(module, choice, times * repeat, devices, pick) for choice in choices]
            # chosen by bytes alone; the branch's collectives come along, so that both are those of one possible run
            picked = pick(walked, key=lambda walk: sum(kernel.size for kernel in walk[0]), default=([], []))
            kernels += picked[0]
            collectives += picked[1]
            continue
        if _is_free(line):
            continue
        kind = line.opcode.removesuffix("-start")
        wrapped = _wrapped(module, line)
        if kind in COLLECTIVES or wrapped in COLLECTIVES:
            # and a kernel below: it reads and writes main memory besides using the links
            collectives.append(_collective(module, line, wrapped or kind, times, devices))
        kernels.append(Kernel(_kind(module, line), times * moved(module, name, line), times, module.source(line)))
    return kernels, collectives


def _inner(module: Module, line: Instruction) -> tuple[float, list[str]] | None:
    """(how often it runs, computations of which one runs) for an instruction that calls others; None for a kernel."""
    if line.opcode == "while":
        known = re.search(r'"known_trip_count":\{"n":"(\d+)"', line.attributes)
        return float(known.group(1)) if known else 1.0, line.computations("body")
    if line.opcode == "call":
        return 1.0, line.computations("to_apply")
    if line.opcode == "conditional":
        branches = line.computations("branch_computations")
        return 1.0, branches or line.computations("true_computation") + line.computations("false_computation")
    if line.opcode == "async-start" and _wrapped(module, line) is None:
        return 1.0, line.computations("calls")
    return None


def _wrapped(module: Module, line: Instruction) -> str | None:
    """The opcode of the collective that an ``async-start`` begins; None for anything else."""
    if line.opcode != "async-start":
        return None
    for called in line.computations("calls"):
        for inner in module.computations[called]:
            if inner.opcode in COLLECTIVES:
                return inner.opcode
    return None


def _is_free(line: Instruction) -> bool:
    if line.opcode in _NO_KERNEL or line.opcode.endswith(("-done", "-update")):  # -update: of asynchronous calls
        return True
    target = re.search(r'custom_call_target="([^"]*)"', line.attributes)
    return line.opcode == "custom-call" and target is not None and target.group(1) in _FREE_CALLS


def _kind(module: Module, line: Instruction) -> str:
    if line.opcode == "custom-call":
        target = re.search(r'custom_call_target="([^"]*)"', line.attributes)
        return f"call {target.group(1)}" if target else "call"
    if line.opcode != "fusion":
        return line.opcode.removesuffix("-start")
    inside = {inner.opcode for called in line.computations("calls") for inner in module.computations[called]}
    for opcode in ("dot", "convolution", "reduce", "scatter"):
        if opcode in inside:
            return "fusion matmul" if opcode == "dot" else f"fusion {opcode}"
    return "fusion transpose" if "transpose" in inside and len(inside) < 5 else "fusion loop"


def moved(module: Module, computation: str, line: Instruction) -> float:
    """Bytes that one launch of ``line`` reads and writes."""
    shapes = module.by_name[computation]

    def size(operand: str) -> int:
        return shape_bytes(shapes[operand].shape) if operand in shapes else 0

    # Read and written: the slice or the update, never the whole array; and the indices, which are read.
    if line.opcode in ("slice", "dynamic-slice", "gather"):
        return 2 * shape_bytes(line.shape) + sum(size(name) for name in line.operands[1:])
    if line.opcode == "dynamic-update-slice":
        return 2 * size(line.operands[1])
    if line.opcode == "scatter":  # operands: n arrays, one of indices, n of updates
        return 2 * size(line.operands[-1]) + size(line.operands[len(line.operands) // 2])
    if line.opcode.endswith("-start"):
        return _started(line, [size(name) for name in line.operands])
    if line.opcode == "fusion":
        return _fused(module, line, size)
    written = array_bytes(line.shape)
    if line.opcode == "custom-call":
        written = [n for n, scratch in zip(written, _scratch(line.shape), strict=True) if not scratch]
    return sum(written) + sum(size(name) for name in line.operands)


def _scratch(shape: str) -> list[bool]:
    """Which arrays of a library call's results are scratch space: flat bytes after the first result."""
    arrays = re.findall(r"\b([a-z]\w*)\[([\d,]*)\]", shape)
    return [i > 0 and kind in ("s8", "u8") and "," not in sizes for i, (kind, sizes) in enumerate(arrays)]


def _started(line: Instruction, read: list[int]) -> float:
    """An exchange or copy that another instruction waits for; its result holds inputs, outputs and bookkeeping."""
    arrays = array_bytes(line.shape)
    if line.opcode == "all-reduce-start":  # of this one alone the result holds nothing but outputs
        return sum(read) + sum(arrays)
    if line.opcode == "copy-start":  # (copy, original, bookkeeping): the output comes first
        return arrays[0] + sum(read)
    return sum(read) + sum(arrays[len(read) : 2 * len(read)])


def _fused(module: Module, line: Instruction, size) -> float:
    body = module.computations[line.computations("calls")[0]]
    names = {inner.name: inner for inner in body}
    users: dict[str, list[Instruction]] = {}
    for inner in body:
        for operand in inner.operands:
            users.setdefault(operand, []).append(inner)
    updated, total = set(), 0.0  # ``updated``: inputs that share their memory with a result and are not read
    root = next(inner for inner in body if inner.root)
    for name in root.operands if root.opcode == "tuple" else (root.name,):
        result = _through_views(names, names[name])
        if result.opcode in ("dynamic-update-slice", "scatter"):
            update = result.operands[-1 if result.opcode == "scatter" else 1]
            total += shape_bytes(names[update].shape)
            updated.add(_through_views(names, names[result.operands[0]]).name)
        else:
            total += shape_bytes(names[name].shape)
    if not updated:
        total = float(shape_bytes(line.shape))
    for inner in body:
        if inner.opcode == "parameter" and inner.name not in updated:
            # by the caller's operand, whose layout says whether it is in on-chip memory and so costs nothing
            whole = size(line.operands[int(inner.literal)])
            total += min(whole, _read(inner, users, whole))
    return total


def _through_views(names: dict[str, Instruction], line: Instruction) -> Instruction:
    while line.opcode in _VIEWS and line.operands:
        line = names[line.operands[0]]
    return line


def _read(line: Instruction, users: dict[str, list[Instruction]], whole: int) -> float:
    """Bytes of a fused input that are read: what its slices take, or all of it once anything else uses it."""
    total = 0.0
    for user in users.get(line.name, ()):
        if user.opcode in _SLICES and user.operands[0] == line.name:
            total += shape_bytes(user.shape)
        elif user.opcode in ("bitcast", "reshape"):
            total += _read(user, users, whole)
        else:
            return whole
    return total


def _collective(module: Module, line: Instruction, kind: str, times: float, devices: int) -> Collective:
    source = line
    if line.opcode == "async-start":
        called = line.computations("calls")[0]
        source = next(inner for inner in module.computations[called] if inner.opcode == kind)
    arrays = array_bytes(source.shape, fast_memory=True)  # it crosses the links, wherever on the device it is kept
    if source.opcode.endswith("-start") and kind != "all-reduce":
        inputs = len(source.operands)
        arrays = arrays[inputs : 2 * inputs]
    return Collective(kind, times * sum(arrays), times, _group(source.attributes, devices))


def _group(attributes: str, devices: int) -> tuple[int, ...]:
    """The first of the groups that exchange among themselves: of one size, it stands for all of them."""
    pairs = re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", attributes)
    if pairs:
        return tuple(int(x) for x in pairs.groups())
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", attributes)
    if listed:
        return tuple(int(x) for x in listed.group(1).split(","))
    counted = re.search(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes)
    if counted:  # [groups,size]<=[dims]T(order): devices 0, 1, ... shaped as dims, transposed, and cut into groups
        groups, size = int(counted.group(1)), int(counted.group(2))
        sizes = [int(x) for x in counted.group(3).split(",")]
        order = [int(x) for x in counted.group(4).split(",")] if counted.group(4) else list(range(len(sizes)))
        numbers = np.arange(math.prod(sizes)).reshape(sizes).transpose(order).ravel()
        return tuple(numbers[:size].tolist()) if groups else ()
    return tuple(range(devices))
