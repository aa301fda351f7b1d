"""Log-mel features against lhotse, and their independence of padding."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from alp_jax.config.schema import FeatureConfig
from alp_jax.features.logmel import PAD_VALUE, log_mel, num_frames

CONFIG = FeatureConfig()
GOLDEN = np.load(pathlib.Path(__file__).parent / "golden" / "fbank.npz")
WAVES = ("speech", "chirp")
run = jax.jit(lambda audio_BS, len_B: log_mel(audio_BS, len_B, CONFIG))


@pytest.fixture(scope="module")
def batch():
    """Two waves in a batch longer than each, with garbage behind them."""
    waves = [GOLDEN[f"{name}.wave_int16"] for name in WAVES]
    audio_BS = np.random.default_rng(0).integers(-30000, 30000, (2, 24400)).astype(np.int16)
    for row, wave in zip(audio_BS, waves, strict=True):
        row[: len(wave)] = wave
    len_B = np.array([len(wave) for wave in waves], np.int32)
    return audio_BS, len_B, *map(np.asarray, run(audio_BS, len_B))


@pytest.mark.parametrize("name", WAVES)
def test_matches_lhotse_in_a_padded_batch(batch, name):
    *_, mel_BTF, _ = batch
    want = GOLDEN[f"{name}.lhotse"]
    difference = np.abs(mel_BTF[WAVES.index(name), : len(want)] - want)
    assert difference.max() < 1e-2
    assert difference.mean() < 1.5e-4  # Kaldi's own code and lhotse differ by 1.2e-4 on the chirp


def test_frames_do_not_depend_on_the_batch(batch):
    audio_BS, len_B, mel_BTF, frames_B = batch
    for row, length in enumerate(len_B):
        alone_BTF, alone_len_B = run(audio_BS[row : row + 1, :length], len_B[row : row + 1])
        assert alone_len_B[0] == frames_B[row] == alone_BTF.shape[1]
        np.testing.assert_allclose(alone_BTF[0], mel_BTF[row, : frames_B[row]], atol=1e-5)


def test_lengths_and_padding(batch):
    *_, mel_BTF, frames_B = batch
    for row, length in enumerate(frames_B):
        assert np.all(mel_BTF[row, length:] == np.float32(PAD_VALUE))
    table = {400: 3, 479: 3, 560: 4, 15919: 99, 15920: 100, 16001: 100, 16080: 101}
    assert {n: num_frames(n) for n in table} == table


def test_tiny_clips_mirror_as_often_as_needed():
    audio_BS = np.zeros((4, 800), np.int16)
    audio_BS[:, :100] = 1000  # a constant stays constant however it is mirrored: all energy is below the floor
    mel_BTF, len_B = run(audio_BS, np.array([100, 90, 1, 0], np.int32))
    assert np.isfinite(mel_BTF).all()
    assert len_B.tolist() == [1, 1, 0, 0]
    np.testing.assert_allclose(mel_BTF[:2, 0], -15.942385, atol=1e-5)


def test_sharded_over_devices():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    audio_BS = np.random.default_rng(1).integers(-3000, 3000, (8, 800)).astype(np.int16)
    len_B = np.full(8, 800, np.int32)
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    mel_BTF, _ = run(jax.device_put(audio_BS, sharding), jax.device_put(len_B, sharding))
    assert mel_BTF.dtype == jnp.float32
    np.testing.assert_allclose(mel_BTF, run(audio_BS, len_B)[0], atol=1e-5)


# As in a training step, every device has other work besides; XLA then computes the spectrum on a worker of its pool.
ON_EVERY_DEVICE = """
import jax, numpy as np
from alp_jax.config.schema import FeatureConfig
from alp_jax.features.logmel import log_mel

def step(audio_BS, len_B, matrices):
    return log_mel(audio_BS, len_B, FeatureConfig()), [jax.numpy.tanh(m @ m) @ m for m in matrices]

mesh = jax.make_mesh((jax.device_count(),), ("rows",))
rows = jax.NamedSharding(mesh, jax.P("rows"))
everywhere = jax.NamedSharding(mesh, jax.P())
audio_BS = jax.device_put(np.ones((2 * mesh.size, 48000), np.int16), rows)
len_B = jax.device_put(np.full(2 * mesh.size, 48000, np.int32), rows)
matrices = jax.device_put([np.ones((64, 64), np.float32)] * 40, everywhere)
for _ in range(3):
    jax.block_until_ready(jax.jit(step)(audio_BS, len_B, matrices))
"""


def test_all_devices_of_a_host_compute_it_at_once():
    """Releases of XLA whose FFT waits for the other workers of its own thread pool hang here."""
    devices = max(8, os.cpu_count())  # as many as XLA's pool has workers
    environ = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    subprocess.run([sys.executable, "-c", ON_EVERY_DEVICE], env=environ, check=True, timeout=60)
