"""``alp data captions`` and ``alp tokenizer`` on published metadata: no audio, every row accounted for."""

import json

import pytest

from alp_jax.cli.main import main

AUDIOCAPS = """audiocap_id,youtube_id,start_time,caption
1,aaaaaaaaaaa,30,"A woman talks nearby, as water pours"
2,bbbbbbbbbbb,20,Caption: a dog barks and
3,bbbbbbbbbbb,20,A dog barks
4,ccccccccccc,x,A bell rings
5,ddddddddddd,10,a dog barks!
"""
CLOTHO = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\n" + "".join(
    f"{i}.wav,rain falls on roof {i},rain falls,wind blows over {i},wind blows,a bell rings {i}\n" for i in range(40)
)


@pytest.fixture
def tables(tmp_path):
    (tmp_path / "train.csv").write_text(AUDIOCAPS)
    (tmp_path / "clotho_captions_development.csv").write_text(CLOTHO)
    return str(tmp_path / "train.csv"), str(tmp_path / "clotho_captions_development.csv")


def test_published_captions_are_described_by_source(tables, tmp_path, capsys):
    audiocaps, clotho = tables
    out = tmp_path / "captions.json"
    command = ["data", "captions", "--source", "audiocaps", "--metadata", audiocaps]
    command += ["--source", "clotho", "--metadata", clotho, "--out", str(out)]
    assert main([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads(out.read_text())
    first = result["sources"]["audiocaps"]
    assert first["splits"] == {"train": {"clips": 3, "captions": 4}}
    assert first["duplicates"] == {"exact": 0, "normalised": 1}
    assert (first["words"], first["distinct_words"]) == (18, 11)
    assert set(first["artefacts"]) == {"label", "cut_off"}
    assert result["rejected"]["bad_time"]["count"] == 1
    assert "train.csv line 5" in result["rejected"]["bad_time"]["rows"][0]
    assert result["all"]["captions"] == 204
    assert main(command) == 0
    printed = capsys.readouterr().out
    for needed in (
        "audiocaps",
        "clotho",
        "all",
        "cut_off (defect: ends mid-sentence",
        "1 bad_time",
        "'rain falls' 40",
        "paper counts 56,586 in 10.7 million",
    ):
        assert needed in printed


def test_tokens_are_counted_with_a_tokenizer_of_published_captions(tables, tmp_path, capsys):
    model = str(tmp_path / "t.model")
    clotho = ["--source", "clotho", "--metadata", tables[1]]
    for kind in ("unigram", "bpe"):
        assert main(["tokenizer", *clotho, "--vocab_size", "287", "--kind", kind, "--out", model, "--json"]) == 0
        made = json.loads(capsys.readouterr().out)
        assert (made["captions"], made["kind"], made["vocab_size"]) == (200, kind, 287)
    describe = ["data", "captions", *clotho, "--json", "--tokenizer", model, "--text_budget"]
    for budget, cut in (("1", 200), ("100", 0)):
        assert main([*describe, budget]) == 0
        tokens = json.loads(capsys.readouterr().out)["all"]["tokens_per_caption"]
        assert (tokens["budget"], tokens["truncated"]) == (int(budget), cut)


def test_what_cannot_be_done_is_one_line(tables, tmp_path, capsys):
    audiocaps = tables[0]
    (tmp_path / "test.csv").write_text("id,text\n1,a dog\n")
    (tmp_path / "val.csv").write_text(AUDIOCAPS.splitlines()[0] + "\n5,short,10,a dog\n")
    given = ["--source", "audiocaps", "--metadata", audiocaps]
    wrong = [
        (["data", "captions"], "either the folder of a data set or --source"),
        (["data", "captions", str(tmp_path), *given], "either the folder of a data set or --source"),
        (["data", "captions", str(tmp_path)], "not a data set"),
        (["data", "captions", "--source", "audiocaps"], "1 --source and 0 --metadata"),
        (["data", "captions", "--source", "audiocap", "--metadata", audiocaps], "did you mean 'audiocaps'"),
        (["data", "captions", "--source", "audiocaps", "--metadata", "none.csv"], "none.csv does not exist"),
        (["data", "captions", "--source", "audiocaps", "--metadata", str(tmp_path / "test.csv")], "no column"),
        (["data", "captions", "--source", "audiocaps", "--metadata", str(tmp_path / "val.csv")], "1 rows"),
        (["data", "captions", *given, "--option", "vesion=2"], "did you mean 'version'"),
        (["data", "captions", *given, "--option", "version"], "KEY=VALUE"),
        (["data", "captions", *given, "--option", "version=3"], "version"),
        (["data", "captions", *given, "--text_budget", "0"], "--text_budget 0"),
        (["data", "captions", *given, "--text_clean", "clip"], "did you mean 'clap'"),
        (["data", "captions", *given, "--tokenizer", "none.model"], "none.model"),
        (["tokenizer"], "either --data DIR or --source"),
        (["tokenizer", *given], "--out FILE is needed"),
        (["tokenizer", *given, "--out", str(tmp_path / "t.model"), "--vocab_size", "9"], "vocab_size = 9 is too small"),
        (["tokenizer", *given, "--out", str(tmp_path / "t.model"), "--vocab_size", "0"], "--vocab_size 0"),
        (["tokenizer", *given, "--kind", "word"], "--kind"),
    ]
    for argv, word in wrong:
        assert main(argv) == 2, argv
        captured = capsys.readouterr()
        last = captured.err.strip().splitlines()[-1]
        assert last.startswith("alp: "), argv
        assert word in last, (argv, last)
        assert "Traceback" not in captured.err
    assert not (tmp_path / "t.model").exists()


def test_help_says_where_each_number_is(capsys):
    for verb, other in (("stats", "'alp data captions' has words"), ("captions", "'alp data stats' has clips")):
        with pytest.raises(SystemExit):
            main(["data", verb, "--help"])
        assert other in " ".join(capsys.readouterr().out.split())
