"""Whole models of the reference, stored without their weights."""

import pathlib
import shutil
import zlib

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from alp_jax.config.schema.model import DECODER, TEXT
from alp_jax.golden.case import find_cases
from alp_jax.interop.formats import reference
from alp_jax.interop.formats.names import to_torch
from alp_jax.models.dual import AudioTextModel
from alp_jax.models.functional import functionalize
from alp_jax.models.zipformer.encoder import Zipformer


class DrawnModels:
    """Whole models of the reference with weights that a rule draws, so that only what it made of them is stored."""

    folder = pathlib.Path(__file__).parent / "vectors" / "models"

    def __init__(self, root):
        """A copy of the cases below ``root``, with their weights."""
        shutil.copytree(self.folder, root, dirs_exist_ok=True)
        self.cases = {case.name: case for case in find_cases(root)}
        for case in self.cases.values():
            kind = case.config["kind"]
            if kind not in ("zipformer_grad", "zipformer_grad_train"):  # those name another case's weights
                save_file(self.state_dict(kind, dict(case.config)), case.folder / "weights.safetensors")

    def state_dict(self, kind, config):
        """name -> float32 array for the ``config.json`` of a case."""
        if kind == "zipformer_forward":
            kind, encoder = "zipformer", reference.zipformer_config(config["zipformer_config"])
            init, _ = functionalize(lambda rngs: Zipformer(encoder, rngs=rngs))
        elif kind == "clap":
            model, _ = reference.clap_config(config["clap_config"])
            init, _ = functionalize(lambda rngs: AudioTextModel(model, (TEXT,), rngs=rngs))
        else:
            model = reference.caption_config(config["caption_config"], config["vocab_size"])
            init, _ = functionalize(lambda rngs: AudioTextModel(model, (DECODER,), rngs=rngs))
        zeros = jax.tree.map(lambda like: np.zeros(like.shape, np.float32), jax.eval_shape(init, jax.random.key(0)))
        state = {name: self.draw(name, value.shape) for name, value in to_torch(zeros, kind).items()}
        if "text_decoder.output_proj.weight" in state and config["caption_config"]["decoder_shared_emb"]:
            state["text_decoder.output_proj.weight"] = state["text_decoder.text_embed.weight"]
        return state

    @staticmethod
    def draw(name, shape):
        """The value of one parameter: the old generator of numpy, whose numbers never change, seeded by the name."""
        x = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        if name.endswith("bypass_scale"):
            x = 0.5 + 0.3 * x
        elif len(shape) > 1:
            x = x / np.sqrt(np.prod(shape[1:]))
        elif "norm" in name.lower() and name.endswith("weight"):
            x = 1.0 + 0.1 * x
        else:
            x = 0.3 * x
        return np.asarray(x, np.float32)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    return DrawnModels(tmp_path_factory.mktemp("drawn"))
