"""The table and the notes that ``alp eval`` prints."""

import pytest

from alp_jax.cli import eval as cli
from alp_jax.core.errors import UserError
from alp_jax.evaluation.stats.published import not_measured

RESULT = {
    "task": "kind",
    "pooling": "mean",
    "metric": "accuracy",
    "value": 0.5,
    "interval": [0.4, 0.6],
    "chance": 0.25,
    "floor": None,
    "published": {"supervised": 0.3, "contrastive, scratch": 0.45},
    "missing": {"expected": 100, "missing": 3, "reasons": {"corrupt": 3}, "share": 0.03, "incomplete": True},
}


def test_a_line_holds_value_baselines_and_paper():
    other = {"untrained": [RESULT | {"value": 0.125}], "start": []}
    head, line = cli.table([RESULT], other).splitlines()
    assert head.split() == [
        *("task", "pooling", "metric", "value", "95%", "interval", "chance", "floor", "untrained", "start", "paper")
    ]
    assert " ".join(line.split()) == "kind mean accuracy 0.500 [0.400, 0.600] 0.250 - 0.125 - 0.300 to 0.450"
    assert len(head.rstrip()) <= 120


def test_a_failed_task_is_named_and_does_not_widen_the_table():
    reason = "x" * 200
    lines = cli.table([RESULT, {"task": "kind", "pooling": "attention", "failed": reason}], {}).splitlines()
    assert reason in lines[2]
    assert len(lines[1]) < 100


def test_missing_clips_are_told():
    assert cli.notes([RESULT]) == ["kind: INCOMPLETE, 3 of 100 clips of its sources are not stored (3 corrupt)"]
    whole = RESULT["missing"] | {"missing": 1, "incomplete": False, "reasons": {"missing": 1}}
    assert cli.notes([RESULT | {"missing": whole}])[0].startswith("kind: 1 of 100")
    assert cli.notes([RESULT | {"missing": {"unknown": "why"}}]) == []
    skipped = {"cider_d": "not computable: why", "spice": "needs Java"}
    said = {"task": "captioning", "skipped": skipped}
    assert cli.notes([said, said]) == ["captioning: no CIDEr-D: not computable: why"]


def test_the_papers_suite_takes_every_data_set_of_a_folder_and_says_what_it_lacks(tmp_path):
    for name in ("vggsound", "fsd50k"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset.json").write_text("{}")
    (tmp_path / "notes").mkdir()
    assert cli.places(str(tmp_path), "paper") == [tmp_path / "fsd50k", tmp_path / "vggsound"]
    assert cli.places(str(tmp_path / "fsd50k"), "paper") == [tmp_path / "fsd50k"]
    assert cli.places(str(tmp_path), "mini") == [tmp_path]  # which is then refused as no data set
    assert cli.places(None, "paper") == [None]
    with pytest.raises(UserError, match="holds none"):
        cli.places(str(tmp_path / "notes"), "paper")
    lines = not_measured(["fsd50k", "text_to_audio", "audio_to_text", "sound_event_detection"])
    assert "not measured: vggsound; needs alp data build vggsound" in lines
    assert "not measured: voxceleb2; needs alp data build voxceleb --option version=2" in lines
    assert not any("fsd50k" in line or "audioset_strong" in line for line in lines)
