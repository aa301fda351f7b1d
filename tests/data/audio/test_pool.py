"""Decoding in watched processes: order, limits, and what a file that kills or hangs its worker costs."""

import multiprocessing
import os
import signal

import numpy as np
import pytest
import soundfile

from alp_jax.core.errors import UserError
from alp_jax.data.audio.listing import list_audio
from alp_jax.data.audio.pool import Failure, decode_files
from alp_jax.data.audio.reader import Limits, load

LIMITS = Limits()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five tones of different lengths, and a .g722 file of ten minutes that takes a second or more to decode."""
    root = tmp_path_factory.mktemp("sounds")
    for i in range(5):
        tone = 0.3 * np.sin(np.arange(16000 * (5 - i) // 2) * 0.1 * (i + 1))
        soundfile.write(root / f"{i}.wav", tone, 16000, subtype="PCM_16")
    (root / "slow.g722").write_bytes(bytes(range(1, 251)) * (8000 * 590 // 250))
    return root


def test_sounds_come_in_order_whatever_the_number_of_workers(folder):
    paths = [str(folder / f"{i}.wav") for i in (3, 0, 4, 1, 2)] + [str(folder / "gone.wav")]
    *sounds, last = decode_files(paths, LIMITS, workers=2)
    for path, sound in zip(paths, sounds, strict=False):
        np.testing.assert_array_equal(sound, load(path, 0.0, None, LIMITS))
    assert last == Failure("missing", "missing: No such file or directory")


def test_a_worker_that_dies_or_hangs_costs_one_file(folder):
    good, slow = str(folder / "0.wav"), str(folder / "slow.g722")
    decoded = decode_files([good, slow, good, slow, good], LIMITS, workers=1, file_seconds=2.0)
    assert len(next(decoded)) == 40000
    for process in multiprocessing.active_children():  # it has the second file by now
        process.kill()
    assert next(decoded).reason == "decoder_crashed"
    assert len(next(decoded)) == 40000
    for process in multiprocessing.active_children():  # it has the fourth file by now
        os.kill(process.pid, signal.SIGSTOP)
    assert next(decoded).reason == "decoder_timeout"
    assert [len(item) for item in decoded] == [40000]
    assert not multiprocessing.active_children()


def test_a_file_that_takes_too_much_memory_is_reported(folder):
    paths = [str(folder / "slow.g722"), str(folder / "0.wav")]
    first, second = decode_files(paths, LIMITS, workers=1, memory_bytes=32 << 20)
    assert first.reason == "decoder_crashed"
    assert len(second) == 40000


def test_listing_is_sorted_and_counts_what_it_passes_over(tmp_path):
    for name in ("b/2.wav", "b/10.WAV", "a.flac", "notes.txt", "b/x.wma", ".hidden.wav", ".cache/y.wav", "README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "link.wav").symlink_to(tmp_path / "nowhere")
    found, others = list_audio(tmp_path)
    assert [(file.path, file.size) for file in found] == [
        ("a.flac", 1),
        ("b/10.WAV", 1),
        ("b/2.wav", 1),
        ("link.wav", 0),
    ]
    assert others == {".txt": 1, ".wma": 1, "none": 1}
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no audio"):
        list_audio(tmp_path / "empty")


def test_one_name_that_is_not_utf8_costs_one_file(tmp_path, capfd):
    for name in (b"a.wav", b"caf\xe9.wav"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    (tmp_path / os.fsdecode(b"d\xe9")).mkdir()
    (tmp_path / os.fsdecode(b"d\xe9") / "b.wav").write_bytes(b"x")
    found, others = list_audio(tmp_path)
    assert [file.path for file in found] == ["a.wav"]
    assert others == {"not UTF-8": 2}
    assert "caf\\udce9.wav', whose name is not UTF-8: rename it" in capfd.readouterr().err
