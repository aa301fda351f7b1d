"""Vectors of sounds: the same alone, in batches, in any padding; long ones by windows; folders, stops, mistakes."""

import dataclasses
import json

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from alp_jax.config import RunConfig
from alp_jax.config.schema import ModelConfig, ObjectiveConfig, TextTowerConfig, ZipformerConfig
from alp_jax.core.errors import AlpError, UserError
from alp_jax.data.audio import reader
from alp_jax.data.audio.errors import BadAudio
from alp_jax.data.audio.pool import Failure
from alp_jax.evaluation.embedding import embed_folder as folders
from alp_jax.evaluation.embedding.embed import EmbedSettings, embed, window_starts
from alp_jax.evaluation.embedding.embed_folder import embed_folder
from alp_jax.train.build import make_model
from alp_jax.train.evaluate import frozen_model

RATE = 16000
SHORT = EmbedSettings(window_seconds=1.0, batch_size=3)


class Stopped(Exception):
    """What ends a job half-way."""


@pytest.fixture(scope="session")
def tiny_encoder():
    """A contrastive model of two narrow zipformer stacks with random weights."""
    encoder = ZipformerConfig(
        num_encoder_layers=(1, 1), downsampling_factor=(1, 2), encoder_dim=(16, 24), feedforward_dim=(24, 32),
        num_heads=(2,), query_head_dim=(4,), value_head_dim=(4,), pos_dim=8, encoder_unmasked_dim=(16, 24),
        cnn_module_kernel=(5, 5), frontend_channels=(2, 4, 8),
    )  # fmt: skip
    text = TextTowerConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=8,
    )  # fmt: skip
    model = ModelConfig(name="tiny", depthwise_form="lax", encoder=encoder, text=text, shared_emb_dim=12)
    config = RunConfig(model=model, objective=ObjectiveConfig(name="contrastive"))
    return frozen_model(config, make_model(config)[0](jax.random.key(0)), "tiny@0")


def make_sound(seconds, seed=0):
    rng = np.random.default_rng([seed, round(seconds * 1000)])
    n = round(seconds * RATE)
    wave = 6000 * np.sin(np.arange(n) * rng.uniform(0.05, 0.8)) + 1500 * rng.standard_normal(n)
    return np.clip(wave, -32768, 32767).astype(np.int16)


@pytest.mark.parametrize("pooling", ["mean", "joint"])
def test_a_sound_has_one_vector_in_any_batch_and_padding(tiny_encoder, pooling):
    sounds = [make_sound(seconds) for seconds in (0.3, 0.7, 0.95, 1.9, 0.5, 2.4)]
    batch = dataclasses.replace(SHORT, pooling=pooling)
    together = embed(tiny_encoder, [(7 * i, sound) for i, sound in enumerate(sounds)], batch)
    assert list(together) == [0, 7, 14, 21, 28, 35]
    for i in (0, 1, 5):
        alone = embed(tiny_encoder, [(0, sounds[i])], dataclasses.replace(batch, batch_size=1))[0]
        assert alone.dtype == np.float32
        np.testing.assert_allclose(together[7 * i], alone, rtol=0, atol=1e-5)
    wide = embed(tiny_encoder, [(0, sounds[1])], dataclasses.replace(batch, window_seconds=0.75, batch_size=1))[0]
    np.testing.assert_allclose(together[7], wide, rtol=0, atol=1e-5)  # 0.75 s wide here, 1 s there


def test_long_sounds_are_the_mean_over_the_frames_of_their_windows(tiny_encoder):
    sound = make_sound(2.62)
    starts = {0.0: [0, 16000, 32000], 0.75: [0, 12000, 24000, 36000]}
    for stride, first in starts.items():
        settings = dataclasses.replace(SHORT, stride_seconds=stride)
        assert list(window_starts(len(sound), settings)) == first
        frames = []
        for start in first:
            piece = sound[start : start + RATE]
            frames_BTD, len_B = tiny_encoder.frames(piece[None], np.array([len(piece)]))
            frames.append(np.asarray(frames_BTD)[0, : int(len_B[0])])
        frames_TD = np.concatenate(frames)
        assert len({len(part) for part in frames}) == 2  # the last window is shorter, so means of means would differ
        mean = embed(tiny_encoder, [(0, sound)], settings)[0]
        np.testing.assert_allclose(mean, frames_TD.mean(0), rtol=0, atol=1e-5)
        joint = embed(tiny_encoder, [(0, sound)], dataclasses.replace(settings, pooling="joint"))[0]
        pooled = tiny_encoder.pool_audio(frames_TD[None], np.array([len(frames_TD)]))[0]
        np.testing.assert_allclose(joint, pooled, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("num_samples", "count"), [(1600, 1), (17599, 1), (17600, 2), (33599, 2), (33600, 3)])
