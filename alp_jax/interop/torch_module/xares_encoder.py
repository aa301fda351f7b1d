# Licensed under the Apache License, Version 2.0 (http://www.apache.org/licenses/LICENSE-2.0); Copyright alp_jax authors
"""The encoder of this folder for X-ARES (https://github.com/jimbozhang/xares); needs only PyTorch.

The suite takes the one name here that ends in "Encoder", and calls it without arguments.
"""

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

SAMPLE_RATE = 16000


class AlpAudioEncoder(nn.Module):
    """``sampling_rate``, ``output_dim``, ``hop_size_in_ms`` and ``forward`` are what the suite asks for."""

    def __init__(self):
        super().__init__()
        folder = Path(__file__).parent
        spec = importlib.util.spec_from_file_location("alp_encoder", folder / "alp_encoder.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.encoder = module.AlpEncoder.from_pretrained(folder)
        self.sampling_rate = SAMPLE_RATE
        self.output_dim = self.encoder.width
        self.hop_size_in_ms = 20 * self.encoder.audio_encoder.output_factor
        self.eval()

    def forward(self, audio: Tensor) -> Tensor:
        """(B, T, D) of audio (B, S), float in [-1, 1]; padding counts as sound, since the suite tells no lengths."""
        if audio.ndim != 2:
            raise ValueError(f"audio {list(audio.shape)} must be (clips, samples)")
        length_B = torch.full(audio.shape[:1], audio.shape[1], device=audio.device)
        return self.encoder(audio, length_B)[0]
