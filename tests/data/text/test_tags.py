"""Lists of tags: chosen from the training clips, read back, and found in every clip of a batch."""

import json
from collections import Counter

import numpy as np
import pytest
import soundfile

from alp_jax.cli.main import main
from alp_jax.config.schema import DataConfig
from alp_jax.core.clip import Clip
from alp_jax.core.errors import UserError
from alp_jax.data import pipeline
from alp_jax.data.building.build import build
from alp_jax.data.store.dataset import open_dataset
from alp_jax.data.text import training
from alp_jax.data.text.tags import TagList, choose_tags


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """40 clips, the last 4 for tests: 'even' or 'odd', 'late' from 30 on, and captions that say so."""
    root = tmp_path_factory.mktemp("tags")
    clips = []
    for i in range(40):
        path, kind = root / f"{i}.wav", ("even", "odd")[i % 2]
        soundfile.write(path, np.sin(np.arange(1600.0) * (i + 1) / 50) / 2, 16_000)
        clips.append(
            Clip(
                id=f"s:{i}",
                source="s",
                recording=f"r:{i}",
                audio_path=str(path),
                captions=(f"the {kind} tone", "the sound, LATE" if i >= 30 else "the sound"),
                tags=(kind, "late") if i >= 30 else (kind,),
                labels={"parity": kind},
                split="test" if i >= 36 else "train",
            )
        )
    build(clips, root / "set", source_name="s", shards=2, workers=1)
    return root / "set"


def test_the_command_ranks_the_tags_of_training_clips(made, tmp_path, capsys):
    def run(kind, *args):
        out = tmp_path / f"{kind}.json"
        assert main(["tags", "--json", "--data", str(made), "--kind", kind, "--out", str(out), *args]) == 0
        assert json.loads(capsys.readouterr().out)["clips"] == 36
        return json.loads(out.read_text())

    assert run("tags", "--max_share", "1") == {"kind": "tags", "tags": ["even", "odd", "late"], "clips": [18, 18, 6]}
    assert run("labels", "--max_share", "1")["tags"] == ["parity=even", "parity=odd"]
    # words of all clips say nothing about any; of the others the more frequent tell more here
    found = run("captions", "--max_share", "1")
    assert found["tags"][:3] == ["even", "odd", "late"]
    assert set(found["tags"][3:]) == {"the", "tone", "sound"}
    assert run("captions", "--max_share", "0.9", "--size", "2")["tags"] == ["even", "odd"]
    assert run("tags", "--max_share", "1", "--min_clips", "7")["tags"] == ["even", "odd"]


def test_batches_say_which_tags_a_clip_has(made, tmp_path):
    dataset = open_dataset(made)
    tokenizer = training.train(training.training_captions(dataset), tmp_path / "tokenizer.model", 276)
    TagList("captions", ("late", "unheard", "odd")).save(tmp_path / "tags.json", Counter())
    config = DataConfig(bucket_seconds=(0.25,), batch_seconds=2.0, clips_multiple=4, text_budget=8)
    config = DataConfig(**{**vars(config), "tags": str(tmp_path / "tags.json")})
    batches = pipeline.train_batches(dataset, config, tokenizer, seed=0)
    batch = next(batches)
    batches.close()
    numbers = [int(dataset.read(int(row), audio=False).id.partition(":")[2]) for row in batch["row"]]
    assert len(numbers) == 8
    np.testing.assert_array_equal(batch["tags"], [[i >= 30, False, i % 2 == 1] for i in numbers])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no such file; 'alp tags' makes one"),
        ('["a"]', "does not hold a list of tags"),
        ('{"kind": "tags", "tags": []}', "does not hold a list of tags"),
        ('{"kind": "tags", "tags": ["a", "b", "a"]}', "tag 'a' is listed twice"),
        ('{"kind": "tagss", "tags": ["a"]}', "did you mean 'tags'"),
    ],
)
def test_wrong_lists_are_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "tags.json").write_text(text)
    with pytest.raises(UserError, match=message):
        TagList.load(tmp_path / "tags.json")


def test_no_tag_left_is_refused():
    with pytest.raises(UserError, match="no tags are left of 2 in 3 training clips: lower --min_clips 4"):
        choose_tags([{"a"}, {"a", "b"}, set()], "tags", 5, min_clips=4)
