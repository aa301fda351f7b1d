"""Names and headers that corpora are told their audio by."""

import pytest

from alp_jax.corpora import youtube
from alp_jax.corpora.captioned.mini.headers import probe
from alp_jax.corpora.rows import BadRow
from tests.data.sounds import coded, tone, with_flac_samples

NAMES = ("Yr1nicOVtvkQ", "r1nicOVtvkQ", "Yr1nicOVtvkQ.wav", "r1nicOVtvkQ.m4a", "Yr1nicOVtvkQ.WEBM")


@pytest.mark.parametrize("name", NAMES)
def test_audioset_files_have_any_extension(name):
    assert youtube.audioset(name) == "r1nicOVtvkQ"


def test_other_names_are_no_ids():
    for name in ("r1nicOVtvkQ.txt", "YYr1nicOVtvkQ", "r1nic.wav"):
        with pytest.raises(BadRow, match="bad_id"):
            youtube.audioset(name)


def test_a_length_that_a_header_does_not_state_is_not_made_up(tmp_path):
    data = coded(tone(1.5), form="FLAC")
    (tmp_path / "a.flac").write_bytes(data)
    assert probe(tmp_path / "a.flac") == (1.5, 16_000, 1)
    (tmp_path / "a.flac").write_bytes(with_flac_samples(data, 0))
    assert probe(tmp_path / "a.flac") is None
