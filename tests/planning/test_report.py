"""The printed plan, from a plan whose numbers are round."""

from alp_jax.core.accelerators import DEVICES
from alp_jax.planning import report
from alp_jax.planning.roofline import projection, roofline
from alp_jax.planning.traffic import Collective

H100 = DEVICES["h100"]


def entry(moved):
    exchanged = [Collective("all-reduce", 45e6, 3.0, tuple(range(8)))]
    found = roofline(9.89e12, moved, exchanged, 640.0, H100, "bfloat16")
    totals = {"all-reduce": {"bytes": 45e6, "wire_bytes": 78.75e6, "count": 3}}
    return {"bytes": moved, "kernels": moved / 1e7, "collectives": totals, "roofline": found}


def test_a_printed_plan_has_every_number_and_its_least():
    memory = {"peak": 90e9, "temporary": 8e9}
    largest = [{"kind": "fusion loop", "bytes": 2e9, "times": 4, "source": "models/layers.py:5 jvp()/add"}]
    bucket = {"seconds": 10.0, "tokens": 32, "clips": 64, "share": 0.2, "flops": 9.89e12, "memory": memory}
    bucket |= {"compile_s": 7.0, "fits": False}
    bucket |= {**entry(67e9), "least": entry(33.5e9), "largest": largest}
    times = [one["roofline"]["step_s"] for one in (bucket, bucket["least"])]
    days = [projection([time], 4_320_000, 8, 1.0, [0.2]) for time in times]
    plan = {
        "model": "zipformer_m",
        "objective": "contrastive",
        "compute_dtype": "bfloat16",
        "parameters": 1000,
        "state_bytes": 12e9,
        "checkpoints": {"bytes": 24e9, "kept": 9},
        "topology": "h100:8",
        "mesh": {"data": 8},
        "versions": {"jax": "1"},
        "buckets": [bucket],
        "facts": {"source": "a data sheet"},
        "method": "whole step",
        "run": {**days[0], "least": days[1]},
    }
    printed = report.text(plan)
    assert "nothing was executed" in printed
    assert "disk: 9 checkpoints of 24.00 GB stay, 216.00 GB, and 24.00 GB more during a save" in printed
    assert "| 10 | 32 | 64 | 20.0% | 9.890 | 90.00 (too much) | 8.00 | 67.00 (33.50) | 6,700 (3,350) | 7 |" in printed
    assert "| 10 | 32 | all-reduce | 3 (3) | 45.00 (45.00) | 78.75 |" in printed
    assert "| 10 | 32 | 10.00 | 20.00 | 0.17 | memory | 32,000 (64,000) | 50 % |" in printed
    assert "programs to compile: 1, in 7 s here" in printed
    assert "1.00 days (0.50 with the least traffic), 192 device-hours" in printed
    assert "| 2.000 | 4 | fusion loop | models/layers.py:5 jvp()/add |" in report.largest(plan, 1)
