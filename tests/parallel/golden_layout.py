"""Golden layouts: where every parameter of a preset lies on a mesh of fsdp 4 x tensor 2.

python -m tests.parallel.golden_layout      # writes the files again; look at the difference before it is committed
"""

import dataclasses
import json
import pathlib
import re

import jax

from alp_jax.config import MODELS, RunConfig
from alp_jax.config.schema import ObjectiveConfig, ViTConfig
from alp_jax.models.encoders import output_dim
from alp_jax.parallel.rules import layout
from alp_jax.train.build import make_model

FOLDER = pathlib.Path(__file__).parent / "golden"
SIZES = {"data": 1, "fsdp": 4, "tensor": 2}


def golden(preset: str) -> dict[str, str]:
    """``name shape`` to ``places, tactic, how many``; numbers of layers are ``*`` and equal layers one entry."""
    counts: dict[tuple[str, str], int] = {}
    model = MODELS[preset]
    # the sides are built beside an encoder of the same width that costs little
    small = ViTConfig(width=output_dim(model), num_layers=1, num_heads=1)
    beside = dataclasses.replace(model, encoder_kind="vit", vit=small)
    for objective, built in (("none", model), ("contrastive", beside), ("captioning", beside)):
        init, _ = make_model(RunConfig(model=built, objective=ObjectiveConfig(name=objective)))
        found = layout({"params": jax.eval_shape(init, jax.random.key(0))}, SIZES)
        for name, leaf in found.items():
            if name.startswith("params/encoder") != (objective == "none"):
                continue
            places = " x ".join(place or "-" for place in leaf["spec"]) or "whole"
            note = ", tensor does not divide it" if leaf.get("undivided") else ""
            key = re.sub(r"/\d+(?=/)", "/*", name) + " " + "x".join(map(str, leaf["shape"]))
            entry = (key, f"{places} ({leaf['tactic']}{note})")
            counts[entry] = counts.get(entry, 0) + 1
    return {key: f"{text}, {count} arrays" for (key, text), count in sorted(counts.items())}


def write() -> None:
    FOLDER.mkdir(exist_ok=True)
    for preset in MODELS:
        (FOLDER / f"{preset}.json").write_text(json.dumps(golden(preset), indent=1) + "\n")


if __name__ == "__main__":
    write()
