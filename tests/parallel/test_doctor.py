"""``alp doctor`` says what is there and fails where that is not what a run expects."""

import json

import pytest

from alp_jax.cli.main import main

CONFIG = "--config=configs/pretrain.py"


def test_it_reports_the_mesh_and_what_its_links_carry(capsys):
    assert main(["doctor", "--json", "--megabytes=0.1", CONFIG, "--config.mesh.fsdp=2", "--devices=8"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["mesh"] == {"data": 4, "fsdp": 2, "tensor": 1}
    assert report["all_reduce"]["gb_per_s"] > 0
    assert [(host["process"], host["devices"]) for host in report["hosts"]] == [(0, 8)]
    assert report["disk_free_gb"] > 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([CONFIG, "--config.mesh.fsdp=16"], "config.mesh: data x fsdp x tensor = -1 x 16 x 1 does not cover 8 devices"),
        (
            [CONFIG, "--config.data.clips_multiple=4"],
            "config.data.clips_multiple = 4 is not a multiple of the 8 devices",
        ),
        (
            [f"{CONFIG}:objective=contrastive", "--config.data.clips_per_batch=1", "--config.data.clips_multiple=1"],
            "config.data.clips_per_batch is 1: it must be 2 or more",
        ),
        (["--devices=64"], "--devices 64 expected, 8 found"),
        (["--config.mesh.fsdp=2"], "--config.mesh.fsdp=2 needs --config"),
        (["--path=/no/such"], "--path /no/such is not a folder"),
        (["--num_processes=2", "--process_id=1"], "needs --coordinator HOST:PORT"),
    ],
)
def test_what_does_not_fit_is_named(capsys, arguments, line):
    assert main(["doctor", *arguments]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
