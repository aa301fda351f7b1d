import ast
import importlib.util
import json
import pathlib
import struct
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from alp_jax.interop.writing.torch_folder import single_file

torch = pytest.importorskip("torch")
from safetensors.torch import save, save_file  # noqa: E402

from alp_jax.interop.torch_module.encoder import AlpEncoder, load_exactly, masked_mean, read_safetensors  # noqa: E402
from alp_jax.interop.torch_module.layers import FrameLengths  # noqa: E402
from alp_jax.interop.torch_module.logmel import PAD_MEL, LogMel, valid_mask  # noqa: E402
from alp_jax.interop.torch_module.zipformer import Zipformer  # noqa: E402

torch.set_num_threads(1)  # threads only get in one another's way in models this small
GOLDEN = pathlib.Path(__file__).parent / "golden_torch"
TINY = {
    "model_type": "zipformer",
    "feature_dim": 80,
    "output_downsampling_factor": 2,
    "num_encoder_layers": [1, 2, 1],
    "downsampling_factor": [1, 4, 2],
    "encoder_dim": [16, 24, 20],
    "feedforward_dim": [24, 32, 24],
    "num_heads": [2],
    "query_head_dim": [4],
    "value_head_dim": [4],
    "pos_head_dim": [4],
    "pos_dim": 8,
    "cnn_module_kernel": [5, 3, 5],
    "causal": False,
    "chunk_size": [-1],
    "left_context_frames": [-1],
    "frontend_channels": [2, 4, 8],
}
CLAP = {"model_type": "clap", "audio_encoder_config": TINY, "shared_emb_dim": 12}


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


def make(config=CLAP):
    """A model in which every parameter matters: torch's start values plus noise."""
    torch.manual_seed(0)
    model = AlpEncoder(config).eval()
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def noise(*lengths):
    """int16 noise of the given lengths, padded with loud garbage."""
    rng = np.random.default_rng(1)
    audio_BS = rng.integers(-30000, 30000, (len(lengths), max(lengths))).astype(np.int16)
    for row, length in zip(audio_BS, lengths, strict=True):
        row[:length] = rng.normal(0, 3000, length)
    return torch.from_numpy(audio_BS), torch.tensor(lengths)


@pytest.mark.parametrize(("chunk", "left", "name"), [(-1, -1, "out_full"), (8, 32, "out_8_32"), (16, 64, "out_16_64")])
def test_causal_stacks_equal_the_reference(chunk, left, name):
    config = json.loads((GOLDEN / "causal_config.json").read_text())
    model = Zipformer({**config, "chunk_size": [chunk], "left_context_frames": [left]}).eval()
    load_exactly(model.encoder, read_safetensors(GOLDEN / "causal_stacks.safetensors"), "golden")
    io = {key: torch.from_numpy(value) for key, value in load_file(GOLDEN / "causal_io.safetensors").items()}
    length = io["x_BTD"].shape[1]
    lengths = FrameLengths(
        valid_mask(io["len_B"], length), torch.full_like(io["len_B"], length), model._allowed(length, "cpu"), chunk
    )
    frames_BTD = model.encoder(io["x_BTD"], lengths)
    assert (frames_BTD - io[name]).abs().max() <= 1e-5


@pytest.mark.parametrize("as_float", [False, True])
def test_log_mel_equals_lhotse_and_does_not_see_padding(as_float):
    io = load_file(GOLDEN / "fbank.safetensors")
    waves = [torch.from_numpy(io[f"{name}.wave_int16"]) for name in ("chirp", "noise")]
    len_B = torch.tensor([len(wave) for wave in waves])
    audio_BS, _ = noise(*len_B.tolist())
    for row, wave in zip(audio_BS, waves, strict=True):
        row[: len(wave)] = wave
    mel_BTF, frames_B = LogMel()(audio_BS / 32768.0 if as_float else audio_BS, len_B)
    assert torch.equal(mel_BTF, LogMel()(audio_BS, len_B)[0])
    for mel_TF, frames, name in zip(mel_BTF, frames_B, ("chirp", "noise"), strict=True):
        want = torch.from_numpy(io[f"{name}.lhotse"])
        assert frames == len(want)
        difference = (mel_TF[:frames] - want).abs()
        assert difference.max() <= 1e-2
        assert difference.mean() <= 2e-4
        assert (mel_TF[frames:] == PAD_MEL).all()


