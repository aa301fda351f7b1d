"""Modules for HEAR 2021 and X-ARES beside an export pass what the suites' own checkers ask.

hearvalidator wants TensorFlow and Python below 3.9, xares a dozen packages for its tasks, so neither belongs into the
environment of the tests: their checks are written again here, from hearvalidator 2021.0.6 and xares 0.1.3.
"""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from alp_jax.cli.main import main
from alp_jax.interop.writing import parity, torch_folder
from alp_jax.interop.writing.compare import jax_results

torch = pytest.importorskip("torch", reason="the modules need the extra torch")


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory):
    """(folder of the export, int16 clips, what JAX computes for them)."""
    run, clips = tiny.run(tiny.run_config("contrastive")), tiny.sounds()
    out = tmp_path_factory.mktemp("wrappers") / "out"
    measured = {"clips": 0, "frames": 0.0, "pooled": 0.0, "tolerance": 0.0}
    torch_folder.write_torch(out, run, lambda made: measured, ("hear", "xares"))
    return out, clips, jax_results(run.config, run.params, clips)


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def noise(clips, seconds):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(clips, int(seconds * 16000), generator=generator) * 2 - 1


@pytest.fixture(scope="module")
def hear(exported):
    """(module, model) as the suite loads them."""
    module = load(exported[0] / "hear_module.py")
    return module, module.load_model(str(exported[0]))


def test_hear_model_has_the_attributes_of_the_suite(hear, exported):
    module, model = hear
    assert isinstance(model, torch.nn.Module)
    assert model.sample_rate == 16000
    assert type(model.scene_embedding_size) is type(model.timestamp_embedding_size) is int
    audio, want = noise(1, 0.5), None
    for path in ("", exported[0] / "model.safetensors", exported[0]):  # no path means the folder of the module
        found = module.get_scene_embeddings(audio, module.load_model(path))
        want = found if want is None else want
        assert torch.equal(found, want)


@pytest.mark.parametrize("seconds", [0.005, 0.02, 0.09, 1.07, 1.98, 4.0])
def test_hear_timestamps_are_regular_and_within_the_audio(hear, seconds):
    module, model = hear
    frames, times = module.get_timestamp_embeddings(noise(2, seconds), model)
    assert frames.dtype == torch.float32
    assert not frames.requires_grad
    assert frames.shape[:2] == times.shape
    assert frames.shape[0] == 2
    assert frames.shape[2] == model.timestamp_embedding_size
    assert torch.equal(times[0], times[1])
    steps = times.diff()
    assert (steps > 0).all()
    assert (steps - steps.mean()).abs().max() <= 1 if steps.numel() else True
    assert (steps <= 50).all()
    assert times.min() >= 0
    assert times.max() <= 1000 * seconds
    assert times.max() >= 1000 * seconds - 80  # the end of the sound has an embedding near


def test_hear_timestamps_are_the_middle_of_what_a_frame_is_made_of(hear):
    """Gradients say which feature frames reach a vector of the front end; features are centred at 5, 15, ... ms."""
    model = hear[1]
    front = model.encoder.audio_encoder.encoder_embed
    mel = torch.randn(1, 99, 80, generator=torch.Generator().manual_seed(0), requires_grad=True)
    vectors = front(mel, torch.tensor([46]))[0]
    for frame in (4, 10):
        middles = []
        for vector in (2 * frame, 2 * frame + 1):  # an output frame is a mean of two
            (gradient,) = torch.autograd.grad(vectors[vector].square().sum(), mel, retain_graph=True)
            reached = gradient[0].abs().sum(-1).nonzero().flatten()
            middles.append(float(reached.min() + reached.max()) / 2 * 10 + 5)
        assert np.mean(middles) == model.first_ms + model.hop_ms * frame


def test_hear_scenes_are_what_jax_computes_alone_and_in_a_batch(hear, exported):
    module, model = hear
    _, clips, expected = exported
    for clip, want in zip(clips, expected.pooled_ND, strict=True):
        audio = torch.from_numpy(clip / 32768).float()[None]
        found = module.get_scene_embeddings(audio, model)
        assert found.dtype == torch.float32
        assert found.shape == (1, model.scene_embedding_size)
        assert parity.difference(found[0].numpy(), want) <= 1e-4
    batch = noise(4, 2.74)
    together = module.get_scene_embeddings(batch, model)
    alone = torch.cat([module.get_scene_embeddings(audio[None], model) for audio in batch])
    assert (together - alone).abs().max() <= 1e-5
    assert (together[0] - together[1]).abs().max() > 1e-4  # they do differ
    frames, _ = module.get_timestamp_embeddings(batch, model)
    assert (frames.mean(1) - together).abs().max() <= 1e-6
    with pytest.raises(ValueError, match=r"must be \(sounds, samples\)"):
        module.get_scene_embeddings(batch[0], model)


def test_xares_finds_one_encoder_and_what_it_asks_of_it(exported):
    module = load(exported[0] / "xares_encoder.py")
    names = [name for name in dir(module) if name.endswith("Encoder")]
    assert len(names) == 1
    encoder = getattr(module, names[0])()
    assert isinstance(encoder, torch.nn.Module)
    assert not encoder.training
    assert encoder.sampling_rate == 16000
    for length in (50000, 20000):
        audio = noise(2, length / 16000)
        with torch.inference_mode():
            found = encoder(audio)
        assert found.dtype == torch.float32
        assert found.ndim == 3
        assert found.shape[0] == 2
        assert found.shape[2] == encoder.output_dim
        assert abs(length / 16 / found.shape[1] - encoder.hop_size_in_ms) < 3  # hop is audio by frames, about
    _, clips, expected = exported
    with torch.inference_mode():
        found = encoder(torch.from_numpy(clips[3] / 32768).float()[None])
    assert parity.difference(found[0].numpy(), expected.frames[3]) <= 1e-4
    with pytest.raises(ValueError, match=r"must be \(clips, samples\)"):
        encoder(audio[0])


def test_the_modules_need_nothing_but_torch(exported):
    """In a process where JAX and this project cannot be imported."""
    text = """
import sys
for name in ("jax", "flax", "alp_jax", "safetensors", "soundfile"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
import torch, hear_module, xares_encoder
audio = torch.zeros(1, 8000)
scene = hear_module.get_scene_embeddings(audio, hear_module.load_model())
frames = xares_encoder.AlpAudioEncoder()(audio)
print(scene.shape == (1, 24) and bool((frames.mean(1) - scene).abs().max() < 1e-5))
"""
    command = [sys.executable, "-I", "-c", text, str(exported[0])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "True", done.stderr


def test_the_flag_writes_the_modules_it_names(folders, tmp_path, capfd):
    _, run, _ = folders
    start = ["export", "torch", f"--run={run}", f"--out={tmp_path / 'out'}"]
    for flags, words in (
        (["--wrappers=hears"], "unknown --wrappers 'hears'"),
        (["--wrappers="], "unknown --wrappers ''"),
        (["--wrappers=hear", "--format=auden"], "belong to --format torch"),
    ):
        assert main([*start, *flags]) == 2
        lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("alp: ")]
        assert len(lines) == 1
        assert words in lines[0]
        assert list(tmp_path.iterdir()) == []
    assert main([*start, "--wrappers=hear"]) == 0
    files = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert files == ["README.md", "alp_encoder.py", "config.json", "hear_module.py", "model.safetensors"]
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "hear_module.py" in readme
    assert "xares" not in readme
    torch_folder.remove_export(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
