"""Cases without a model: features, augmentation, caption clean-up, retrieval; as good, and as bad after one change."""

import json
import pathlib
import shutil

import pytest

from alp_jax.golden.case import find_cases
from alp_jax.golden.runner import run_case

GOLDEN = pathlib.Path(__file__).parent / "vectors"
EMBEDDINGS = pathlib.Path(__file__).parents[1] / "evaluation" / "golden" / "retrieval.safetensors"
CLEAN = {
    "kind": "text_clean",
    "cases": [{"in": "He said *wow* !", "clap": "he said wow ", "audio_caption": "he said *wow* "}],
}
RETRIEVAL = {
    "kind": "retrieval",
    "captions_per_audio": 5,
    "metrics": {
        "a2t": {"r1": 35.0, "medr": 3.0, "mAP10": 56.624650955200195},
        "multi_a2t": {"r1": 37.5, "meanr": 3.299999952316284, "mAP10": 38.48055899143219},
        "multi_t2a": {"r10": 86.00000143051147, "medr": 2.0, "mAP10": 59.04853940010071},
    },
}


def check(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    if config["kind"] == "retrieval":
        shutil.copy(EMBEDDINGS, folder / "io.safetensors")
    return run_case(find_cases(folder)[0])


@pytest.mark.parametrize("name", ["fbank", "spec_augment"])
def test_features_equal_the_reference(name):
    result = run_case(find_cases(GOLDEN / name)[0])
    assert result.ok, (result.problem, [str(line) for line in result.lines if not line.ok])


@pytest.mark.parametrize(("config", "lines"), [(CLEAN, 2), (RETRIEVAL, 9)])
def test_recorded_cases_pass(tmp_path, config, lines):
    result = check(tmp_path, config)
    assert result.ok, result
    assert len(result.lines) == lines


@pytest.mark.parametrize(
    ("config", "old", "new", "failed"),
    [
        (CLEAN, "he said wow ", "he said wow", "clap: 'He said *wow* !'"),
        (CLEAN, '"audio_caption"', '"captions"', "captions: 'He said *wow* !'"),
        (RETRIEVAL, "38.4805", "38.4815", "multi_a2t.mAP10"),
        (RETRIEVAL, "59.04853", "59.04883", "multi_t2a.mAP10"),
        (RETRIEVAL, "37.5", "35.0", "multi_a2t.r1"),
    ],
)
def test_a_changed_value_fails(tmp_path, config, old, new, failed):
    text = json.dumps(config)
    assert old in text
    result = check(tmp_path, json.loads(text.replace(old, new)))
    assert [line.tensor for line in result.lines if not line.ok] == [failed]