def test_exact_padding_gives_every_clip_what_it_has_alone():
    model = make()
    audio_BS, len_B = noise(80, 900, 8000, 12345)
    frames_BTD, frames_len_B = model(audio_BS, len_B)
    pooled_BD, embed_BD = model.pooled(audio_BS, len_B), model.embed_audio(audio_BS, len_B)
    assert frames_len_B.tolist() == [1, 1, 11, 18]
    for row, length in enumerate(len_B.tolist()):
        audio, one = audio_BS[row : row + 1, :length], len_B[row : row + 1]
        alone_BTD, alone_len_B = model(audio, one)
        torch.testing.assert_close(frames_BTD[row, : frames_len_B[row]], alone_BTD[0], atol=1e-5, rtol=0)
        assert alone_len_B == frames_len_B[row] == alone_BTD.shape[1]
        torch.testing.assert_close(pooled_BD[row], alone_BTD[0].mean(0), atol=1e-5, rtol=0)
        torch.testing.assert_close(embed_BD[row], model.embed_audio(audio, one)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(embed_BD.norm(dim=1), torch.ones(4))


def test_reference_padding_lets_padding_in_and_equals_exact_without_any():
    model = make(TINY)
    audio_BS, len_B = noise(8000, 12345)
    exact_BTD, frames_len_B = model(audio_BS, len_B)
    reference_BTD, reference_len_B = model(audio_BS, len_B, padding="reference")
    assert torch.equal(frames_len_B, reference_len_B)
    valid = int(frames_len_B[0])
    assert (exact_BTD[0, :valid] - reference_BTD[0, :valid]).abs().max() > 1e-2
    torch.testing.assert_close(exact_BTD[1], reference_BTD[1], atol=1e-5, rtol=0)


def test_masked_mean_leaves_out_what_lies_behind_the_end():
    frames_BTD = torch.tensor([[[1.0], [3.0], [float("nan")]]])
    assert masked_mean(frames_BTD, torch.tensor([2])).item() == 2.0


@pytest.mark.parametrize(
    ("audio", "len_B", "message"),
    [
        (torch.zeros(800), [800], r"must be \(B, S\)"),
        (torch.zeros(1, 800), [800, 800], r"must be \(B, S\)"),
        (torch.zeros(1, 800, dtype=torch.int32), [800], "int16"),
        (torch.zeros(1, 800), [801], "audio_len"),
        (torch.zeros(1, 800), [79], "audio_len"),
    ],
)
def test_audio_of_another_form_is_refused(audio, len_B, message):
    with pytest.raises(ValueError, match=message):
        make(TINY)(audio, torch.tensor(len_B))


def test_a_model_without_text_space_says_so_and_a_wrong_padding_too():
    model, (audio_BS, len_B) = make(TINY), noise(800)
    with pytest.raises(ValueError, match="not trained against text"):
        model.embed_audio(audio_BS, len_B)
    with pytest.raises(ValueError, match="padding='none'"):
        model(audio_BS, len_B, padding="none")


def save_model(folder, config, **changes):
    """Writes a folder for ``from_pretrained``; a change of None leaves that tensor out."""
    model = make(config)
    part = model if config["model_type"] == "clap" else model.audio_encoder
    state = {**part.state_dict(), **changes}
    save_file({name: value for name, value in state.items() if value is not None}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return model


@pytest.mark.parametrize("config", [TINY, CLAP], ids=["zipformer", "clap"])
def test_saved_weights_come_back(tmp_path, config):
    count = {"model_batch_count" if config is TINY else "audio_encoder.model_batch_count": torch.tensor(5.0)}
    model = save_model(tmp_path, config, **count)
    loaded, (audio_BS, len_B) = AlpEncoder.from_pretrained(tmp_path), noise(8000)
    assert not loaded.training
    assert torch.equal(loaded(audio_BS, len_B)[0], model(audio_BS, len_B)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder.downsample_output.bias": None}, "lacks encoder.downsample_output.bias"),
        ({"encoder.extra": torch.zeros(1)}, "has encoder.extra"),
        ({"encoder.downsample_output.bias": torch.zeros(3)}, r"bias is \[3\], config.json needs \[2\]"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, change, message):
    save_model(tmp_path, TINY, **change)
    with pytest.raises(ValueError, match=message):
        AlpEncoder.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**TINY, "model_type": "whisper"}, "whisper"),
        ({"model_type": "zipformer"}, "feature_dim|encoder_dim"),
        ({**TINY, "num_heads": [2, 2]}, "num_heads has 2 values for 3 stacks"),
    ],
)
def test_a_configuration_that_is_none_is_refused(tmp_path, config, message):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        AlpEncoder.from_pretrained(tmp_path)


def damaged_files():
    whole = save({"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2, dtype=torch.bfloat16)})
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}

    def with_header(header, data=b"\0" * 8):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data

    return {
        "empty": b"",
        "header of 2^60 bytes": struct.pack("<Q", 2**60) + whole[8:],
        "truncated": whole[:-1],
        "longer": whole + b"\0",
        "not JSON": with_header(b"{]"),
        "not an object": with_header(b"[1]"),
        "unknown type": with_header({"a": {**entry, "dtype": "Q4"}}),
        "beyond the end": with_header({"a": {**entry, "data_offsets": [0, 2**40], "shape": [2**38]}}),
        "size is not the shape's": with_header({"a": {**entry, "shape": [1]}}),
        "shape of words": with_header({"a": {**entry, "shape": ["two"]}}),
        "negative shape": with_header({"a": {**entry, "shape": [-1, -2]}}),
        "overlap": with_header({"a": entry, "b": entry}),
    }


@pytest.mark.parametrize("kind", damaged_files())
def test_damaged_safetensors_are_errors_that_name_the_file(tmp_path, kind):
    path = tmp_path / "model.safetensors"
    path.write_bytes(damaged_files()[kind])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        read_safetensors(path)


def test_a_giant_header_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(damaged_files()["header of 2^60 bytes"])
    with pytest.raises(ValueError, match=f"claims a header of {2**60} bytes"):
        read_safetensors(path)


def test_whole_safetensors_are_read(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "s": torch.tensor(2.5), "h": torch.ones(3, dtype=torch.bfloat16)}
    tensors["none"] = torch.zeros(0, 4)
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    found = read_safetensors(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in tensors.items())


def test_the_single_file_needs_only_torch_and_is_the_same_model(tmp_path):
    text = single_file()
    tree = ast.parse(text)
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.split(".")[0] for name in names} <= {"torch"} | sys.stdlib_module_names
    assert "alp_jax." not in text
    assert text.startswith("# Licensed under the Apache License")
    (tmp_path / "alp_encoder.py").write_text(text)
    spec = importlib.util.spec_from_file_location("alp_encoder", tmp_path / "alp_encoder.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = save_model(tmp_path, CLAP)
    loaded, (audio_BS, len_B) = module.AlpEncoder.from_pretrained(tmp_path), noise(8000)
    assert torch.equal(loaded.embed_audio(audio_BS, len_B), model.embed_audio(audio_BS, len_B))