def test_windows_leave_less_than_a_tenth_of_a_second(num_samples, count):
    assert len(window_starts(num_samples, SHORT)) == count


def test_sounds_below_a_tenth_of_a_second_are_refused(encoder):
    with pytest.raises(UserError, match="sound 7 has 1599 samples"):
        embed(encoder, [(7, make_sound(1.0)[:1599])], SHORT)


def test_an_encoder_whose_output_is_not_finite_fails_that_file(encoder, sounds, tmp_path, in_process):
    def frames(audio_BS, audio_len_B):
        frames_BTD, len_B = encoder.frames(audio_BS, audio_len_B)
        return np.where((audio_len_B == 6400)[:, None, None], np.nan, frames_BTD), len_B

    result = embed_folder(dataclasses.replace(encoder, frames=frames), sounds, tmp_path / "emb.npz", SHORT)
    with np.load(tmp_path / "emb.npz") as stored:
        assert stored["bad_path"].tolist() == ["b/x.wav"]
    assert result["reasons"] == {"non_finite": 1}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pooling": "max"}, "pooling"),
        ({"window_seconds": 0.01}, "window_seconds"),
        ({"window_seconds": float("nan")}, "window_seconds"),
        ({"stride_seconds": 1.5}, "stride_seconds"),
        ({"stride_seconds": -1.0}, "stride_seconds"),
        ({"batch_size": 0}, "batch_size"),
        ({"pooling": "joint"}, "contrastive"),
    ],
)
def test_bad_settings_are_named(encoder, changes, words):
    with pytest.raises(UserError, match=words):
        embed(encoder, [], dataclasses.replace(SHORT, **changes))


@pytest.fixture
def in_process(monkeypatch):
    """Decodes without processes; the list that is returned grows by every decoded path."""
    seen = []

    def decode_files(paths, limits, *, workers):
        for path in paths:
            seen.append(path.rsplit("/", 1)[-1])
            try:
                yield reader.load(path, 0.0, None, limits)
            except BadAudio as error:
                yield Failure(error.reason, str(error))

    monkeypatch.setattr(folders, "decode_files", decode_files)
    monkeypatch.setattr(folders, "PART_FILES", 2)
    return seen


NAMES = ("b/x.wav", "a.wav", "b/c/z.wav", "B.wav", "b.wav")


@pytest.fixture
def sounds(tmp_path):
    root = tmp_path / "sounds"
    for i, name in enumerate(NAMES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, make_sound(0.4 + 0.3 * i), RATE)
    return root


