"""Models with random numbers in them: under the reference's names in shapes that it wrote, and tiny ones of ours."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
import soundfile
from safetensors.numpy import save_file

from alp_jax.config import RunConfig, to_dict
from alp_jax.config.schema import (
    DataConfig,
    DecoderConfig,
    ModelConfig,
    ObjectiveConfig,
    TextTowerConfig,
    ZipformerConfig,
)
from alp_jax.core.clip import Clip
from alp_jax.data.building import build
from alp_jax.interop.writing.run import Run
from alp_jax.train.build import make_model
from alp_jax.train.checkpoint import Checkpoints


class ReferenceModels:
    """By the names in golden/state_dicts.json."""

    def __init__(self):
        self.table = json.loads(
            (pathlib.Path(__file__).parents[1] / "golden" / "vectors" / "state_dicts.json").read_text()
        )

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


class TinyModels:
    """Models of three narrow stacks, and audio for them."""

    @staticmethod
    def run_config(objective, data="unused", causal=False):
        encoder = ZipformerConfig(
            num_encoder_layers=(1, 1, 1),
            downsampling_factor=(1, 4, 2),
            encoder_dim=(16, 24, 20),
            feedforward_dim=(24, 32, 24),
            num_heads=(2,),
            query_head_dim=(4,),
            value_head_dim=(4,),
            pos_dim=8,
            encoder_unmasked_dim=(16, 24, 20),
            cnn_module_kernel=(5, 3, 5),
            frontend_channels=(2, 4, 8),
            causal=causal,
            chunk_size=(8 if causal else -1,),
            left_context_frames=(16 if causal else -1,),
        )
        text = TextTowerConfig(
            vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
        decoder = DecoderConfig(vocab_size=40, d_model=16, num_decoder_layers=1, decoder_nhead=2, dim_feedforward=16)
        model = ModelConfig(name="tiny", encoder=encoder, text=text, decoder=decoder, shared_emb_dim=12)
        return RunConfig(data=DataConfig(path=str(data)), model=model, objective=ObjectiveConfig(name=objective))

    @staticmethod
    def random_params(config, seed=0):
        """Random values in the shapes of the model, none at a start value that would hide it; nothing is compiled."""
        rng = np.random.default_rng(seed)
        shapes = jax.eval_shape(make_model(config)[0], jax.random.key(seed))

        def draw(like):
            scale = 1 / np.sqrt(np.prod(like.shape[:-1])) if len(like.shape) > 1 else 0.2
            return np.asarray(scale * rng.standard_normal(like.shape), np.float32)

        return jax.tree.map(draw, shapes)

    def run(self, config):
        """A run of random parameters, as an export opens it; of no folder."""
        return Run(pathlib.Path("demo"), 7, None, config, self.random_params(config), None)

    @staticmethod
    def sounds():
        """int16 clips of several lengths with loud, quiet and silent stretches."""
        rng = np.random.default_rng(0)
        clips = []
        for length in (400, 5000, 16000, 21357):
            wave = rng.normal(0, 3000, length) * np.linspace(0, 1, length) ** 3
            wave[length // 2 : length // 2 + length // 8] = 0
            clips.append(wave.astype(np.int16))
        return clips


@pytest.fixture(scope="session")
def tiny():
    return TinyModels()


@pytest.fixture(scope="session")
def folders(tmp_path_factory, tiny):
    """(root, run folder of a causal captioning model, its data set with four test clips)."""
    root = tmp_path_factory.mktemp("export")
    clips = []
    for i, wave in enumerate([*tiny.sounds(), *tiny.sounds()]):
        wave = np.maximum(wave, 1)  # silence alone would be left out of the data set
        path = root / f"{i}.wav"
        soundfile.write(path, np.tile(wave, 2), 16000, subtype="PCM_16")
        clips.append(
            Clip(
                id=f"noise:{i}",
                source="noise",
                recording=f"noise:{i}",
                audio_path=str(path),
                captions=("noise",),
                split="test" if i < 4 else "train",
                group=str(i),
            )
        )
    build.build(clips, root / "data", source_name="noise", shards=1, workers=1, max_bad_share=0.5)
    config = tiny.run_config("captioning", root / "data", causal=True)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, compute_dtype="bfloat16"))
    run = root / "runs" / "demo"
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(to_dict(config)))
    checkpoints = Checkpoints(run, keep=1)
    checkpoints.save(3, {"params": tiny.random_params(config)}, {})
    checkpoints.close()
    return root, run, root / "data"
