# Licensed under the Apache License, Version 2.0 (http://www.apache.org/licenses/LICENSE-2.0); Copyright alp_jax authors
"""The encoder of this folder for HEAR 2021 (https://hearbenchmark.com/hear-api.html); needs only PyTorch.

Suffixes name axes: B sounds, S samples, T frames, D numbers.
"""

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

SAMPLE_RATE = 16000
HOP_MS = 10  # of the features
FIRST_MS = 45  # the middle of the nine feature frames that the first vector of the front end sees


class HearModel(nn.Module):
    """The encoder with the attributes that the suite asks for; ``hop_ms`` is the step between timestamps."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.sample_rate = SAMPLE_RATE
        self.scene_embedding_size = self.timestamp_embedding_size = encoder.width
        factor = encoder.audio_encoder.output_factor
        self.hop_ms = 2 * HOP_MS * factor
        self.first_ms = FIRST_MS + HOP_MS * (factor - 1)  # the middle of those that one frame is a mean of

    def forward(self, audio_BS: Tensor) -> tuple[Tensor, Tensor]:
        """(frames_BTD, len_B) of sounds of one length."""
        if audio_BS.ndim != 2:
            raise ValueError(f"audio {list(audio_BS.shape)} must be (sounds, samples)")
        length_B = torch.full(audio_BS.shape[:1], audio_BS.shape[1], device=audio_BS.device)
        return self.encoder(audio_BS, length_B)


def load_model(model_file_path: str = "") -> HearModel:
    """The model of a folder, or of a file in it; without a path, that of the folder this module lies in."""
    path = Path(model_file_path or Path(__file__).parent)
    folder = path.parent if path.is_file() else path
    spec = importlib.util.spec_from_file_location("alp_encoder", folder / "alp_encoder.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return HearModel(module.AlpEncoder.from_pretrained(folder)).eval()


@torch.no_grad()
def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """(B, D) float32: means over time. ``audio`` is (B, S), float in [-1, 1] at ``model.sample_rate``."""
    frames_BTD, _ = model(audio)
    return frames_BTD.mean(1)


@torch.no_grad()
def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """((B, T, D) float32, (B, T) milliseconds): frames, and the middle of the sound each is computed around.

    The first lies 55 ms after the start, since the front end pads no time; attention sees the whole sound anyway.
    """
    frames_BTD, _ = model(audio)
    time_T = model.first_ms + model.hop_ms * torch.arange(frames_BTD.shape[1], device=audio.device)
    time_T = time_T.float().clamp(max=1000 * audio.shape[1] / model.sample_rate)  # of sounds under 55 ms
    return frames_BTD, time_T.expand(frames_BTD.shape[:2])
