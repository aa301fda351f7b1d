"""A setting under another name, a group in place of a setting and a value of another kind are explained."""

import pytest

from alp_jax.cli.main import main
from alp_jax.config import ConfigError, hints
from alp_jax.config.flags import load_config
from alp_jax.config.settings_help import settings_help
from alp_jax.core.errors import UserError

CONFIG = "configs/pretrain.py:objective=captioning,pairs=400k"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model=vit_s", r"use --config=configs/pretrain\.py:objective=captioning,pairs=400k,model=vit_s$"),
        ("model=vit_q", r"model=NAME .*nearest: 'vit_s'"),
        ("model.name=vit_s", r"use --config=.*,model=vit_s$"),
        ("objective=hybrid", r"use --config=configs/pretrain\.py:pairs=400k,objective=hybrid$"),
        ("data=data/mine", r"did you mean --config\.data\.path=data/mine\?"),
        ("optim=scaled_adam", r"did you mean --config\.optim\.name=scaled_adam\?"),
        ("train=9", r"config\.train is a group of settings, not a single one: it has accept_data_change, accumulate"),
        ("optim.learning_rate=1", r"unknown setting config\.optim\.learning_rate: use config\.optim\.lr \(peak"),
        ("optim.learning_rat=1", r"use config\.optim\.lr "),
        ("train.batch_size=8", r"use config\.data\.clips_per_batch \(.*\) or config\.data\.batch_seconds \("),
        ("train.epochs=3", r"use config\.train\.steps \("),
        ("train.lr=3", r"unknown setting config\.train\.lr: use config\.optim\.lr "),
        ("optimizer.lr=3", r"use config\.optim\.lr "),
        ("arch=vit_b", r"use the argument model=NAME of the config file"),
        ("model.dropout=0.1", r"use config\.model\.vit\.dropout .* or config\.model\.conformer\.dropout "),
        ("optim.lrr=1", r"unknown setting config\.optim\.lrr \(nearest: config\.optim\.lr\)$"),
        ("modle.remat=all", r"use config\.model\.remat "),
        ("train.qqq=1", r"config\.train has accept_data_change, accumulate"),
        ("optim.lr.x=1", r"config\.optim\.lr is a setting, not a group"),
        ("optim.lr=fast", r"config\.optim\.lr is given 'fast': it must be a number \(above 0\); peak learning rate"),
        ("optim.lr=true", r"config\.optim\.lr is given 'true': it must be a number"),
        ("train.steps=1.5", r"config\.train\.steps is given '1\.5': it must be a whole number \(0 to .*, steps\)"),
        ("train.steps", r"config\.train\.steps is given nothing"),
        ("model.regularise=3", r"config\.model\.regularise is given '3': it must be true or false"),
        ("data.bucket_seconds=soon", r"config\.data\.bucket_seconds.*'soon'"),
        ("optim.lr=nan", r"config\.optim\.lr is nan: it must be a finite number, above 0"),
        ("train.save_every=0", r"config\.train\.save_every is 0: it must be 1 or more \(steps\)"),
    ],
)
def test_flags(override, message):
    with pytest.raises((UserError, ConfigError), match=message) as caught:
        load_config(CONFIG, ["--config.data.workers=0", f"--config.{override}"])
    assert "\n" not in str(caught.value)


def test_what_is_said_of_other_names_is_true():
    for here in {here for names in hints._ALIASES.values() for here in names}:
        assert "=" in here or f"config.{here}" in hints.known(), here
    for name in hints._ALIASES:
        assert all(not known.endswith(f".{name}") for known in hints.known()), f"{name} is a setting itself"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--optim.lr=3", "unknown argument '--optim.lr=3'; settings are given as --config.optim.lr=VALUE"),
        ("--batch_size=8", "unknown argument '--batch_size=8'; use config.data.clips_per_batch ("),
        ("--frobnicate", "unknown argument '--frobnicate'; see 'alp train --help'"),
    ],
)
def test_flags_without_config(argument, message, capsys):
    assert main(["train", "--workdir=none", f"--config={CONFIG}", argument]) == 2
    assert message in capsys.readouterr().err


def test_help_lists_every_setting_once(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "--help_settings"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.rstrip("\n") == settings_help()
    for name, setting in hints.known().items():
        assert shown.count(f"  --{name}=") == 1
        assert setting.domain.meaning.split(";")[0].split()[0] in shown
    assert "--config.optim.lr=0.001\n      peak learning rate [above 0]\n" in shown
    assert "[1 or more steps]" in shown
