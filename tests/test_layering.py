"""Imports go down only: who may import whom, which library belongs to which package, and how large things may be."""

import ast
import collections
import pathlib

import pytest

from tests.house import circles, imports

ROOT = pathlib.Path(__file__).parent.parent
BASE = {"core", "config"}  # leaves: anyone may use them
BELOW_TRAIN = {"data", "features", "parallel", "models", "objectives", "optim"}
ALLOWED = {
    "core": set(),
    "config": {"core.plugins", "core.run_files"},
    "corpora": BASE | {"data.audio.array_records"},
    "data": BASE,
    "features": BASE,
    "parallel": BASE,
    "models": BASE | {"parallel"},
    "objectives": BASE | {"parallel"},
    "optim": BASE,
    "evaluation": BASE | BELOW_TRAIN,
    "train": BASE | BELOW_TRAIN | {"evaluation"},
    "launchers": BASE,
    "planning": BASE | BELOW_TRAIN | {"train"},
    "scaling": BASE | {"launchers"},
    # an export opens a run as training left it: its settings, model and tokenizer, and clips of its data set
    "interop": BASE
    | {
        "data.audio.samples",
        "data.store",
        "data.text",
        "evaluation.model",
        "features",
        "models",
        "train.build",
        "train.checkpoint",
        "train.remote_run",
    },
    "golden": BASE | BELOW_TRAIN | {"evaluation.retrieval", "interop.formats"},
    "bench": BASE | {"data", "evaluation", "models", "objectives", "parallel", "planning", "train"},
    "cli": None,  # anything
}
# library -> where it may be imported, as path prefixes under alp_jax/
OWNERS = {
    "flax": ("models/",),
    "orbax": ("train/checkpoint.py",),
    "grain": ("data/",),
    "tensorflow_datasets": ("data/",),
    "array_record": ("data/",),
    "sentencepiece": ("data/",),
    "py3langid": ("data/",),
    "tokenizers": ("data/",),
    "apache_beam": ("data/building/beam.py",),
    "transformers": ("interop/",),
    "torch": ("interop/", "bench/torch_loader.py"),
    "tqdm": ("core/progress",),
    "av": ("data/audio/decoders/ffmpeg.py",),
}
WITHOUT_JAX = ("corpora/", "data/", "core/", "config/")
FORBIDDEN_ANYWHERE = {"pickle", "tensorflow"}
# cli/ parses, calls one function and prints. The limits are what there is: they come down with it, and never go up.
CLI_LINES = 2442
CLI_FILE_LINES = 200
CLI_FUNCTIONS = 11  # of one file
CLI_BASES = {"argparse.ArgumentParser", "argparse.Action"}  # what classes of cli/ may be made of
# What every file of a kind has to have, for its registry to find: these names are a contract, not a second home.
CONTRACTS = {"EXAMPLE", "add", "add_arguments", "run", "ADAPTER", "clips", "items", "check", "main"}
TWINS = 72  # names that other files import and that two files still have: they become fewer, never more


def modules():
    return sorted((ROOT / "alp_jax").rglob("*.py"))


def imports_of(source: str):
    """Yields (name, is_top_level) for every import statement; ``from a import b`` gives ``a.b``."""
    tree = ast.parse(source)
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer they reach"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", id(node) in top


def allows(allowed: str, target: str) -> bool:
    """Whether an entry of ALLOWED covers the dotted name ``target``, which begins below alp_jax."""
    return target == allowed or target.startswith(allowed + ".")


def violations(path: str, source: str) -> list[str]:
    """What is wrong with the imports of the file ``path`` (relative to alp_jax/)."""
    package = path.split("/")[0]
    problems = []
    for name, top_level in imports_of(source):
        parts = name.split(".")
        if parts[0] == "alp_jax" and len(parts) > 1 and package in ALLOWED and ALLOWED[package] is not None:
            target, dotted = parts[1], ".".join(parts[1:])
            allowed = ALLOWED[package]
            if target not in {package, "__version__"} and not any(allows(each, dotted) for each in allowed):
                problems.append(f"{path} imports {name}: {package} may use {sorted(allowed)}")
        if parts[0] in OWNERS and not path.startswith(OWNERS[parts[0]]):
            problems.append(f"{path} imports {parts[0]}, which belongs to {OWNERS[parts[0]]}")
        if parts[0] == "torch" and top_level and "torch_module" not in path:
            problems.append(f"{path} imports torch when it is loaded; import it inside the function that needs it")
        if parts[0] in {"jax", "jaxlib"} and path.startswith(WITHOUT_JAX):
            problems.append(f"{path} imports jax; loader workers stay light")
        if parts[0] in FORBIDDEN_ANYWHERE:
            problems.append(f"{path} imports {parts[0]}")
    return problems


