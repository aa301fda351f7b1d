"""``alp bench step``: figures that hang together, for our step and for other forms of it."""

import json

import jax
import pytest

from alp_jax.cli.main import main
from alp_jax.config.schema.model import TEXT
from alp_jax.models.accounting import train_flops
from tests.parallel import splits

CONFIG = """
from alp_jax.config import to_config_dict
from tests.parallel import splits

def get_config(arg=None):
    return to_config_dict(splits.config_for("contrastive", (-1, 1, 1), "vit"))
"""


def bench(capsys, *args):
    code = main(["bench", "step", *args])
    out, err = capsys.readouterr()
    return (json.loads(out) if code == 0 else err), code


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    """Flags of a small run."""
    path = tmp_path_factory.mktemp("bench") / "config.py"
    path.write_text(CONFIG)
    return f"--config={path}", "--config.data.text_budget=6"


def test_times_and_ratios_hang_together(capsys, config_file):
    size = ("--clips", "16", "--seconds", "0.5", "--rounds", "3", "--steps", "1")
    found, _ = bench(capsys, *size, "--against", "adamw", *config_file)
    assert (found["devices"], found["clips"], found["device"]) == (8, 16, jax.devices()[0].device_kind)
    flops = 16 * train_flops(splits.config_for("contrastive", (-1, 1, 1), "vit").model, (TEXT,), 0.5, 6)
    same = found["against"]["adamw"]  # as the configuration has it already: the same program
    assert same["bytes_accessed"] == found["bytes_accessed"] > 0
    assert same["temp_bytes"] == found["temp_bytes"] > 0
    assert 0.2 < same["times"] < 5
    for one in (found, same):
        low, high = one["spread_s"]
        assert 0 < low <= one["median_s"] <= high
        assert one["audio_s_per_s"] == pytest.approx(8 / one["median_s"], rel=0.02)
        assert one["model_tflops_per_s"] == pytest.approx(flops / one["median_s"] / 1e12, rel=0.05, abs=1e-3)
        assert "mfu" not in one  # nothing is published about a CPU


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--clips", "0"), "--clips 0 --seconds 10 --rounds 5 --steps 5: all must be above 0"),
        (("--against", "plane"), "did you mean 'plain'"),
    ],
)
def test_what_cannot_be_is_refused(capsys, config_file, args, message):
    error, code = bench(capsys, *args, *config_file)
    assert code == 2
    assert message in error
