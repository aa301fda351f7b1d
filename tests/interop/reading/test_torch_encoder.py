"""A transformers audio encoder behind the contract of the evaluation: a tiny one with random weights."""

import numpy as np
import pytest

from alp_jax.cli.main import main
from alp_jax.core.errors import UserError
from alp_jax.interop.reading.torch_encoder import torch_encoder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """wav2vec 2.0 with two convolutions of 64 samples a frame and two layers of 16."""
    folder = tmp_path_factory.mktemp("wav2vec2")
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(8, 8),
        conv_stride=(8, 8), conv_kernel=(16, 8), num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=16_000, do_normalize=True).save_pretrained(folder)
    return folder


def batch(lengths):
    audio = np.random.default_rng(0).integers(-9000, 9000, (len(lengths), 8000)).astype(np.int16)
    return np.where(np.arange(8000) < np.array(lengths)[:, None], audio, 0), np.array(lengths, np.int32)


def test_frames_are_those_of_the_model_on_the_clip_alone(folder):
    model = torch_encoder(folder)
    audio, lengths = batch([8000, 3000, 5123])
    frames_BTD, len_B = model.frames(audio, lengths)
    theirs = transformers.Wav2Vec2Model.from_pretrained(folder).eval()
    wave = audio[1, :3000].astype(np.float32) / 32768
    wave = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)  # as its preprocessor says
    with torch.no_grad():
        expected = theirs(torch.from_numpy(wave)[None]).last_hidden_state[0].numpy()
    assert len_B[1] == len(expected)
    np.testing.assert_allclose(frames_BTD[1, : len_B[1]], expected, atol=1e-5)
    np.testing.assert_array_equal(frames_BTD[1, len_B[1] :], 0)
    alone, _ = model.frames(audio[2:, :6000], lengths[2:])
    np.testing.assert_array_equal(alone[0, : len_B[2]], frames_BTD[2, : len_B[2]])


def test_clips_that_are_too_short_and_rows_of_padding_have_a_frame(folder):
    _, len_B = torch_encoder(folder).frames(*batch([20, 0, 4000]))
    assert (len_B > 0).all()


def test_the_identity_follows_the_weights(folder, tmp_path):
    other = transformers.Wav2Vec2Model.from_pretrained(folder)
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    other.save_pretrained(tmp_path)
    transformers.AutoFeatureExtractor.from_pretrained(folder).save_pretrained(tmp_path)
    assert torch_encoder(folder).identity == torch_encoder(folder).identity != torch_encoder(tmp_path).identity


def test_folders_that_will_not_do_are_refused(folder, tmp_path, capfd):
    with pytest.raises(UserError, match=r"has no config.json"):
        torch_encoder(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"has no \*.safetensors"):
        torch_encoder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=8_000).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="for 8000, not 16000"):
        torch_encoder(tmp_path)
    assert main(["eval", "--hf", str(folder)]) == 2
    assert "--hf needs --data" in capfd.readouterr().err
