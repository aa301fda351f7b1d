"""What cannot be trained is refused before anything is compiled, by a dry run as by the run; what can be is not."""

import pytest

from alp_jax.config import ConfigError
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.data.order.batch_plan import plan
from alp_jax.data.store.dataset import open_dataset
from alp_jax.objectives.registry import check_batches
from alp_jax.train.host import CompiledSteps
from alp_jax.train.loop import train
from alp_jax.train.setup import rehearse

ONE_SHARE = {"data": 1, "fsdp": 1, "tensor": 8}


def refused(config, workdir, monkeypatch, error, words):
    """By both, and by training before a program is compiled or the run folder is made."""
    monkeypatch.setattr(CompiledSteps, "__init__", None)
    with pytest.raises(error, match=words):
        rehearse(config)
    with pytest.raises(error, match=words):
        train(config, workdir)
    assert not workdir.exists()


def batches_of(config):
    buckets = plan(open_dataset(config.data.path), config.data, seed=0).buckets
    return [(bucket.batch, bucket.edge / SAMPLE_RATE) for bucket in buckets]


@pytest.mark.parametrize("buckets", [(1.2, 30.0), ()])
def test_lengths_that_no_clip_has_do_not_count(tiny, buckets):
    """Clips of up to 1.2 s; of 30 s, the longest bucket or crop, a batch would hold one."""
    config = tiny(data={"bucket_seconds": buckets, "batch_seconds": 40.0, "clips_per_batch": 0, "clips_multiple": 1})
    batches = batches_of(config)
    assert min(clips for clips, _ in batches) > 30
    check_batches(config, batches)


def test_every_planned_batch_needs_two_clips_to_compare(tiny, tmp_path, monkeypatch):
    data = {"bucket_seconds": (0.5, 1.2), "batch_seconds": 2.0, "clips_per_batch": 0, "clips_multiple": 1}
    config = tiny(data=data, mesh=ONE_SHARE)
    words = r"config\.data\.batch_seconds is 2: a batch of clips of up to 1\.2 s has 1 clip, .* objective contrastive"
    refused(config, tmp_path / "run", monkeypatch, ConfigError, words)
    batches = batches_of(config)
    with pytest.raises(ConfigError, match="objective hybrid compares"):
        check_batches(tiny("hybrid", data=data), batches)
    check_batches(tiny("captioning", data=data), batches)


def test_the_best_checkpoints_go_by_a_metric_of_the_run(tiny, tmp_path, monkeypatch):
    def best(metric, keep_best=1):
        return tiny(train={"best_metric": metric, "keep_best": keep_best})

    known = "accuracy, bad_steps, grad_norm, learning_rate, logit_scale, loss, negatives"
    words = rf"config\.train\.best_metric is \+acuracy, and no step of this run gives acuracy: .* one of {known}"
    refused(best("+acuracy"), tmp_path / "run", monkeypatch, UserError, words)
    refused(best("accuracy"), tmp_path / "run", monkeypatch, UserError, r"higher is better: write \+accuracy")
    for metric, keep_best in (("+accuracy", 1), ("grad_norm", 2), ("loss", 1), ("acuracy", 0)):
        assert rehearse(best(metric, keep_best))["steps"] == 12
