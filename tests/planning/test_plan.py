"""``alp plan`` on eight CPU devices, as its user: what it reports, what it refuses, how it goes on."""

import json

import pytest

from alp_jax.cli.main import main
from alp_jax.core.accelerators import DEVICES
from alp_jax.core.errors import UserError
from alp_jax.planning import topology
from alp_jax.planning.roofline import link_seconds, projection, roofline
from alp_jax.planning.traffic import Collective

CONFIG = (
    "--config=configs/pretrain.py:model=vit_xxs,batch_seconds=16",
    "--config.data.bucket_seconds=(0.5,1.0)",
    "--config.data.text_budget=6",
    "--config.model.vit.num_layers=1",
    "--config.model.text.num_hidden_layers=1",
    "--config.model.text.max_position_embeddings=8",
)


def alp_plan(*arguments):
    return main(["plan", "--json", *arguments, *CONFIG])


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A plan of one bucket for eight CPU devices, and its file."""
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    assert alp_plan("--topology", "cpu:8", "--bucket", "1", "--out", str(path)) == 0
    return json.loads(path.read_text()), path


def test_the_real_step_is_reported(planned):
    plan, _ = planned
    (bucket,) = plan["buckets"]
    assert plan["devices"] == 8
    assert plan["executed"] is False
    assert (bucket["seconds"], bucket["tokens"], bucket["clips"], bucket["audio_s"]) == (1.0, 6, 16, 16.0)
    # parameters and two statistics each, in float32
    assert plan["state_bytes"] == pytest.approx(12 * plan["parameters"], rel=0.01)
    assert plan["checkpoints"] == {"bytes": plan["state_bytes"], "kept": 3}  # the state is whole on every device
    assert bucket["memory"]["arguments"] >= plan["state_bytes"]
    assert bucket["memory"]["peak"] >= bucket["memory"]["temporary"] > 0
    assert bucket["kernels"] >= bucket["least"]["kernels"] > 100
    assert bucket["bytes"] > 4 * plan["state_bytes"] / 3  # parameters and statistics are read, then written
    # the front end and everything small come on top of what the model's own account has
    assert 1.0 < bucket["flops"] / bucket["model_flops"] < 1.6


def test_data_parallel_devices_exchange_gradients_and_embeddings_and_no_activations(planned):
    plan, _ = planned
    (bucket,) = plan["buckets"]
    gradients = 4 * plan["parameters"]
    embeddings = 4 * 2 * bucket["clips"] * plan["config"]["model"]["shared_emb_dim"]
    found = {kind: one["bytes"] for kind, one in bucket["collectives"].items()}
    assert sum(found.values()) == pytest.approx(gradients + embeddings, rel=0.05)
    assert found.keys() <= {"all-reduce", "all-gather", "reduce-scatter"}  # the last for the gathering's gradient
    # with a clip's embeddings go a few numbers: a caption's hidden states would be 2 kB, its waveform 32 kB
    assert embeddings <= found["all-gather"] <= embeddings + 64 * bucket["clips"]
    assert gradients <= found["all-reduce"] <= 1.01 * gradients


def test_a_plan_goes_on_where_it_stopped(planned, capsys):
    plan, path = planned
    assert alp_plan("--topology", "cpu:8", "--bucket", "1", "--out", str(path)) == 0
    printed = capsys.readouterr()
    assert "already in the file" in printed.err
    assert json.loads(printed.out)["buckets"] == plan["buckets"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--topology", "h100"], "--topology 'h100' is not of the form"),
        (["--topology", "b300:8"], "device 'b300' is unknown; known: cpu, v100"),
        (["--topology", "v100:8"], "exists for h100 and h200 only"),
        (["--topology", "h100:12"], "whole nodes"),
        (["--topology", "h100:8x8"], "number of GPUs"),
        (["--topology", "v5e:4x4x4"], "v5e:8x8 or v6e:8x8"),
        (["--topology", "v5e:32x32"], "the largest slice of v5e has 256 chips"),
        (["--topology", "cpu:0"], "1 to 16384 devices"),
        (["--topology", "cpu:8", "--bucket", "3"], "--bucket 3 is none of the lengths of batches: 0.5, 1"),
        (["--topology", "cpu:8", "--share", "1.5"], "--share 1.5"),
        (["--topology", "cpu:8", "--config.mesh.data=3"], "does not cover 8 devices"),
        (
            [
                "--topology",
                "cpu:8",
                "--config.data.clips_multiple=4",
                "--bucket",
                "1",
                "--config.data.clips_per_batch=4",
            ],
            "batches of 4 clips do not divide over 8 devices",
        ),
        (
            ["--topology", "cpu:8", "--bucket", "1", "--config.objective.name=tagging"],
            "tagging needs config.data.tags",
        ),
        (["--topology", "cpu:8", "--layers", "--bucket", "1"], "which a vit does not; config.model is vit_xxs"),
    ],
)
def test_wrong_input_is_one_line(arguments, words, capsys):
    flags = [argument for argument in arguments if argument.startswith("--config.")]
    rest = [argument for argument in arguments if argument not in flags]
    assert main(["plan", *rest, *CONFIG, *flags]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("alp: ")]
    assert len(lines) == 1
    assert words in lines[0]


def test_a_file_that_is_no_plan_is_left_alone(tmp_path, capsys):
    other = tmp_path / "other.json"
    other.write_text('{"a": 1}')
    assert alp_plan("--topology", "cpu:8", "--bucket", "1", "--out", str(other)) == 2
    assert "is not a plan" in capsys.readouterr().err
    assert other.read_text() == '{"a": 1}'


@pytest.mark.parametrize(("name", "extra"), [("h100:8", ".[cuda]"), ("v5e:8x8", ".[tpu]")])
def test_a_missing_compiler_says_what_to_install(name, extra, monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(UserError, match="pip install -e") as caught:
        topology.devices(topology.parse(name))
    assert extra in str(caught.value)


def test_the_roofline_is_the_slowest_of_three():
    h100 = DEVICES["h100"]
    found = roofline(989e12, 6700e9, [Collective("all-reduce", 450e9, 1.0, tuple(range(8)))], 640.0, h100, "bfloat16")
    assert found["arithmetic_s"] == pytest.approx(1.0)
    assert found["memory_s"] == pytest.approx(2.0)
    assert found["links_s"] == pytest.approx(1.75)
    assert (found["bound"], found["audio_s_per_s"]) == ("memory", pytest.approx(320.0))
    assert found["mfu_ceiling"] == pytest.approx(0.5)


def test_a_ring_over_nodes_shares_their_ways_out():
    h100 = DEVICES["h100"]
    inside, across = (link_seconds([Collective("all-reduce", 1e9, 1.0, tuple(range(n)))], h100) for n in (8, 64))
    assert inside == pytest.approx(2 * 7 / 8 / 450)
    assert across == pytest.approx(2 * 63 / 64 / 8 / 50)


def test_days_and_device_hours():
    found = projection([0.1, 0.5], steps=432_000, devices=8, share=0.5, uses=[0.75, 0.25])
    assert found["days"] == pytest.approx(2.0)
    assert found["device_hours"] == pytest.approx(2 * 24 * 8)
