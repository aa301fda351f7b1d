"""Weights as people have them: one pickle of transformers, files split by an index, training checkpoints with paths."""

import datetime
import fractions
import json
import os
import pathlib
import pickle

import numpy as np
import pytest
from safetensors.numpy import save_file

from alp_jax.core.errors import UserError
from alp_jax.interop.isolated import unpickle
from alp_jax.interop.reading import foreign
from alp_jax.interop.reading.foreign import load_weights

STATE = {f"layer.{i}.weight": np.full((2, i + 1), i, np.float32) for i in range(4)}


def same(weights):
    return weights.tensors.keys() == STATE.keys() and all(
        np.array_equal(weights.tensors[k], v) for k, v in STATE.items()
    )


def refused(source, words, allow_pickle=False):
    with pytest.raises(UserError, match=words) as caught:
        load_weights(source, allow_pickle=allow_pickle)
    assert "\n" not in str(caught.value)


@pytest.fixture
def torch(monkeypatch):
    """PyTorch; pickles are read in this process, by the code of the child."""
    torch = pytest.importorskip("torch")

    def here(script, source, target, *, problem, error):
        try:
            unpickle.main(str(source), str(target))
        except SystemExit as last:
            raise error(f"{problem}: {last}") from None

    monkeypatch.setattr(foreign, "run_isolated", here)
    return torch


def test_a_folder_of_transformers_with_one_pickle(torch, tmp_path):
    torch.save({name: torch.tensor(value) for name, value in STATE.items()}, tmp_path / "pytorch_model.bin")
    refused(tmp_path, r"pytorch_model\.bin is a pickle, which can run code: --allow_pickle reads it")
    weights = load_weights(tmp_path, allow_pickle=True)
    assert same(weights)
    assert weights.path.name == "pytorch_model.bin"


def split(folder, suffix, save):
    """Two files of two tensors and the index of them."""
    names = sorted(STATE)
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    places = {}
    for i, own in enumerate((names[:2], names[2:]), 1):
        file = f"{stem}-0000{i}-of-00002.{suffix}"
        save({name: STATE[name] for name in own}, folder / file)
        places |= dict.fromkeys(own, file)
    index = folder / f"{stem}.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index, places


def test_files_that_an_index_names_are_one_model(tmp_path):
    index, places = split(tmp_path, "safetensors", save_file)
    assert same(load_weights(tmp_path, allow_pickle=False))
    assert same(load_weights(index, allow_pickle=False))
    first, second = sorted(set(places.values()))

    def with_places(changed):
        index.write_text(json.dumps({"weight_map": changed}))

    with_places({name: file for name, file in places.items() if name != "layer.0.weight"})
    refused(tmp_path, rf"{first} also holds layer\.0\.weight, contrary to {index.name}")
    with_places({**places, "layer.9.weight": first})
    refused(tmp_path, rf"{first} lacks layer\.9\.weight")
    for outside in ("../secret.safetensors", "/etc/passwd", "a\\b.safetensors", ""):
        with_places({**places, "layer.0.weight": outside})
        refused(tmp_path, r"which is not the name of a file beside it")
    with_places(places)
    (tmp_path / second).unlink()
    refused(tmp_path, rf"{second} is missing: model\.safetensors\.index\.json names it")
    for content in ("[]", '{"weight_map": {}}', '{"weight_map": {"a": 3}}'):
        index.write_text(content)
        refused(tmp_path, "has no weight_map that names the file of every tensor")


def test_split_pickles_need_the_flag(torch, tmp_path):
    split(tmp_path, "bin", lambda state, path: torch.save({k: torch.tensor(v) for k, v in state.items()}, path))
    refused(tmp_path, r"pytorch_model-00001-of-00002\.bin is a pickle, .*--allow_pickle")
    assert same(load_weights(tmp_path, allow_pickle=True))


def test_settings_beside_the_weights_of_a_training_checkpoint_are_passed_over(torch, tmp_path):
    content = {
        "model": {name: torch.tensor(value) for name, value in STATE.items()},
        "exp_dir": pathlib.PosixPath("zipformer/exp"),
        "lang_dir": [pathlib.PurePosixPath("data/lang"), {"old": pathlib.PureWindowsPath("C:/data")}],
        "best_train_loss": np.float64(0.25),
        "batch_idx_train": 9,
        "env_info": {"k2-version": "1.24"},
        "sampler": None,
        "written": datetime.datetime(2024, 5, 1),
        "numpy_rng": np.random.RandomState(3).get_state(),
        "mean": np.arange(3.0),
    }
    path = tmp_path / "epoch-3.pt"
    torch.save(content, path)
    assert same(load_weights(path, allow_pickle=True))
    refused(tmp_path, r"has none of .*; name one of its files: epoch-3\.pt$", allow_pickle=True)
    torch.save(content, path, _use_new_zipfile_serialization=False)
    old = path.read_bytes()
    module = pathlib.PosixPath.__module__.encode()
    assert b"c%b\nPosixPath\n" % module in old
    for other in (b"pathlib", b"pathlib._local"):  # as Python 3.12 and 3.13 write it
        for name in (b"PosixPath", b"WindowsPath"):
            path.write_bytes(old.replace(b"c%b\nPosixPath\n" % module, b"c%b\n%b\n" % (other, name)))
            assert same(load_weights(path, allow_pickle=True)), (other, name)


def test_a_path_in_place_of_a_weight_is_none(torch, tmp_path):
    torch.save({"model": {"weight": pathlib.PosixPath("x")}}, tmp_path / "model.pt")
    refused(tmp_path, "entry 'weight' is not a tensor", allow_pickle=True)


class Attack:
    def __reduce__(self):
        return exec, ("raise SystemError('ran')",)


@pytest.mark.parametrize("content", [Attack(), {"model": {}, "exp_dir": Attack()}])
def test_other_classes_are_refused_and_not_run(torch, tmp_path, content):
    (tmp_path / "model.pt").write_bytes(pickle.dumps(content, protocol=2))
    refused(tmp_path, "cannot be read as a checkpoint of tensors: .*exec", allow_pickle=True)


def test_what_a_pickle_may_not_call_is_named(torch, tmp_path):
    class Attack:
        def __init__(self, call, *arguments):
            self.made = call, arguments

        def __reduce__(self):
            return self.made

    touched, path = tmp_path / "touched", tmp_path / "pretrained.pt"
    for attack, words in (
        (
            Attack(os.system, f"touch {touched}"),
            r"Trying to load unsupported GLOBAL \w+\.system whose module \w+ is block",
        ),
        (Attack(exec, f"open({str(touched)!r}, 'w')"), r"Unsupported global: GLOBAL exec$"),
        (Attack(fractions.Fraction, 1), r"Unsupported global: GLOBAL fractions\.Fraction$"),
    ):
        torch.save({"model": {"a": torch.ones(2)}, "extra": attack}, path)
        refused(path, rf"cannot be read as a checkpoint of tensors: UnpicklingError: {words}", allow_pickle=True)
    assert not touched.exists()
