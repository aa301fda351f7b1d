"""Zero-shot classification on embeddings with known answers."""

import dataclasses
import json

import numpy as np
import pytest

from alp_jax.core.errors import UserError
from alp_jax.evaluation.probes.prompts import PROMPTS, Prompts, read_prompts
from alp_jax.evaluation.probes.tasks import build_tasks
from alp_jax.evaluation.probes.zero_shot import zero_shot
from alp_jax.evaluation.table import read_table

WIDTH = 16


def direction(text):
    """A unit vector that depends on the words alone."""
    rng = np.random.default_rng(np.frombuffer(text.encode().ljust(8, b"."), np.uint8))
    vector = rng.standard_normal(WIDTH)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def embed(texts):
    """Sentences that begin with ``good`` say what the class is; others say nothing."""
    return np.stack([direction(text.removeprefix("good ") if text.startswith("good ") else "noise") for text in texts])


@pytest.fixture
def task(dataset, config):
    return build_tasks(read_table(dataset), config)[0]["kind"]


@pytest.fixture
def audio(dataset, task):
    """Every third clip sounds like another class."""

    def vectors(rows):
        names = [dataset.records[row].labels["kind"] for row in rows]
        return np.stack([direction("cat" if row % 3 == 0 else name) for row, name in zip(rows, names, strict=True)])

    return vectors


def test_accuracy_of_a_known_confusion(dataset, task, audio):
    found = zero_shot(task, Prompts(("bad {}", "good {}")), audio, embed)
    expected = np.mean([row % 3 != 0 or dataset.records[row].labels["kind"] == "cat" for row in task.test_row])
    assert found.values["accuracy_best_prompt"]["value"] == pytest.approx(expected)
    assert found.values["accuracy"]["value"] == pytest.approx(1 / 3)  # all classes tie and share every clip
    assert found.values["accuracy"]["chance"] == pytest.approx(1 / 3)
    assert found.values["accuracy_ensemble"]["value"] == pytest.approx(expected)
    assert found.selected["best_prompt"] == "good {}"
    low, high = found.values["accuracy_best_prompt"]["interval"]
    assert low < expected < high


def test_the_best_prompt_is_chosen_without_the_test_clips(task, audio):
    def swapped(rows):
        """On test clips the sentences that helped are those that do not."""
        return audio(rows) if np.isin(rows, task.train_row).all() else -audio(rows)

    found = zero_shot(task, Prompts(("bad {}", "good {}")), swapped, embed)
    assert found.selected["best_prompt"] == "good {}"
    assert found.values["accuracy_best_prompt"]["value"] < found.values["accuracy"]["value"]


def test_the_order_of_classes_does_not_matter(task, audio):
    turned = dataclasses.replace(
        task,
        classes=task.classes[::-1],
        train_y=len(task.classes) - 1 - task.train_y,
        test_y=len(task.classes) - 1 - task.test_y,
    )
    prompts = Prompts(("good {}", "bad {}"))
    assert zero_shot(task, prompts, audio, embed) == zero_shot(turned, prompts, audio, embed)


def test_tags_are_judged_by_mean_average_precision(dataset, config, audio):
    tags = build_tasks(read_table(dataset), config)[0]["tags"]
    found = zero_shot(tags, Prompts(("good {}",)), audio, embed)
    assert list(found.values) == ["map", "map_ensemble", "map_best_prompt"]
    assert 0.5 < found.values["map"]["value"] <= 1
    assert found.values["map"]["chance"] == pytest.approx(tags.test_y.mean(0).mean())


def test_prompts_come_from_a_file(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"kind": {"templates": ["hear {}"], "classes": {"dog": "a big dog"}}}))
    found = read_prompts(path)
    assert found["kind"].sentences("hear {}", ("dog", "old_cat")) == ["hear a big dog", "hear old cat"]
    assert found.keys() == {*PROMPTS, "kind"}
    for text, message in [
        ('{"kind": {"templates": ["no place"]}}', "must contain {} exactly once"),
        ('{"kind": {"templates": []}}', "needs a list"),
        ('{"kind": ["{}"]}', "needs a list"),
        ("[1]", "the file needs"),
        ("{", "prompts.json"),
    ]:
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_prompts(path)
    with pytest.raises(UserError, match=r"config\.evaluation\.prompts"):
        read_prompts(tmp_path / "none.json")
