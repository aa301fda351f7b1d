"""Every probe at the true size of every set of the paper: its program takes no more memory than the budget allows."""

import dataclasses

import pytest

from alp_jax.bench import probes as bench
from alp_jax.config.schema import EvalConfig, ModelConfig
from alp_jax.evaluation.budget import MemoryBudget
from alp_jax.evaluation.forecast import DECODE_S, Ahead, Encoder, Machine, lines, published_lines
from alp_jax.evaluation.probes.costs import linear_probe_cost
from alp_jax.evaluation.probes.sizes import SIZES
from alp_jax.evaluation.sed.cost import frame_probe_cost
from alp_jax.evaluation.text_costs import TextSize, text_side_costs

CONFIG = EvalConfig()
BUDGET = MemoryBudget.of(CONFIG)
EVERY = [(name, probe) for name, size in SIZES.items() for probe in bench.probes_of(size)]


@pytest.mark.parametrize(("name", "probe"), EVERY)
def test_a_compiled_probe_takes_no_more_than_its_plan_and_the_budget(name, probe):
    cost, program = bench.probes_of(SIZES[name])[probe](SIZES[name], 512, CONFIG)
    assert program <= cost.device <= BUDGET.device
    assert cost.host <= BUDGET.host


def test_exact_fits_stay_where_they_fit_and_streamed_ones_take_epochs():
    how = {name: linear_probe_cost(size, 512, CONFIG, devices=1) for name, size in SIZES.items() if not size.events}
    assert {name for name, cost in how.items() if cost.schedule is None} == {"crema_d", "magnatagatune"}
    for name, cost in how.items():
        if cost.schedule:
            assert cost.schedule.steps * cost.schedule.batch >= 10 * SIZES[name].own
    # a smaller budget, and the same penalties run in sequence
    small = linear_probe_cost(SIZES["voxceleb2"], 512, EvalConfig(device_gib=1.0), devices=1)
    assert small.sides[0] < how["voxceleb2"].sides[0] == 6


def test_the_forecast_names_every_set_with_hours():
    encoder = Encoder(512, 25.0, 2e9)
    table = published_lines(encoder, CONFIG)
    assert [line.split()[0] for line in table if "-attention" in line] == [
        f"{name}-attention" for name, size in SIZES.items() if not size.events
    ]
    assert "5994" in next(line for line in table if line.startswith("voxceleb2-mean"))
    # twice the rate, half the time: the hours are those of the machine that is asked about
    slow, fast = (Machine("m", rate, rate, rate, 0.0) for rate in (1e12, 2e12))
    cost = linear_probe_cost(SIZES["crema_d"], 512, CONFIG)
    reading = slow.seconds(cost) - 2 * (slow.seconds(cost) - fast.seconds(cost))
    assert slow.seconds(cost) > fast.seconds(cost) > reading > 0
    assert len(lines({}, encoder, CONFIG, (slow,))) == 2


def test_a_forecast_takes_what_was_seen_here_and_compiles_a_shape_once():
    tried = Encoder(512, 25.0, 2e9, own_s=1e-3, compile_s=2.0)
    far = Machine("far", 1e12, 1e12, 1e12, 0.0)
    here = dataclasses.replace(far, local=True)
    assert here.encode(tried, 3600, 3) == pytest.approx(3600 * (DECODE_S + 1e-3) + 6)
    assert far.encode(tried, 3600, 3) == pytest.approx(3600 * (DECODE_S + 2e9 / far.encoder) + 6)
    # scores of event detection take longer than an accelerator takes for the fit
    cost = frame_probe_cost(SIZES["audioset_strong"], 250, 512, CONFIG)
    assert cost.host_s > 3600 > Machine.known("h100").seconds(cost) - cost.host_s
    ahead = Ahead(1, 0.0, dict.fromkeys("ab", SIZES["crema_d"]))
    table = lines({"set": ahead}, tried, CONFIG, (Machine("free", 1e30, 1e30, 1e30, 0.0),))
    means = [line for line in table if "-mean" in line]
    assert [line.partition(" s ")[0].split()[-1] for line in means] == ["6.1", "0.1"]  # and 0.1 s of reading


def test_text_sides_take_what_their_sizes_and_epochs_say():
    """AudioCaps with BERT-base and six layers of BART-base, on ten epochs: published counts of clips."""
    size = TextSize(49_838, 495, 957, 4785, 128, ("text_to_audio", "captioning"), ModelConfig())
    tower, decoder = text_side_costs(size, 64, 512, CONFIG).values()
    assert tower.schedule.steps == decoder.schedule.steps == -(-10 * 49_343 // 32)
    clips = 3 * 32 * tower.schedule.steps + 4 * 495 + 4785
    assert tower.flops == pytest.approx(clips * 130 * 2 * 85e6, rel=0.05)  # two per weight and token, attention aside
    assert 20 * 124e6 < tower.device < 40 * 124e6  # four states of every weight and the gradient, and a batch
    fewer = dataclasses.replace(CONFIG, caption_beams=1)
    assert decoder.flops > text_side_costs(size, 64, 512, fewer)["captioning-lit"].flops
    assert list(text_side_costs(dataclasses.replace(size, tasks=("captioning",)), 64, 512, CONFIG)) == [
        "captioning-lit"
    ]