def test_every_module_stays_in_its_layer():
    problems = [v for path in modules() for v in violations(str(path.relative_to(ROOT / "alp_jax")), path.read_text())]
    assert not problems, "\n".join(problems)


def test_every_package_has_its_row_and_uses_what_the_row_allows():
    """A package without a row could import anything; what a row allows and nobody imports, somebody will."""
    used = collections.defaultdict(set)
    for path in modules():
        package = path.relative_to(ROOT / "alp_jax").parts[0]
        used[package] |= {name.removeprefix("alp_jax.") for name, _ in imports_of(path.read_text())}
    assert {package for package in used if not package.endswith(".py")} == set(ALLOWED)
    unused = {
        (package, each)
        for package, allowed in ALLOWED.items()
        for each in (allowed or set()) - BASE
        if not any(allows(each, name) for name in used[package])
    }
    assert not unused, f"take these out of ALLOWED: {sorted(unused)}"


def test_configs_use_only_the_config_package_and_never_jax():
    for path in (ROOT / "configs").rglob("*.py"):
        for name, _ in imports_of(path.read_text()):
            head = name.split(".")
            assert head[0] != "jax", f"{path} imports jax"
            assert head[0] != "alp_jax" or head[1] == "config", f"{path} imports {name}"


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("models/x.py", "from alp_jax.objectives import contrastive"),
        ("objectives/x.py", "import alp_jax.models.dual"),
        ("data/x.py", "import jax.numpy as jnp"),
        ("train/loop.py", "import orbax.checkpoint"),
        ("scaling/x.py", "from alp_jax.models import dual"),
        ("interop/x.py", "import torch"),
        ("core/x.py", "def f():\n  from alp_jax import data"),
        ("train/x.py", "import pickle"),
    ],
)
def test_the_walk_sees_violations(path, source):
    assert violations(path, source)


def test_files_and_functions_stay_small():
    for path in modules():
        source = path.read_text()
        assert source.count("\n") <= 350, f"{path} is longer than 350 lines"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno <= 80, f"{path}:{node.name} is longer than 80 lines"


def test_no_file_imports_itself_by_way_of_others():
    """Anywhere in a file: an import inside a function or for a type checker closes a circle as any other does."""
    assert circles(imports(ROOT)) == []


def test_the_command_line_holds_nothing():
    lines = {}
    for path in sorted((ROOT / "alp_jax/cli").rglob("*.py")):
        source = path.read_text()
        lines[path] = source.count("\n")
        assert lines[path] <= CLI_FILE_LINES, f"{path} is longer than {CLI_FILE_LINES} lines"
        body = ast.parse(source).body
        functions = [node.name for node in body if isinstance(node, ast.FunctionDef)]
        assert len(functions) <= CLI_FUNCTIONS, f"{path} has {len(functions)} functions: what is no parsing moves down"
        for node in body:
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base) for base in node.bases}
                assert bases & CLI_BASES, f"{path}: class {node.name} is no parser and no action"
    assert sum(lines.values()) <= CLI_LINES, f"alp_jax/cli has {sum(lines.values())} lines, of {CLI_LINES}"


def twins(files: dict[str, str]) -> dict[str, set[str]]:
    """Public names of the top level that several ``files`` (name -> source) have and any file imports by name."""
    homes, imported = collections.defaultdict(set), set()
    for name, source in files.items():
        tree = ast.parse(source)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                homes[node.name].add(name)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for each in (each for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)):
                    homes[each.id].add(name)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("alp_jax"):
                imported |= {alias.name for alias in node.names}
    return {
        name: files
        for name, files in homes.items()
        if len(files) > 1 and name in imported - CONTRACTS and not name.startswith("_")
    }


def test_a_public_name_has_one_home():
    """``interop/torch_module`` is left out: it is written to stand alone, beside exported weights."""
    files = {str(p.relative_to(ROOT)): p.read_text() for p in modules() if "torch_module" not in p.parts}
    found = {name: sorted(homes) for name, homes in sorted(twins(files).items())}
    listed = "\n".join(f"{name}: {', '.join(homes)}" for name, homes in found.items())
    assert len(found) <= TWINS, f"of each of these, one should have another name or be private:\n{listed}"


def test_a_second_home_is_seen():
    a, b = "def plan(): ...\n_x = 1\nX, Y = 1, 2", "plan: int = 1\n_x = 2\nY = 3"
    assert twins({"a": a, "b": b}) == {}
    assert twins({"a": a, "b": b, "c": "def f():\n  from alp_jax.a import plan, Y"}) == {
        "plan": {"a", "b"},
        "Y": {"a", "b"},
    }
