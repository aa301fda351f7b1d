# Licensed under the Apache License, Version 2.0 (http://www.apache.org/licenses/LICENSE-2.0); Copyright alp_jax authors
"""A pretrained audio encoder in one file that needs only PyTorch.

    from alp_encoder import AlpEncoder

    encoder = AlpEncoder.from_pretrained(".")        # the folder with config.json and model.safetensors
    frames, frame_len = encoder(audio, audio_len)    # (B, T, D) at 25 frames per second, and how many are valid
    clip = encoder.pooled(audio, audio_len)          # (B, D): mean over the valid frames

``audio`` is (B, S) mono at 16 kHz, int16 or float in [-1, 1]; ``audio_len`` is (B,) in samples. A model that was
trained against text also has ``encoder.embed_audio(audio, audio_len)``: unit vectors in the space of its captions.

The encoder is a Zipformer (Yao et al., ICLR 2024) on Kaldi log-mel features. By default (``padding="exact"``) the
result for a clip does not depend on the clips it is batched with; ``padding="reference"`` lets padding leak into
short clips the way the original implementation does. Names of parameters are those of the original implementation.
Dropout and the other regularisers of training are left out. Suffixes name axes: B clips, S samples, T frames, F mel
bins, C or D channels, H heads.
"""

import json
import math
import struct
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alp_jax.interop.torch_module.logmel import LogMel, valid_mask
from alp_jax.interop.torch_module.zipformer import Zipformer

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors format
MIN_SAMPLES = 80  # half a hop: the shortest clip that has a frame


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name; raises ValueError for a file that is not exactly one."""
    data = bytearray(Path(path).read_bytes())
    if len(data) < 8:
        raise ValueError(f"{path}: too short for a safetensors file")
    (header_size,) = struct.unpack("<Q", data[:8])
    start = 8 + header_size
    if header_size > MAX_HEADER or start > len(data):
        raise ValueError(f"{path}: claims a header of {header_size} bytes in a file of {len(data)}")
    try:
        header = json.loads(data[8:start])
        header.pop("__metadata__", None)
        entries = [(name, DTYPES[e["dtype"]], e["shape"], *e["data_offsets"]) for name, e in header.items()]
        entries.sort(key=lambda entry: entry[3:])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: damaged safetensors header ({error!r})") from None
    tensors, position = {}, 0
    for name, dtype, shape, begin, end in entries:
        fits = all(type(n) is int and n >= 0 for n in shape) and math.prod(shape) * dtype.itemsize == end - begin
        if begin != position or start + end > len(data) or not fits:
            raise ValueError(f"{path}: tensor {name} lies outside the file or does not have the size of its shape")
        piece = data[start + begin : start + end]
        flat = torch.frombuffer(piece, dtype=dtype) if piece else torch.empty(0, dtype=dtype)
        tensors[name] = flat.reshape(shape)
        position = end
    if start + position != len(data):
        raise ValueError(f"{path}: {len(data) - start - position} bytes after the last tensor")
    return tensors


def load_exactly(module: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Copies ``state`` into ``module``; raises ValueError for a missing, unused or reshaped name."""
    expected = module.state_dict()
    for name in sorted(expected.keys() - state.keys()):
        raise ValueError(f"{where} lacks {name}")
    for name in sorted(state.keys() - expected.keys()):
        raise ValueError(f"{where} has {name}, which the model of config.json does not")
    for name, value in state.items():
        if value.shape != expected[name].shape:
            raise ValueError(f"{where}: {name} is {list(value.shape)}, config.json needs {list(expected[name].shape)}")
    module.load_state_dict(state)


class AlpEncoder(nn.Module):
    """Waveforms to frame and clip embeddings; ``config`` is the content of config.json."""

    def __init__(self, config: dict):
        super().__init__()
        kind = config["model_type"]
        if kind not in ("zipformer", "clap"):
            raise ValueError(f"model_type {kind!r} must be 'zipformer' or 'clap'")
        encoder = config if kind == "zipformer" else config["audio_encoder_config"]
        self.width = max(encoder["encoder_dim"])
        self.log_mel = LogMel(**config.get("features", {"num_mel_bins": encoder["feature_dim"]}))
        self.audio_encoder = Zipformer(encoder)
        self.audio_proj = None
        if kind == "clap":
            size = config["shared_emb_dim"]
            self.audio_proj = nn.Sequential(nn.Linear(self.width, size), nn.ReLU(), nn.Linear(size, size))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "AlpEncoder":
        """The model of ``folder`` in evaluation mode, float32, on the CPU; raises ValueError for damaged files."""
        folder = Path(folder)
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            model = cls(config)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{folder / 'config.json'} does not describe an encoder: {error!r}") from None
        path = folder / "model.safetensors"
        state = read_safetensors(path)
        state = {name: value for name, value in state.items() if not name.endswith("model_batch_count")}
        load_exactly(model if model.audio_proj is not None else model.audio_encoder, state, str(path))
        return model.eval()

    def forward(self, audio_BS: Tensor, audio_len_B: Tensor, padding: str = "exact") -> tuple[Tensor, Tensor]:
        """(frames_BTD, len_B) at 25 frames per second; frames from ``len_B`` on mean nothing."""
        if audio_BS.ndim != 2 or audio_len_B.shape != audio_BS.shape[:1]:
            raise ValueError(f"audio {list(audio_BS.shape)} must be (B, S), audio_len {list(audio_len_B.shape)} (B,)")
        if not audio_BS.is_floating_point() and audio_BS.dtype != torch.int16:
            raise ValueError(f"audio is {audio_BS.dtype}; it must be int16, or float in [-1, 1]")
        if int(audio_len_B.min()) < MIN_SAMPLES or int(audio_len_B.max()) > audio_BS.shape[1]:
            raise ValueError(f"audio_len must lie between {MIN_SAMPLES} and the {audio_BS.shape[1]} samples of audio")
        return self.audio_encoder(*self.log_mel(audio_BS, audio_len_B.long()), padding=padding)

    def pooled(self, audio_BS: Tensor, audio_len_B: Tensor) -> Tensor:
        """clip_BD: the mean over the valid frames."""
        return masked_mean(*self(audio_BS, audio_len_B))

    def embed_audio(self, audio_BS: Tensor, audio_len_B: Tensor) -> Tensor:
        """embed_BD, unit vectors in the space shared with captions; ValueError for a model without that space."""
        if self.audio_proj is None:
            raise ValueError("this encoder was not trained against text; use pooled")
        frames_BTD, len_B = self(audio_BS, audio_len_B)
        return F.normalize(masked_mean(self.audio_proj(frames_BTD), len_B), dim=-1)


def masked_mean(frames_BTD: Tensor, len_B: Tensor) -> Tensor:
    """The mean over the valid frames: frames [B,T,D] and lengths [B] to [B,D]."""
    mask_BT1 = valid_mask(len_B, frames_BTD.shape[1])[..., None]
    return frames_BTD.masked_fill(~mask_BT1, 0.0).sum(1) / len_B[:, None]
