"""Which data sets are evaluated, and what the paper's protocol lacks."""

import pytest

from alp_jax.core.errors import UserError
from alp_jax.evaluation.stats.published import not_measured
from alp_jax.train.evaluate_sets import data_sets


def test_the_papers_suite_takes_every_data_set_of_a_folder_and_says_what_it_lacks(tmp_path):
    for name in ("vggsound", "fsd50k"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset.json").write_text("{}")
    (tmp_path / "notes").mkdir()
    assert data_sets(str(tmp_path), "paper") == [tmp_path / "fsd50k", tmp_path / "vggsound"]
    assert data_sets(str(tmp_path / "fsd50k"), "paper") == [tmp_path / "fsd50k"]
    assert data_sets(str(tmp_path), "mini") == [tmp_path]  # which is then refused as no data set
    assert data_sets(None, "paper") == [None]
    with pytest.raises(UserError, match="holds none"):
        data_sets(str(tmp_path / "notes"), "paper")
    lines = not_measured(["fsd50k", "text_to_audio", "audio_to_text", "sound_event_detection"])
    assert "not measured: vggsound; needs alp data build vggsound" in lines
    assert "not measured: voxceleb2; needs alp data build voxceleb --option version=2" in lines
    assert not any("fsd50k" in line or "audioset_strong" in line for line in lines)
