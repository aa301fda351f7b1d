"""Corpora by name: everything that can be wrong with a request is named before anything is read."""

import pytest

from alp_jax.cli.main import main
from alp_jax.core.errors import UserError
from alp_jax.corpora import catalog, registry


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "val.csv"
    path.write_text("youtube_id,start_time,caption\nabcdefghijk,0,a\n")
    return path


@pytest.mark.parametrize(
    ("name", "settings", "match"),
    [
        ("audiocap", {}, "unknown corpus 'audiocap' .did you mean 'audiocaps'"),
        ("audiocaps", {"versoin": "1"}, "unknown option of audiocaps 'versoin' .did you mean 'version'"),
        ("audiocaps", {"version": "3"}, "unknown version of audiocaps '3' .known: 1, 2"),
        ("clotho", {"version": "1"}, "clotho has no options, not 'version'"),
        ("audiocaps", {"split": "val"}, "unknown split 'val'"),
        ("audiocaps", {"audio": "/no/such/folder"}, "audio folder /no/such/folder does not exist"),
        ("vggsound", {"audio": "gs://bucket/audio"}, "is remote, and vggsound is read from a local folder of audio"),
        ("audiocaps", {"metadata": []}, "audiocaps needs --metadata: train.csv, val.csv, test.csv"),
        ("audiocaps", {"metadata": ["/no/such.csv"]}, "metadata /no/such.csv does not exist"),
    ],
)
def test_requests_are_checked_before_reading(table, name, settings, match):
    with pytest.raises(UserError, match=match):
        registry.read(name, **{"metadata": [table], **settings})


def test_a_folder_stands_for_the_metadata_in_it(tmp_path, table):
    (tmp_path / "readme.txt").touch()
    (tmp_path / "empty").mkdir()
    assert len(list(registry.read("audiocaps", [tmp_path]))) == 1
    with pytest.raises(UserError, match=r"holds no _final.json or _final_2s.json file"):
        list(registry.read("wavcaps", [tmp_path]))
    with pytest.raises(UserError, match=r"metadata folder .* holds no \.txt file"):
        registry.read("voxceleb", [tmp_path / "empty"])


def test_every_corpus_can_be_loaded_by_its_name_and_explains_its_options():
    assert len(catalog.names()) == 19
    for name in catalog.names():
        corpus = registry.get(name)
        for option in corpus.options.values():
            assert option.help, name
            assert not option.choices or option.default in ("", *option.choices), name


def test_a_build_says_what_a_corpus_needs(capsys):
    build_to = ["data", "build", "--out", "/nowhere"]
    for argv, word in (
        (["audiocaps"], "needs --metadata FILE... (train.csv, val.csv, test.csv"),
        (["audiocaps", "--metadata", "x.csv"], "and --audio DIR"),
        (["tfds"], "needs --metadata FILE... (version folders"),
        (["audiocap", "--metadata", "x.csv"], "audiocap"),
        (["audiocaps", "--metadata", "x.csv", "--audio", "/", "--option", "version"], "KEY=VALUE"),
        (["audiocaps", "--metadata", "x.csv", "--audio", "/", "--option", "verson=1"], "did you mean 'version'"),
        (["mini", "--metadata", "x.csv"], "--metadata is not for the mini corpus"),
        (["folder", "--metadata", "x.csv", "--audio", "/", "--min_words", "-1"], "min_words"),
        (["folder", "--metadata", "x.csv", "--audio", "/", "--beam_options", "--runner=x"], "beam_options"),
    ):
        assert main([*build_to, *argv]) == 2, argv
        error = capsys.readouterr().err
        assert word in error
        assert error.count("\n") == 1
