"""Kaldi-compatible log-mel filterbank on device.

The definition is that of Kaldi's ``compute-fbank-feats`` with ``--snip-edges=false --dither=0`` as lhotse and
kaldi-native-fbank compute it: 25 ms frames every 10 ms at 16 kHz, DC removal, pre-emphasis 0.97, Povey window,
512-point power spectrum, triangular mel bins, logarithm.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alp_jax.config.schema import FeatureConfig
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.target import backend

HOP, WINDOW, FFT = 160, 400, 512
EDGE = (WINDOW - HOP) // 2  # samples of reflection before the first sample
BLOCK = 80  # divides hop, window and twice the edge, so frames are slices of a reshaped signal
PRE_EMPHASIS = 0.97
PAD_VALUE = float(np.log(1e-10))  # of frames beyond a clip; the reference's collation pads so
FLOOR = float(np.finfo(np.float32).eps)
CPU_CHUNK = 16  # frames


def num_frames(num_samples: Any) -> Any:
    """Frames of a clip: one per 10 ms, rounded; of a whole number or an array of them."""
    return (num_samples + HOP // 2) // HOP


def mel_filterbank(config: FeatureConfig) -> np.ndarray:
    """weights_KF float32 of the K = 257 spectrum bins; triangles in 1127 ln(1 + f / 700)."""

    def mel(hz: float | np.ndarray) -> np.ndarray:
        return 1127.0 * np.log1p(np.asarray(hz, np.float64) / 700.0)

    edges = np.linspace(mel(config.low_hz), mel(config.high_hz), config.num_mel_bins + 2)
    bins = mel(np.arange(FFT // 2 + 1) * (SAMPLE_RATE / FFT))[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


def povey_window() -> np.ndarray:
    """window_W float32: a symmetric Hann window to the power 0.85."""
    return ((0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / (WINDOW - 1))) ** 0.85).astype(np.float32)


def log_mel(
    audio_BS: jax.Array, audio_len_B: jax.Array, config: FeatureConfig, platform: str = ""
) -> tuple[jax.Array, jax.Array]:
    """Log-mel features of a padded batch.

    The signal is mirrored at both ends of each clip, the edge sample included; a clip of fewer than 120 samples is
    mirrored as often as needed. So the frames of a clip do not depend on the padding or on the rest of the batch.

    Args:
      audio_BS: int16 samples at 16 kHz.
      audio_len_B: int32 valid samples of each row.
      platform: ``cpu``, ``gpu`` or ``tpu``, which this is traced for; "": what jax finds, or what is planned for.

    Returns:
      mel_BTF float32 with T = (S + 80) // 160, ``PAD_VALUE`` beyond a clip's frames, and len_B = (len + 80) // 160.
    """
    platform = platform or backend(jax.default_backend)
    mel_frames = num_frames(audio_BS.shape[1])
    len_B = num_frames(audio_len_B)
    # On CPU a few frames of every clip at a time stay in the cache (three times faster); a GPU wants all at once.
    chunk = CPU_CHUNK if platform == "cpu" else mel_frames
    chunks = -(-mel_frames // chunk)
    signal_BN = _mirrored(audio_BS, audio_len_B, chunks * chunk)

    def energies(first_frame: jax.Array) -> jax.Array:
        part_BN = lax.dynamic_slice_in_dim(signal_BN, first_frame * HOP, HOP * (chunk - 1) + WINDOW, axis=1)
        power_BTK = _power_spectrum(part_BN, chunk, platform)
        return jnp.matmul(power_BTK, mel_filterbank(config), precision=lax.Precision.HIGHEST)

    energy_CBTF = lax.map(energies, jnp.arange(chunks) * chunk)
    energy_BTF = jnp.moveaxis(energy_CBTF, 0, 1).reshape(len(audio_BS), chunks * chunk, -1)[:, :mel_frames]
    valid_BT = jnp.arange(mel_frames) < len_B[:, None]
    return jnp.where(valid_BT[:, :, None], jnp.log(jnp.maximum(energy_BTF, FLOOR)), PAD_VALUE), len_B


def _power_spectrum(signal_BN: jax.Array, mel_frames: int, platform: str) -> jax.Array:
    """power_BTK float32 of int16 samples.

    Float32 leaves noise at 1e-7 of the loudest bin, which the logarithm shows in quiet bins and which no other
    implementation repeats, so all of it up to the power is float64 where the hardware has that.
    """
    with jax.enable_x64(platform != "tpu"):
        wide = jnp.float64 if jax.config.jax_enable_x64 else jnp.float32  # type: ignore[attr-defined]  # named in C++
        signal_BN = lax.convert_element_type(signal_BN, wide) * wide(1 / 32768)
        blocks = signal_BN.reshape(signal_BN.shape[0], -1, BLOCK)
        per_hop, per_window = HOP // BLOCK, WINDOW // BLOCK
        last = per_hop * (mel_frames - 1) + 1
        frames_BTW = jnp.concatenate([blocks[:, i : i + last : per_hop] for i in range(per_window)], axis=-1)
        frames_BTW -= jnp.mean(frames_BTW, axis=-1, keepdims=True)
        before_BTW = jnp.concatenate([frames_BTW[..., :1], frames_BTW[..., :-1]], axis=-1)
        window_W = lax.convert_element_type(povey_window(), wide)
        spectrum = jnp.fft.rfft((frames_BTW - wide(PRE_EMPHASIS) * before_BTW) * window_W, FFT)
        return lax.convert_element_type(jnp.square(spectrum.real) + jnp.square(spectrum.imag), jnp.float32)


def _mirrored(audio_BS: jax.Array, audio_len_B: jax.Array, mel_frames: int) -> jax.Array:
    """signal_BN: sample n of row b is audio[n - EDGE], the positions outside of the clip folded back into it."""
    blocks = (HOP * (mel_frames - 1) + WINDOW) // BLOCK
    position_N = jnp.arange(blocks * BLOCK) - EDGE
    length_B1 = jnp.maximum(audio_len_B, 1)[:, None]
    folded_BN = position_N % (2 * length_B1)  # a mirrored signal repeats after twice its length
    source_BN = jnp.minimum(folded_BN, 2 * length_B1 - 1 - folded_BN)
    return jnp.take_along_axis(audio_BS, source_BN, axis=1)
