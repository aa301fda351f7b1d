"""The files in configs/ are found from any folder, and a user's own file of that name comes first."""

import pathlib

import pytest

from alp_jax.config import ConfigError, shipped
from alp_jax.config.flags import load_config
from alp_jax.scaling.sweep.plan import load_sweep


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_shipped_files_are_found_from_an_empty_folder(elsewhere):
    config = load_config("configs/pretrain.py:model=zipformer_xxs", ["--config.train.steps=3"])
    assert (config.model.name, config.train.steps) == ("zipformer_xxs", 3)
    assert load_sweep("configs/sweeps/hybrid.py:size=mini")
    assert pathlib.Path("configs/small.py").exists() is False
    assert {"configs/paper.py", "configs/pretrain.py", "configs/small.py"} <= set(shipped.names())


def test_a_file_of_the_working_directory_comes_first(elsewhere):
    (elsewhere / "configs").mkdir()
    (elsewhere / "configs" / "pretrain.py").write_text(
        "from alp_jax.config import RunConfig, to_config_dict\n\n"
        "def get_config(arg=None):\n    return to_config_dict(RunConfig(seed=77))\n"
    )
    assert load_config("configs/pretrain.py", []).seed == 77


@pytest.mark.parametrize("name", ["configs/pretrian.py", "pretrain.py", "configs/../configs/pretrain.py", "configs"])
def test_what_is_not_there_is_told_with_what_is(elsewhere, name):
    with pytest.raises(ConfigError, match=f"--config {name} does not exist; shipped are configs/paper.py, "):
        load_config(name, [])


def test_a_package_without_its_checkout_takes_the_data_files_of_pip(elsewhere, monkeypatch):
    folder = elsewhere / "share" / "alp_jax" / "configs"
    folder.mkdir(parents=True)
    (folder / "pretrain.py").write_text("")
    monkeypatch.setattr(shipped, "__file__", str(elsewhere / "site-packages" / "alp_jax" / "config" / "shipped.py"))
    monkeypatch.setattr(shipped.sysconfig, "get_path", lambda name: str(elsewhere))
    assert shipped.find("configs/pretrain.py") == folder / "pretrain.py"
