"""A data set of short tones with captions, built once, and a run so small that it compiles in seconds."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile

from alp_jax.config import RunConfig, to_dict
from alp_jax.config.schema import (
    DataConfig,
    DecoderConfig,
    MeshConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimConfig,
    TextTowerConfig,
    TrainConfig,
    ZipformerConfig,
)
from alp_jax.core.clip import Clip
from alp_jax.data.building import build
from alp_jax.data.text import training

WORDS = ("low", "middle", "high", "very high")


@pytest.fixture(scope="session")
def tones(tmp_path_factory):
    """A built data set of 48 training and 16 test tones of four pitches, 0.3 to 1.2 s, with its tokenizer."""
    root = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    clips = []
    for i in range(64):
        pitch, seconds = i % 4, rng.uniform(0.3, 1.2)
        t = np.arange(int(16000 * seconds)) / 16000
        wave = 0.3 * np.sin(2 * np.pi * 220 * 2**pitch * t) + 0.01 * rng.standard_normal(len(t))
        path = root / f"{i}.wav"
        soundfile.write(path, wave, 16000, subtype="PCM_16")
        captions = (f"a {WORDS[pitch]} tone number {i}", f"someone plays a {WORDS[pitch]} note, take {i}")
        clips.append(
            Clip(
                id=f"tones:{i}",
                source="tones",
                recording=f"tones:{i}",
                audio_path=str(path),
                captions=captions,
                labels={"pitch": WORDS[pitch]},
                split="train" if i < 48 else "test",
                group=f"group {i}",
            )
        )
    build.build(clips, root / "data", source_name="tones", shards=2, workers=1)
    captions = [caption for clip in clips for caption in clip.captions]
    training.train(captions, root / "data" / "tokenizer.model", vocab_size=300)
    return root / "data"


@pytest.fixture(scope="session")
def tiny(tones):
    """Returns ``make(objective="contrastive", **changes of the sections)`` giving a tiny RunConfig on the tones."""

    def make(objective="contrastive", **sections):
        encoder = ZipformerConfig(
            num_encoder_layers=(1, 1),
            downsampling_factor=(1, 2),
            encoder_dim=(16, 24),
            feedforward_dim=(24, 32),
            num_heads=(2,),
            query_head_dim=(4,),
            value_head_dim=(4,),
            pos_dim=8,
            encoder_unmasked_dim=(16, 24),
            cnn_module_kernel=(5, 5),
            frontend_channels=(2, 4, 8),
        )
        if objective == "captioning":  # regularised: a graph three times as large
            encoder = dataclasses.replace(
                encoder,
                num_encoder_layers=(1,),
                downsampling_factor=(2,),
                encoder_dim=(16,),
                feedforward_dim=(24,),
                encoder_unmasked_dim=(12,),
                cnn_module_kernel=(5,),
            )
        text = TextTowerConfig(
            vocab_size=304,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
        )
        decoder = DecoderConfig(vocab_size=304, d_model=16, num_decoder_layers=1, decoder_nhead=2, dim_feedforward=32)
        config = RunConfig(
            data=DataConfig(
                path=str(tones),
                bucket_seconds=(1.2,),
                clips_per_batch=16,
                text_budget=12,
                batch_seconds=20.0,
            ),
            model=ModelConfig(
                name="tiny",
                depthwise_form="lax",
                encoder=encoder,
                text=text,
                decoder=decoder,
                shared_emb_dim=16,
                regularise=objective == "captioning",  # one objective with, one without: compiling is the cost
            ),
            objective=ObjectiveConfig(name=objective),
            optim=OptimConfig(lr=3e-3, warmup_steps=2),
            mesh=MeshConfig(data=2, fsdp=2, tensor=2),
            train=TrainConfig(
                steps=12,
                log_every=1,
                save_every=3,
                average="running" if objective == "captioning" else "none",
                average_period=2,
            ),
        )
        changed = {name: dataclasses.replace(getattr(config, name), **values) for name, values in sections.items()}
        return dataclasses.replace(config, **changed)

    return make


@pytest.fixture
def config_file(tmp_path):
    """Writes a RunConfig as a config file for the command line and returns its path."""

    def write(config):
        path = tmp_path / "tiny.py"
        path.write_text(
            "import json\nfrom alp_jax.config import resolve, to_config_dict\n\n"
            f"SETTINGS = {json.dumps(to_dict(config))!r}\n\n"
            "def get_config(arg=None):\n    return to_config_dict(resolve(json.loads(SETTINGS)))\n"
        )
        return path

    return write