def test_bad_files_are_listed_and_the_others_embedded(encoder, sounds, tmp_path, capsys):
    (sounds / "empty.wav").touch()
    (sounds / "text.wav").write_text("not audio")
    (sounds / "cut.wav").write_bytes((sounds / "b.wav").read_bytes()[:2000])
    soundfile.write(sounds / "nan.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    (sounds / "notes.txt").write_text("")
    result = embed_folder(encoder, sounds, tmp_path / "emb.npz", SHORT)
    with np.load(tmp_path / "emb.npz", allow_pickle=False) as stored:
        found = dict(stored)
    assert found["path"].tolist() == sorted(NAMES) == ["B.wav", "a.wav", "b.wav", "b/c/z.wav", "b/x.wav"]
    lengths = [0.4 + 0.3 * NAMES.index(name) for name in found["path"]]
    np.testing.assert_allclose(found["seconds"], lengths, atol=1e-4)
    for i, name in enumerate(found["path"]):
        sound = reader.load(str(sounds / name), 0.0, None, reader.Limits())
        np.testing.assert_allclose(found["embedding"][i], embed(encoder, [(0, sound)], SHORT)[0], rtol=0, atol=1e-5)
    bad = dict(zip(found["bad_path"].tolist(), found["bad_reason"].tolist(), strict=True))
    assert bad == {"cut.wav": "corrupt", "empty.wav": "empty", "nan.wav": "non_finite", "text.wav": "not_audio"}
    assert (result["embedded"], result["failed"], result["others"]) == (5, 4, {".txt": 1})
    assert result["reasons"] == {"corrupt": 1, "empty": 1, "non_finite": 1, "not_audio": 1}
    messages = capsys.readouterr().err
    assert all(f"not embedded: {name}: " in messages for name in bad)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["emb.npz", "sounds"]


def test_a_stopped_job_goes_on(encoder, sounds, tmp_path, in_process):
    calls = 0

    def frames(*args):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Stopped
        return encoder.frames(*args)

    whole, out = tmp_path / "whole.npz", tmp_path / "emb.npz"
    embed_folder(encoder, sounds, whole, SHORT)
    in_process.clear()
    with pytest.raises(Stopped):
        embed_folder(dataclasses.replace(encoder, frames=frames), sounds, out, SHORT)
    assert not out.exists()
    in_process.clear()
    embed_folder(encoder, sounds, out, dataclasses.replace(SHORT, batch_size=4))
    assert in_process == ["b.wav", "z.wav", "x.wav"]
    with np.load(out) as new, np.load(whole) as old:
        assert new["path"].tolist() == old["path"].tolist()
        np.testing.assert_allclose(new["embedding"], old["embedding"], rtol=0, atol=1e-5)
    in_process.clear()
    assert embed_folder(encoder, sounds, out, SHORT)["embedded"] == 5  # complete: nothing to do
    assert in_process == []


@pytest.mark.parametrize("stopped", [True, False])
def test_other_inputs_in_the_same_place_are_refused(encoder, sounds, tmp_path, in_process, monkeypatch, stopped):
    out = tmp_path / "emb.parquet"
    if stopped:
        monkeypatch.setattr(folders, "_write_part", lambda *args: (_ for _ in ()).throw(Stopped))
        with pytest.raises(Stopped):
            embed_folder(encoder, sounds, out, SHORT)
    else:
        embed_folder(encoder, sounds, out, SHORT)
    where = tmp_path / "emb.parquet.parts" / "embed.json" if stopped else out
    before = where.read_bytes()
    with pytest.raises(UserError, match="differs in model: "):
        embed_folder(dataclasses.replace(encoder, identity="new"), sounds, out, SHORT)
    with pytest.raises(UserError, match="differs in settings: "):
        embed_folder(encoder, sounds, out, dataclasses.replace(SHORT, stride_seconds=0.5))
    soundfile.write(sounds / "new.wav", make_sound(0.5), RATE)
    with pytest.raises(UserError, match="differs in files: "):
        embed_folder(encoder, sounds, out, SHORT)
    assert where.read_bytes() == before


@pytest.mark.parametrize("name", ["emb.npz", "emb.parquet"])
def test_foreign_files_are_never_overwritten(encoder, sounds, tmp_path, in_process, name):
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(UserError, match="not from alp embed"):
        embed_folder(encoder, sounds, tmp_path / name, SHORT)
    assert (tmp_path / name).read_bytes() == b"mine"
    with pytest.raises(UserError, match=r"must end in \.npz or \.parquet"):
        embed_folder(encoder, sounds, tmp_path / "emb.csv", SHORT)


def test_parquet_holds_what_npz_holds(encoder, sounds, tmp_path, in_process):
    (sounds / "empty.wav").touch()
    for name in ("emb.npz", "emb.parquet"):
        result = embed_folder(encoder, sounds, tmp_path / name, SHORT)
        assert (result["embedded"], result["failed"], result["width"]) == (5, 1, 6)
    table = pq.read_table(tmp_path / "emb.parquet")
    assert table.column_names == ["path", "seconds", "embedding"]
    with np.load(tmp_path / "emb.npz") as stored:
        assert table["path"].to_pylist() == stored["path"].tolist()
        np.testing.assert_array_equal(table["seconds"].to_numpy(), stored["seconds"])
        np.testing.assert_array_equal(np.stack(table["embedding"].to_numpy()), stored["embedding"])
    bad = json.loads(table.schema.metadata[b"alp_jax.embed"])["bad"]
    assert bad == [["empty.wav", "empty", "empty"]]


def test_only_bad_files_are_a_failure_that_leaves_nothing(encoder, tmp_path, in_process):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "empty.wav").touch()
    with pytest.raises(AlpError, match=r"none of the 1 audio files.*1 empty") as failure:
        embed_folder(encoder, tmp_path / "sounds", tmp_path / "emb.npz", SHORT)
    assert failure.value.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["sounds"]
