"""``alp bench loss``: its figures hang together and wrong sizes are refused."""

import json

import pytest

from alp_jax.cli.main import main


def bench(capsys, *args):
    code = main(["bench", "loss", "--devices", "8", "--width", "16", *args])
    out, err = capsys.readouterr()
    return (json.loads(out) if code == 0 else err), code


@pytest.mark.parametrize("loss", ["info_nce", "siglip"])
def test_equals_the_dense_loss_and_needs_less_memory(capsys, loss):
    found, _ = bench(capsys, "--pairs", "512", "--chunk", "16", "--rounds", "2", "--against", "dense", "--loss", loss)
    (size,) = found["sizes"]
    assert (found["devices"], found["config"]["chunk"], size["pairs"]) == (8, 16, 512)
    assert size["gradient_difference"] < 1e-5
    assert size["loss_difference"] < 1e-5
    assert size["temp_bytes"] < size["dense_temp_bytes"]
    assert size["spread_s"][0] <= size["median_s"] <= size["spread_s"][1]
    assert size["times_dense"] > 0


def test_without_rounds_nothing_runs(capsys):
    found, _ = bench(capsys, "--pairs", "256,512", "--rounds", "0")
    assert [set(size) for size in found["sizes"]] == [{"pairs", "width", "temp_bytes"}] * 2


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--pairs", "2047"), "alp: --pairs 2047 does not divide over 8 devices\n"),
        (("--rounds", "-1"), "--rounds -1"),
        (("--loss", "siglp"), "did you mean 'siglip'"),
    ],
)
def test_wrong_sizes_are_refused(capsys, args, message):
    error, code = bench(capsys, *args)
    assert code == 2
    assert message in error
