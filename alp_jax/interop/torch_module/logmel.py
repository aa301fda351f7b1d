"""Kaldi log-mel features in PyTorch."""

import math

import torch
from torch import Tensor, nn

SAMPLE_RATE, WINDOW, HOP, FFT = 16000, 400, 160, 512
PREEMPHASIS, MEL_FLOOR = 0.97, 1.1920929e-07
PAD_MEL = math.log(1e-10)  # what frames behind the end of a clip hold


def valid_mask(len_B: Tensor, length: int) -> Tensor:
    """(B, length) bool, True below each clip's length."""
    return torch.arange(length, device=len_B.device) < len_B[:, None]


class LogMel(nn.Module):
    """Kaldi log-mel: 25 ms Povey windows every 10 ms; each clip is reflected at its own ends."""

    def __init__(self, num_mel_bins: int = 80, low_hz: float = 20.0, high_hz: float = 7600.0):
        super().__init__()
        hann = torch.hann_window(WINDOW, periodic=False, dtype=torch.float64)
        edges = 1127.0 * torch.log1p(torch.tensor([low_hz, high_hz], dtype=torch.float64) / 700.0)
        points = torch.linspace(float(edges[0]), float(edges[1]), num_mel_bins + 2, dtype=torch.float64)
        hz = torch.arange(FFT // 2 + 1, dtype=torch.float64)[:, None] * SAMPLE_RATE / FFT
        mel = 1127.0 * torch.log1p(hz / 700.0)
        left, centre, right = points[:-2], points[1:-1], points[2:]
        bank = torch.minimum((mel - left) / (centre - left), (right - mel) / (right - centre)).clamp(min=0.0)
        self.register_buffer("window", hann.pow(0.85).float(), persistent=False)
        self.register_buffer("bank", bank.float(), persistent=False)

    def forward(self, audio_BS: Tensor, len_B: Tensor, least: int = 1) -> tuple[Tensor, Tensor]:
        """(mel_BTF, len_B) with (samples + 80) // 160 frames per clip; frames behind the end hold ``PAD_MEL``.

        T is that of the longest clip, and at least ``least``.
        """
        # rounding noise of float32 would show in the logarithm of quiet bins; Apple's devices have nothing wider
        wide = torch.float32 if audio_BS.device.type == "mps" else torch.float64
        scale = 1.0 if audio_BS.is_floating_point() else 1.0 / 32768.0
        audio_BS = audio_BS.to(wide) * scale
        frames_B = (len_B + HOP // 2) // HOP
        start = torch.arange(frames_B.max().clamp(min=least), device=len_B.device) * HOP - (WINDOW - HOP) // 2
        index = start[:, None] + torch.arange(WINDOW, device=len_B.device)
        period_B11 = 2 * len_B[:, None, None]
        index = index % period_B11  # a clip, then its mirror image, over and over
        index = torch.minimum(index, period_B11 - 1 - index)
        x = audio_BS.gather(1, index.flatten(1)).view(index.shape)
        x = x - x.mean(-1, keepdim=True)
        x = x - PREEMPHASIS * torch.cat([x[..., :1], x[..., :-1]], -1)
        mel_BTF = (self.power(x * self.window).to(self.bank.dtype) @ self.bank).clamp(min=MEL_FLOOR).log()
        return mel_BTF.masked_fill(~valid_mask(frames_B, mel_BTF.shape[1])[..., None], PAD_MEL), frames_B

    def power(self, x_BTW: Tensor) -> Tensor:
        """power_BTK: the power spectrum of windowed frames."""
        spectrum = torch.fft.rfft(x_BTW, FFT)
        return spectrum.real.square() + spectrum.imag.square()
