"""Batches whose text is as wide as their captions: few shapes, each clip once, the same whatever the hosts."""

import dataclasses

import numpy as np
import pytest
import soundfile

from alp_jax.config.schema import DataConfig
from alp_jax.core.clip import Clip
from alp_jax.core.errors import DataError
from alp_jax.data.building.build import build
from alp_jax.data.order import batch_plan
from alp_jax.data.order.forecast import forecast, shape_uses
from alp_jax.data.order.subset import open_rung
from alp_jax.data.pipeline import GlobalBatches
from alp_jax.data.store.dataset import open_dataset
from alp_jax.data.text import training
from alp_jax.data.text.token_lengths import token_lengths

RATE = 16_000
CONFIG = DataConfig(batch_seconds=1.6, clips_multiple=8, text_budget=128, crop_seconds=1.0, text_widths=(0,))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Clips of 0.1 or 0.4 s with one caption each, of 11, 33 or 154 tokens."""
    root = tmp_path_factory.mktemp("widths")
    rng, clips = np.random.default_rng(0), []
    for i in range(120):
        words = " ".join(["dog barks now"] * (1, 3, 14)[i % 3])
        audio = str(root / f"{i}.wav")
        soundfile.write(audio, rng.uniform(-0.5, 0.5, (1600, 6400)[i % 2]), RATE)
        clips.append(Clip(f"s{i % 2}:{i}", f"s{i % 2}", f"r:{i}", audio, captions=(words,)))
    build(clips, root / "set", source_name="noise", shards=4, workers=1)
    dataset = open_dataset(root / "set")
    tokenizer = training.train(training.training_captions(dataset), root / "set" / "tokenizer.model", 275)
    return dataset, tokenizer


def batches(made, config, steps, host=0, hosts=1):
    source = GlobalBatches(made[0], config, made[1], 3, host, hosts)
    return [source[step] for step in steps]


def test_text_is_as_wide_as_its_captions(made):
    dataset, tokenizer = made
    plan = batch_plan.plan(dataset, CONFIG, seed=3)
    shapes = {(bucket.batch, bucket.edge, bucket.tokens) for bucket in plan.buckets}
    assert 4 <= len(shapes) <= 12
    assert {edge: batch for batch, edge, _ in shapes} == {1600: 16, 6400: 8}  # the clips go by the audio alone
    seen = set()
    for batch in batches(made, CONFIG, range(40)):
        (clips, samples), width = batch["audio"].shape, batch["text"].shape[1]
        seen.add((clips, samples, width))
        assert batch["text_len"].max() <= width <= 128
        narrower = [tokens for _, edge, tokens in shapes if edge == samples and tokens < width]
        assert (batch["text_len"] > max(narrower, default=0)).all()
        for i, row in enumerate(batch["row"]):
            ids = tokenizer.encode(dataset.read(int(row)).captions[0])
            assert batch["text"][i, : batch["text_len"][i]].tolist() == ids[:128]
            assert batch["text_cut"][i] == (len(ids) > 128)
            assert (batch["text"][i, batch["text_len"][i] :] == tokenizer.pad_id).all()
    assert seen == shapes


@pytest.mark.parametrize("hosts", [2, 4, 8])
@pytest.mark.parametrize("settings", [{}, {"mixture": "s0=2,s1=1"}, {"read": "sequential", "window_shards": 2}])
def test_any_number_of_hosts_and_any_start_make_the_same_batches(made, hosts, settings):
    config, steps = dataclasses.replace(CONFIG, **settings), (0, 7, 300)
    parts = [batches(made, config, steps, host, hosts) for host in range(hosts)]
    for number, whole in enumerate(batches(made, config, steps)):
        for name, value in whole.items():
            np.testing.assert_array_equal(np.concatenate([part[number][name] for part in parts]), value, name)


def test_every_clip_once_per_epoch_of_its_bucket_and_the_same_clips_on_every_rung(made):
    dataset = made[0]
    whole, part = open_rung(dataset, CONFIG), open_rung(dataset, dataclasses.replace(CONFIG, pairs=80))
    shape = {}
    for rung in (whole, part):
        names = list(zip(rung.summary.edges, rung.summary.tokens, strict=True))
        for (bucket, _), rows in rung.rows.items():
            for row in rows.tolist():
                assert shape.setdefault(row, names[bucket]) == names[bucket]
    assert sorted(np.concatenate([*whole.rows.values()])) == list(range(120))
    uses = dict.fromkeys(shape.values(), 0)
    taken = {name: [] for name in uses}
    for batch in batches(made, CONFIG, range(60)):
        name = batch["audio"].shape[1], batch["text"].shape[1]
        taken[name] += batch["row"].tolist()
    for name, rows in taken.items():
        clips = [row for row, own in shape.items() if own == name]
        for epoch in range(len(rows) // len(clips)):
            assert sorted(rows[epoch * len(clips) : (epoch + 1) * len(clips)]) == sorted(clips)


def test_a_forecast_says_what_batches_hold(made):
    expected = forecast(made[0], CONFIG, seed=3, steps=256)
    heard = said = room = text_room = 0
    source, samples = GlobalBatches(made[0], CONFIG, made[1], 3, 0, 1), made[0].num_samples
    tokens = token_lengths(made[0], CONFIG).of(np.arange(120), CONFIG.text_budget)[0]
    for step in range(256):
        (edge, width), rows, _, _ = source.clips(step)
        heard, room = heard + int(np.minimum(samples[rows], edge).sum()), room + edge * len(rows)
        said, text_room = said + int(tokens[rows].sum()), text_room + width * len(rows)
    assert expected["padding"] == pytest.approx(1 - heard / room, abs=0.002)
    assert expected["text_padding"] == pytest.approx(1 - said / text_room, abs=0.02)
    waste = 1 - (heard + 1280 * said) / (room + 1280 * text_room)
    assert expected["waste"] == pytest.approx(waste, abs=0.02)
    one_width = forecast(made[0], dataclasses.replace(CONFIG, text_widths=(128,)), seed=3, steps=256)
    assert one_width["text_padding"] > 0.45 > 2.5 * expected["text_padding"]
    uses = shape_uses(dataclasses.replace(CONFIG, path=str(made[0].path)), seed=3, steps=256)
    assert [(use.tokens, use.share) for use in uses] == [(b["tokens"], b["steps_share"]) for b in expected["buckets"]]
    named = dataclasses.replace(CONFIG, path="nowhere", bucket_seconds=(0.1, 0.4), text_widths=(8, 24))
    assert [(use.seconds, use.tokens, use.clips) for use in shape_uses(named, seed=3, steps=1)] == [
        (0.1, 8, 16), (0.1, 24, 16), (0.1, 128, 16), (0.4, 8, 8), (0.4, 24, 8), (0.4, 128, 8),
    ]  # fmt: skip
    assert shape_uses(dataclasses.replace(named, bucket_seconds=()), seed=3, steps=1) == []


def test_order_changes_with_the_widths_and_one_width_is_the_order_of_before(made):
    fixed = dataclasses.replace(CONFIG, bucket_seconds=(0.1, 0.4), text_widths=(128,))
    changes = [{}, {"text_widths": (40, 128)}, {"text_widths": (0,)}, {"bucket_seconds": ()}]
    changes += [{"text_widths": (48, 128)}]  # the same clips in every bucket, in wider rows
    plans = [batch_plan.plan(made[0], dataclasses.replace(fixed, **change), seed=3) for change in changes]
    assert len({plan.fingerprint for plan in (*plans[:3], plans[4])}) == 4
    by_default = dataclasses.replace(fixed, text_widths=DataConfig().text_widths)
    assert batch_plan.plan(made[0], by_default, seed=3).fingerprint == plans[0].fingerprint
    assert plans[3].fingerprint == plans[0].fingerprint  # the lengths that are chosen are those that were given
    clips = dataclasses.replace(CONFIG, clips_per_batch=8)
    assert {bucket.batch for bucket in batch_plan.plan(made[0], clips, seed=3).buckets} == {8}


def test_lengths_of_other_captions_are_found_out(made, monkeypatch):
    real = token_lengths(made[0], CONFIG).of
    monkeypatch.setattr(
        "alp_jax.data.text.token_lengths.TokenLengths.of", lambda self, *a: (real(*a)[0][::-1], real(*a)[1])
    )
    with pytest.raises(DataError, match=r"has a caption of \d+ tokens in a batch for \d+: delete the tokens"):
        batches(made, CONFIG, range(20))
