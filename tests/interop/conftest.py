"""Models under the reference's names: shapes that the reference wrote, random numbers in them."""

import json
import pathlib

import numpy as np
import pytest
from safetensors.numpy import save_file


class ReferenceModels:
    """By the names in golden/state_dicts.json."""

    def __init__(self):
        self.table = json.loads((pathlib.Path(__file__).parent / "golden" / "state_dicts.json").read_text())

    def settings(self, name):
        """The config.json of a model."""
        return json.loads(json.dumps(self.table[name]["config"]))

    def state_dict(self, name, seed=0):
        """name -> float32 array; tied matrices are equal, and ``model_batch_count`` is a count."""
        rng = np.random.default_rng(seed)
        state = {key: rng.normal(size=shape).astype(np.float32) for key, shape in self.table[name]["shapes"].items()}
        if self.settings(name).get("decoder_shared_emb"):
            state["text_decoder.output_proj.weight"] = state["text_decoder.text_embed.weight"].copy()
        for key in state:
            if key.endswith("model_batch_count"):
                state[key] = np.array(31_410.0, np.float32)
        return state

    def write(self, folder, name, *, state=None, config=None, file="model.safetensors"):
        """A model folder as the reference has it, without tokenizer files; returns the state dict."""
        folder.mkdir(exist_ok=True)
        state = self.state_dict(name) if state is None else state
        save_file(state, folder / file)
        (folder / "config.json").write_text(json.dumps(self.settings(name) if config is None else config))
        return state


@pytest.fixture(scope="session")
def models():
    return ReferenceModels()
