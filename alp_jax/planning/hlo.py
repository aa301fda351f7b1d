"""Reads the text of an optimised HLO module (XLA's High Level Operations): computations, instructions, sizes of shapes.

The format is that of ``jax.stages.Compiled.as_text()``: one instruction a line, operands by name.
"""

import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Iterator

ITEM_BYTES = {  # 4-bit types count as if unpacked, a byte each; token and opaque types, absent here, as nothing
    **dict.fromkeys(("pred", "s8", "u8", "f8e4m3fn", "f8e5m2", "f8e4m3", "f8e3m4", "f8e8m0fnu", "s4", "u4"), 1),
    **dict.fromkeys(("bf16", "f16", "s16", "u16"), 2),
    **dict.fromkeys(("f32", "s32", "u32"), 4),
    **dict.fromkeys(("f64", "s64", "u64", "c64"), 8),
    "c128": 16,
}
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{\s*$")
_ASSIGNED = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_OPCODE = re.compile(r"\s*([a-z][\w\-]*)\(")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](\{[^}]*\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_TABLES = ("FileNames", "FileLocations", "StackFrames")  # where instructions come from, numbered
_TABLE_ROW = re.compile(r'^(\d+) (?:"(.*)"|\{(.*)\})$')
_FAST_MEMORY = re.compile(r"S\([1-9]\d*\)")  # a layout says where an array is when that is not the device's main memory


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line: ``name = shape opcode(operands), attributes``; ``literal`` is what stands between the parentheses."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    literal: str
    attributes: str
    root: bool

    def attribute(self, name: str) -> str | None:
        """The value of ``name=value``, up to a comma or space and without its percent sign; None if absent."""
        match = re.search(rf"\b{name}=%?([^,\s]+)", self.attributes)
        return match.group(1) if match else None

    def computations(self, name: str) -> list[str]:
        """The computations that the attribute lists: ``name=%a`` or ``name={%a, %b}``."""
        match = re.search(rf"\b{name}=(\{{[^}}]*\}}|%[\w.\-]+)", self.attributes)
        return _NAME.findall(match.group(1)) if match else []

    @property
    def op_name(self) -> str:
        """The JAX operation that it comes from, as a path; empty when that is not known."""
        match = re.search(r'op_name="([^"]*)"', self.attributes)
        return match.group(1) if match else ""


@dataclasses.dataclass(frozen=True)
class Module:
    """Computations by name, the one that the program begins with, and ``path/in/package.py:line`` by stack frame."""

    computations: dict[str, tuple[Instruction, ...]]
    entry: str
    places: dict[str, str]

    def source(self, line: Instruction) -> str:
        """Where in the program ``line`` comes from, as far as that is known."""
        frame = re.search(r"\bstack_frame_id=(\d+)", line.attributes)
        place = self.places.get(frame.group(1), "") if frame else ""
        return f"{place} {line.op_name}".strip()

    @functools.cached_property
    def by_name(self) -> dict[str, dict[str, Instruction]]:
        """The instructions of every computation, by the name of the computation and then their own."""
        return {name: {line.name: line for line in lines} for name, lines in self.computations.items()}


def parse(text: str, package: str = "alp_jax") -> Module:
    """The module of ``text``; its places are the innermost stack frames that lie in files of ``package``.

    Raises:
      ValueError: an instruction cannot be parsed, or there is no entry computation.
    """
    computations: dict[str, list[Instruction]] = {}
    tables: dict[str, dict[str, str]] = {}
    entry, current = None, None
    lines = iter(text.splitlines())
    for line in lines:
        if line in _TABLES:
            tables[line] = _table(lines)
            continue
        header = _COMPUTATION.match(line)
        if header:
            current = computations.setdefault(header.group(2), [])
            entry = header.group(2) if header.group(1) else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (assigned := _ASSIGNED.match(line)):
            current.append(_instruction(*assigned.groups()))
    if entry is None:
        raise ValueError("no ENTRY computation: this is not the text of a compiled module")
    instructions = {name: tuple(listed) for name, listed in computations.items()}
    return Module(instructions, entry, _places(tables, package))


def _table(lines: Iterator[str]) -> dict[str, str]:
    """Rows by number, up to the first line that is not a row."""
    rows = itertools.takewhile(bool, map(_TABLE_ROW.match, lines))
    return {row.group(1): row.group(2) or row.group(3) for row in rows}


def _places(tables: dict[str, dict[str, str]], package: str) -> dict[str, str]:
    files, locations, frames = (tables.get(name, {}) for name in _TABLES)
    sources: dict[str, str] = {}
    for frame, row in frames.items():  # callers come before what they call, so a caller's place is known by now
        location, caller = re.findall(r"=(\d+)", row)
        file, _, at = re.findall(r"=(\d+)", locations[location])[:3]
        _, inside, path = files[file].rpartition(f"/{package}/")
        # a caller is written as its frame's number plus one, so that 1 says there is none
        sources[frame] = f"{path}:{at}" if inside else sources.get(str(int(caller) - 1), "")
    return sources


def _instruction(root: str | None, name: str, rest: str) -> Instruction:
    # the shape comes first; that of a tuple holds spaces, so it ends at its parenthesis and not at the first space
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    opcode = _OPCODE.match(rest, end)
    if opcode is None:
        raise ValueError(f"instruction {name} is not understood: {rest[:80]}")
    close = _closing(rest, opcode.end() - 1)
    literal = rest[opcode.end() : close]
    return Instruction(
        name, rest[:end], opcode.group(1), tuple(_NAME.findall(literal)), literal, rest[close + 1 :], bool(root)
    )


def _closing(text: str, start: int) -> int:
    """The position of the parenthesis that closes the one at ``start``."""
    depth = 0
    for match in re.finditer(r"[()]", text[start:]):
        depth += 1 if match.group() == "(" else -1
        if depth == 0:
            return start + match.start()
    raise ValueError(f"unbalanced parentheses: {text[:80]}")


def shape_bytes(shape: str, fast_memory: bool = False) -> int:
    """Bytes of an array or of all arrays in a tuple; arrays in on-chip memory count only with ``fast_memory``."""
    return sum(array_bytes(shape, fast_memory))


def array_bytes(shape: str, fast_memory: bool = False) -> list[int]:
    """``shape_bytes`` of each array of a tuple."""
    of_arrays = []
    for kind, sizes, layout in _ARRAY.findall(shape):
        if kind in ITEM_BYTES:
            in_memory = fast_memory or not _FAST_MEMORY.search(layout)
            items = math.prod(int(size) for size in sizes.split(",") if size)
            of_arrays.append(ITEM_BYTES[kind] * items if in_memory else 0)
    return of_arrays
