"""What is installed is what is imported: requirements.txt has what all verbs need, an extra what some of them need."""

import ast
import collections
import importlib.metadata
import pathlib
import re
import sys
import tomllib

import pytest
from fsspec.registry import known_implementations

from alp_jax.cli import main
from alp_jax.launchers import quickstart

ROOT = pathlib.Path(__file__).parent.parent
# Not in an extra: alp eval --captioning names them where they lack.
ASKED_FOR = {"fense", "nltk"}
# Files of an export and programs in a process of their own, which only verbs that checked for PyTorch start.
WITH_TORCH = ("interop/torch_module/", "interop/isolated/")


def names(lines) -> set[str]:
    return {re.match(r"[\w.-]+", line).group().lower().replace("_", "-") for line in lines}


CORE = names(line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#"))
EXTRAS = {
    extra: names(lines)
    for extra, lines in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].items()
}
HOMES = importlib.metadata.packages_distributions()


def distribution(module: str) -> str:
    """The one that a module comes from, by its name in the registry."""
    head = module.split(".")[0]
    homes = {"protobuf"} if module.startswith("google.protobuf") else set(HOMES.get(head, [head]))
    declared = CORE.union(*EXTRAS.values())
    home = min(homes, key=lambda name: name.lower().replace("_", "-") not in declared)
    return home.lower().replace("_", "-")


def imports(source: str) -> set[tuple[str, bool]]:
    """(module, whether importing the file fails without it) of every import from outside."""
    found = set()

    def walk(node: ast.AST, needed: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.update((alias.name, needed) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                found.add((child.module, needed))
            guarded = isinstance(child, ast.Try) and "ImportError" in "".join(map(ast.unparse, child.handlers))
            typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            walk(child, needed and not (guarded or typing or lazy))

    walk(ast.parse(source), True)
    return {(name, needed) for name, needed in found if name.split(".")[0] not in {*sys.stdlib_module_names, "alp_jax"}}


@pytest.fixture(scope="module")
def used():
    """distribution -> files that cannot be imported without it, and files that can."""
    table = collections.defaultdict(lambda: (set(), set()))
    for path in (ROOT / "alp_jax").rglob("*.py"):
        file = path.relative_to(ROOT / "alp_jax").as_posix()
        for module, needed in imports(path.read_text()):
            table[distribution(module)][not needed or file.startswith(WITH_TORCH)].add(file)
    return table


def test_what_a_file_needs_to_be_imported_is_a_requirement(used):
    undeclared = {name: sorted(files) for name, (files, _) in used.items() if files and name not in CORE}
    assert not undeclared


def test_what_is_imported_later_is_a_requirement_or_in_an_extra_whose_name_an_error_says(used):
    source = "\n".join(path.read_text() for path in (ROOT / "alp_jax").rglob("*.py"))
    named = re.findall(r"alp_jax\[([\w,]+)\]", source) + re.findall(r'require\(.*extras="([\w,]+)"\)', source)
    for name, (_, files) in used.items():
        if name not in CORE | ASKED_FOR:
            homes = {extra for extra, packages in EXTRAS.items() if name in packages} - {"dev"}
            assert homes, f"{name}, imported by {sorted(files)}, is in no extra"
            assert homes & set(",".join(named).split(",")), f"no error says: pip install 'alp_jax[{homes}]'"


def test_every_requirement_is_used(used):
    assert not CORE - set(used)
    optional = set().union(*(packages for extra, packages in EXTRAS.items() if extra != "dev"))
    loaded_by_scheme = {known_implementations[scheme]["class"].split(".")[0] for scheme in ("s3", "gs")}
    assert not optional - set(used) - loaded_by_scheme


def test_a_report_without_matplotlib_and_a_quickstart_without_torch_say_what_lacks(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for module in ("figures", "sections", "page"):
        monkeypatch.delitem(sys.modules, f"alp_jax.scaling.report.{module}", raising=False)
    assert main.main(["scaling", "report", "--sweep", str(tmp_path), "--out", str(tmp_path / "report")]) == 2
    assert capsys.readouterr().err == "alp: a report needs matplotlib: pip install 'alp_jax[report]'\n"
    monkeypatch.setattr(quickstart.importlib.util, "find_spec", lambda name: None if name == "torch" else name)
    assert main.main(["quickstart", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "alp: the quickstart needs torch: pip install 'alp_jax[torch]'\n"
