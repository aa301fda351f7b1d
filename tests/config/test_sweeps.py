"""The algebra of sweeps, and every sweep that is shipped: all runs resolve, and differ in what they are about."""

import copy
import pathlib

import pytest

from alp_jax.config import MODELS, ConfigError, resolve
from alp_jax.config.algebra import chain, over, product, zipped
from alp_jax.models.accounting import encoder_flops
from alp_jax.scaling.sweep.plan import load_sweep, plan_runs

ROOT = pathlib.Path(__file__).parents[2]
# sweep -> runs
SHIPPED = {
    "mini.py": 14,
    "paper.py": 2 * 4 * 2,
    "paper.py:size=mini,init=runs/tagging": 2 * 4 * 2,
    "hybrid.py": 7,
    "hybrid.py:size=mini": 7,
    "autoregressive.py": 5,
    "autoregressive.py:size=mini": 5,
    "encoders.py": 6,
    "encoders.py:size=mini": 6,
    "size_data.py": 12,
    "size_data.py:size=mini,objective=captioning": 8,
    "sources.py": 17,
    "sources.py:size=mini": 11,
    "batch_temperature.py": 12,
    "batch_temperature.py:size=mini": 9,
    "study.py:init=runs/tagger": 3 * 2 * (1 + 4 * 3),
}


@pytest.fixture(scope="module")
def planned():
    """sweep -> its runs, resolved."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return {name: plan_runs(load_sweep(f"configs/sweeps/{name}")) for name in SHIPPED}


def test_product_zip_and_chain_on_small_lists():
    a, b = over("a", (1, 2)), over("config.b", "xy")
    before = copy.deepcopy((a, b))
    assert product(a, b) == [{"a": i, "config.b": c} for i in (1, 2) for c in "xy"]
    assert zipped(a, b) == [{"a": 1, "config.b": "x"}, {"a": 2, "config.b": "y"}]
    assert chain(a, b) == [{"a": 1}, {"a": 2}, {"config.b": "x"}, {"config.b": "y"}]
    assert product() == [{}]
    assert product(a, []) == []
    chain(a)[0]["a"] = 5
    product(a)[0]["a"] = 5
    assert (a, b) == before


def test_sides_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="a is set by two sides of a sweep, to 1 and 2"):
        product(over("a", (1,)), over("a", (2,)))
    with pytest.raises(ConfigError, match="3 and 2 runs"):
        zipped(over("a", range(3)), over("b", range(2)))


def test_the_shipped_sweeps_are_all_here():
    assert {name.partition(":")[0] for name in SHIPPED} == {
        file.name for file in (ROOT / "configs/sweeps").glob("*.py")
    }


@pytest.mark.parametrize("name", SHIPPED)
def test_every_run_of_a_sweep_resolves_and_is_another(planned, name):
    runs = planned[name]
    assert len(runs) == len({run.id for run in runs}) == SHIPPED[name]
    if name.endswith("size=mini"):
        assert max(run.settings["train"]["steps"] for run in runs) <= 1000
        assert all(run.settings["model"]["name"].endswith(("_xs", "_xxs")) for run in runs)


def axes(runs, *paths):
    """The different values that runs have for these settings, as points."""
    points = set()
    for run in runs:
        value = []
        for path in paths:
            at = run.settings
            for key in path.split("."):
                at = at[key]
            value.append(at)
        points.add(tuple(value))
    return points


def test_the_sweeps_are_the_grids_that_they_say(planned):
    paper = axes(planned["paper.py"], "objective.name", "data.pairs", "init")
    assert paper == {
        (objective, pairs, init)
        for objective in ("contrastive", "captioning")
        for pairs in (400_000, 10**6, 4 * 10**6, 10**7)
        for init in ("scratch", "runs/audioset")
    }
    assert axes(planned["paper.py"], "init", "train.steps") == {("scratch", 600_000), ("runs/audioset", 200_000)}
    share = axes(planned["hybrid.py"], "objective.name", "objective.contrastive_share", "data.text_clean")
    assert {text for *_, text in share} == {"audio_caption"}
    assert {weight for name, weight, _ in share if name == "hybrid"} == {0.1, 0.25, 0.5, 0.75, 0.9}
    shares = axes(planned["autoregressive.py:size=mini"], "objective.name", "objective.autoregressive_share")
    assert shares == {("captioning", share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)}
    sizes = axes(planned["size_data.py"], "model.name", "data.pairs")
    assert len(sizes) == 12
    batches = planned["batch_temperature.py:size=mini"]
    assert len(axes(batches, "data.clips_per_batch", "objective.temperature")) == 9
    seen = {s["data"]["clips_per_batch"] * s["train"]["steps"] for s in (run.settings for run in batches)}
    assert seen == {16_000}


@pytest.mark.parametrize(("name", "corpora"), [("sources.py", 8), ("sources.py:size=mini", 5)])
def test_each_source_is_left_out_once_and_alone_once(planned, name, corpora):
    chosen = [run.settings["data"]["sources"] for run in planned[name]]
    alone = [text for text in chosen if text and not text.startswith("-")]
    without = [text.replace("-", "", 1).replace(",-", ",") for text in chosen if text.startswith("-")]
    assert alone == without
    assert len(alone) == corpora
    assert chosen.count("") == 1


@pytest.mark.parametrize("name", ["encoders.py", "encoders.py:size=mini"])
def test_families_of_encoders_cost_the_same_within_ten_percent(planned, name):
    models = {run.settings["model"]["name"]: resolve(run.settings).model for run in planned[name]}
    assert sorted(model.encoder_kind for model in models.values()) == ["conformer", "vit", "zipformer"]
    assert all(MODELS[key].encoder_kind == model.encoder_kind for key, model in models.items())
    flops = [encoder_flops(model, 10.0) for model in models.values()]
    assert max(flops) <= 1.1 * min(flops)
