"""Imports go down only: who may import whom, and which library belongs to which package."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
BASE = {"core", "config"}  # leaves: anyone may use them
MODEL_SIDE = {"features", "parallel"}
BELOW_TRAIN = {"corpora", "data", "features", "parallel", "models", "objectives", "optim"}
ALLOWED = {
    "core": set(),
    "config": set(),
    "corpora": BASE | {"data.audio.array_records"},
    "data": BASE,
    "features": BASE,
    "parallel": BASE,
    "models": BASE | MODEL_SIDE,
    "objectives": BASE | MODEL_SIDE,
    "optim": BASE | MODEL_SIDE,
    "evaluation": BASE | BELOW_TRAIN,
    "train": BASE | BELOW_TRAIN | {"evaluation"},
    "launchers": BASE,
    "planning": BASE | (BELOW_TRAIN - {"corpora"}) | {"train"},
    "scaling": BASE | {"models.accounting"},
    # an export opens a run as training left it: its settings, model and tokenizer, and clips of its data set
    "interop": BASE
    | MODEL_SIDE
    | {
        "data.audio.samples",
        "data.store",
        "data.text",
        "evaluation.model",
        "models",
        "train.build",
        "train.checkpoint",
    },
    "golden": BASE | (BELOW_TRAIN - {"corpora"}) | {"evaluation", "interop.formats"},
    "bench": BASE | BELOW_TRAIN | {"evaluation", "train", "planning"},
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


def violations(path: str, source: str) -> list[str]:
    """What is wrong with the imports of the file ``path`` (relative to alp_jax/)."""
    package = path.split("/")[0]
    found = []
    for name, top_level in imports_of(source):
        parts = name.split(".")
        if parts[0] == "alp_jax" and len(parts) > 1 and package in ALLOWED and ALLOWED[package] is not None:
            target, dotted = parts[1], ".".join(parts[1:])
            allowed = ALLOWED[package]
            if target not in {package, "__version__"} and not any(
                target == a or dotted == a or dotted.startswith(a + ".") for a in allowed
            ):
                found.append(f"{path} imports {name}: {package} may use {sorted(allowed)}")
        if parts[0] in OWNERS and not path.startswith(OWNERS[parts[0]]):
            found.append(f"{path} imports {parts[0]}, which belongs to {OWNERS[parts[0]]}")
        if parts[0] == "torch" and top_level and "torch_module" not in path:
            found.append(f"{path} imports torch when it is loaded; import it inside the function that needs it")
        if parts[0] in {"jax", "jaxlib"} and path.startswith(WITHOUT_JAX):
            found.append(f"{path} imports jax; loader workers stay light")
        if parts[0] in FORBIDDEN_ANYWHERE:
            found.append(f"{path} imports {parts[0]}")
    return found


def test_every_module_stays_in_its_layer():
    found = [v for path in modules() for v in violations(str(path.relative_to(ROOT / "alp_jax")), path.read_text())]
    assert not found, "\n".join(found)


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
