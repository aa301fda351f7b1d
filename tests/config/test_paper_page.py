"""The page of the paper's runs: each of its commands is one that this version takes, and its figures add up."""

import pathlib
import re
import shlex

import pytest

from alp_jax.cli.main import verb_parser
from alp_jax.config.flags import load_config
from alp_jax.scaling.sweep.plan import load_sweep, plan_runs

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "paper.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
EIGHT = "days on 8 H100, each at 8,000 to 13,000 audio-seconds a second"
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command, monkeypatch):
    program, verb, *words = shlex.split(command)
    assert program == "alp"
    args, rest = verb_parser(verb)[0].parse_known_args(words)
    monkeypatch.chdir(ROOT)
    if getattr(args, "config", ""):
        load_config(args.config, rest)  # settings by flags, which are refused where there is none of the name
    else:
        assert not rest
    if verb == "sweep" and args.sweep:  # its other arguments are those of "alp scaling report"
        assert len(plan_runs(load_sweep(args.sweep))) == 16


def test_what_is_said_adds_up():
    scratch, started = (
        load_config(f"{ROOT}/configs/paper.py:init={init}", []) for init in ("scratch", "runs/audioset")
    )
    row = {cells[1].strip(): cells[2:4] for cells in (line.split("|") for line in PAGE.splitlines()) if len(cells) == 5}
    for column, config in enumerate((scratch, started)):
        train, audio_s = config.train, config.train.steps * config.data.batch_seconds
        assert int(row["steps"][column].replace(",", "")) == train.steps
        assert float(row["audio, thousand hours"][column]) == round(audio_s / 3.6e6)
        kept = train.keep + train.steps // train.keep_every
        assert int(row["checkpoints that stay"][column]) == kept
        for devices, name in ((8, EIGHT), (1, "days on one, at the same speed")):
            days = [audio_s / 86_400 / devices / speed for speed in (13_000, 8_000)]
            assert row[name][column].split() == [f"{days[0]:.1f}", "to", f"{days[1]:.1f}"]
