"""The house in numbers: rooms and arrows of every folder, circles, sizes.

    python -m tests.house            # this tree
    python -m tests.house DIR        # another checkout

A room is a file or folder directly inside a folder; an arrow is an import from one of its rooms to another, counted
once. A circle is a set of files of which each imports the others, directly or by way of them, at any depth of the code.
"""

import ast
import pathlib
import statistics
import sys

PACKAGE = "alp_jax"


def sources(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Dotted name -> file of every module of the package under ``root``."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: pathlib.Path) -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports, wherever in the file the import stands."""
    files = sources(root)
    graph: dict[str, set[str]] = {name: set() for name in files}
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                targets = [full if (full := f"{node.module}.{a.name}") in files else node.module for a in node.names]
            else:
                continue
            graph[name].update(target for target in targets if target in files and target != name)
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Sets of more than one module that reach each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            members = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(members) > 1:
                found.append(sorted(members))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def rooms_and_arrows(root: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Folder -> (rooms, arrows between them); ``__init__`` files are no rooms."""
    files = sources(root)
    folders: dict[str, set[str]] = {}
    for path in files.values():
        parts = path.relative_to(root).with_suffix("").parts
        for depth in range(1, len(parts)):
            if parts[depth] != "__init__":
                folders.setdefault("/".join(parts[:depth]), set()).add(parts[depth])
    arrows: dict[str, set[tuple[str, str]]] = {folder: set() for folder in folders}
    for name, targets in imports(root).items():
        for target in targets:
            a, b = name.split("."), target.split(".")
            shared = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            if shared < min(len(a), len(b)):
                arrows["/".join(a[:shared])].add((a[shared], b[shared]))
    return {folder: (len(rooms), len(arrows[folder])) for folder, rooms in sorted(folders.items())}


def main(root: pathlib.Path) -> None:
    lines = {name: path.read_text(encoding="utf-8").count("\n") for name, path in sources(root).items()}
    print(f"{'folder':<40} {'rooms':>5} {'arrows':>6}")
    for folder, (rooms, arrows) in rooms_and_arrows(root).items():
        print(f"{folder:<40} {rooms:>5} {arrows:>6}")
    longest = max(lines, key=lambda name: lines[name])
    found = circles(imports(root))
    cli = sum(count for name, count in lines.items() if name.startswith(f"{PACKAGE}.cli"))
    print(f"\n{len(lines)} files, {sum(lines.values()):,} lines, median {statistics.median(lines.values()):.0f}")
    print(f"longest {longest} ({lines[longest]}), cli {cli:,} lines, {len(found)} circles")
    for members in found:
        print("  circle: " + ", ".join(members))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "."))
