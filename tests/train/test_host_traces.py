"""Traces of chosen steps, and garbage that is collected when the loop says so."""

import gc
import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from alp_jax.config import ConfigError, RunConfig, check_run
from alp_jax.config.schema import TrainConfig
from alp_jax.core.errors import UserError
from alp_jax.train.host import Collector, Profile, parse_steps


def test_a_trace_holds_the_chosen_steps(tmp_path):
    names = [f"step{number}" for number in range(4)]
    compute = jax.jit(lambda x: jnp.sin(x) @ x)
    profile, last = Profile(parse_steps("1:3"), tmp_path), None
    for number, name in enumerate(names):
        if (number in profile.steps) != profile.running:  # as the loop asks
            profile.turn(last)
        with jax.profiler.TraceAnnotation(name):
            last = compute(jnp.ones((8, 8)))
    profile.close()
    (path,) = tmp_path.rglob("*.trace.json.gz")
    events = {event.get("name") for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]}
    assert events & set(names) == {"step1", "step2"}


def test_a_trace_that_the_run_ends_in_is_written(tmp_path):
    profile = Profile(parse_steps("1:100"), tmp_path)
    assert 5 in profile.steps  # a run that went on at step 5
    profile.turn(None)
    profile.close()
    assert list(tmp_path.rglob("*.xplane.pb"))
    profile.close()


@pytest.mark.parametrize(
    ("text", "message"), [("100", "FIRST:END"), ("105:100", "ends before step 100 but begins at 105")]
)
def test_a_range_without_steps_is_refused(text, message):
    with pytest.raises(UserError, match=rf"config\.train\.profile_steps='{text}' .*{message}"):
        parse_steps(text)


def test_garbage_is_collected_at_the_chosen_steps_only():
    seen, step = [], None

    def note(phase, info):
        if phase == "start" and step is not None:
            seen.append(step)

    gc.callbacks.append(note)
    try:
        with Collector(3) as collector:
            for step in range(7):
                kept = [[] for _ in range(5000)]  # more than Python waits for by itself
                if (step + 1) % collector.every == 0:  # as the loop does
                    gc.collect()
        step = None
    finally:
        gc.callbacks.remove(note)
    assert len(kept) == 5000
    assert seen == [2, 5]
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    with pytest.raises(RuntimeError), Collector(1):
        raise RuntimeError
    assert gc.isenabled()
    with pytest.raises(ConfigError, match=r"gc_every is -1"):
        check_run(RunConfig(train=TrainConfig(gc_every=-1)))
