"""Folders without a split column: whole groups are split, by a rule that no added clip changes, and it is said."""

import collections
import json

import numpy as np
import pytest
import soundfile

from alp_jax.cli.main import main
from alp_jax.core.clip import Rejected
from alp_jax.core.errors import UserError
from alp_jax.corpora import registry
from alp_jax.data.store.dataset import open_dataset


def splits(tmp_path, text, name="captions.csv", **settings):
    """File name -> split."""
    (tmp_path / name).write_text(text)
    clips = list(registry.read("folder", [tmp_path / name], **settings))
    assert not any(isinstance(clip, Rejected) for clip in clips)
    return {clip.id.partition(":")[2]: clip.split for clip in clips}


def plain(numbers):
    return "path,caption\n" + "".join(f"{i}.wav,sound {i}\n" for i in numbers)


def test_shares_are_kept_and_added_clips_move_nobody(tmp_path):
    few, many = splits(tmp_path, plain(range(60))), splits(tmp_path, plain(reversed(range(4000))))
    assert few == {name: many[name] for name in few}
    counts = collections.Counter(many.values())
    assert abs(counts["train"] - 3200) < 120
    assert abs(counts["valid"] - 400) < 90
    assert abs(counts["test"] - 400) < 90


def test_a_larger_share_of_test_clips_keeps_those_there_are(tmp_path):
    small, large = (splits(tmp_path, plain(range(500)), shares=shares) for shares in ("80/10/10", "50/20/30"))
    tested = {name for name, split in small.items() if split == "test"}
    assert tested < {name for name, split in large.items() if split == "test"}
    assert splits(tmp_path, plain(range(500)), split_seed="1") != small
    assert set(splits(tmp_path, plain(range(50)), shares="1/0/0").values()) == {"train"}
    assert set(splits(tmp_path, plain(range(50)), split="valid").values()) == {"valid"}


@pytest.mark.parametrize("unit", ["group", "recording"])
def test_what_belongs_together_stays_together(tmp_path, unit):
    table = f"path,caption,{unit}\n" + "".join(f"{i}.wav,sound,{unit} {i // 4}\n" for i in range(400))
    found = list(splits(tmp_path, table).values())
    assert [len(set(found[i : i + 4])) for i in range(0, 400, 4)] == [1] * 100
    assert set(found) == {"train", "valid", "test"}
    assert registry.split_rule("folder", [tmp_path / "captions.csv"]).unit == unit


def test_cuts_and_captions_of_one_file_stay_together(tmp_path):
    table = "path,caption,start,duration\n" + "".join(f"{i // 3}.wav,a,{i % 3},1\n" for i in range(300))
    found = list(splits(tmp_path, table).values())
    assert [len(set(found[i : i + 3])) for i in range(0, 300, 3)] == [1] * 100


def test_a_stated_split_is_kept_and_half_stated_ones_are_not_guessed(tmp_path):
    stated = "path,caption,split\na.wav,x,test\nb.wav,x,\n"
    assert splits(tmp_path, stated) == {"a.wav": "test", "b.wav": "train"}
    assert registry.split_rule("folder", [tmp_path / "captions.csv"]) is None
    rows = [{"path": "a.wav", "caption": "x"}, {"path": "b.wav", "caption": "x", "split": "test"}]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, bad = registry.read("folder", [tmp_path / "c.jsonl"])
    assert (bad.where, bad.reason) == (f"{tmp_path / 'c.jsonl'} line 2", "bad_record")
    assert "split 'test', and the first row has none" in bad.detail


@pytest.mark.parametrize(
    ("option", "value"), [("shares", v) for v in ("80", "a/b/c", "0/0/0", "-1/1/1", "inf/1/1")] + [("split_seed", "x")]
)
def test_options_that_cannot_be_are_named(tmp_path, option, value):
    with pytest.raises(UserError, match=f"--option {option}={value}: give"):
        splits(tmp_path, plain(range(2)), **{option: value})


def test_a_build_says_how_it_split_and_writes_it_down(tmp_path, capsys):
    folder = tmp_path / "my sounds"
    folder.mkdir()
    for i in range(24):
        soundfile.write(folder / f"{i}.wav", 0.1 * np.random.default_rng(i).standard_normal(4000), 16000)
    table = ["path,caption,recording", *(f"{i}.wav,sound {i},{i // 2}" for i in range(24))]
    (tmp_path / "captions.csv").write_text("\n".join(table) + "\n")
    out = str(tmp_path / "my data")
    argv = ["data", "build", "folder", "--audio", str(folder), "--metadata", str(tmp_path / "captions.csv")]
    assert main([*argv, "--dry_run"]) == 0
    assert "  no valid and no test clips come of this: --option split_seed=N" in capsys.readouterr().out
    argv += ["--option", "split_seed=2"]
    assert main([*argv, "--out", out, "--workers", "1"]) == 0
    said, dataset = capsys.readouterr().out, open_dataset(out)
    counts = {split: len(dataset.rows(split)) for split in ("train", "valid", "test")}
    assert sum(counts.values()) == 24  # pieces of one recording are no copies of each other
    assert min(counts.values()) > 0
    assert "came of it" not in said
    stated = ", ".join(f"{count} {split}" for split, count in counts.items())
    assert f"no split column, so clips are split 80/10/10 by recording, seed 2: {stated}\n" in said
    assert f"next: alp tokenizer --data '{out}'\n" in said
    rule = {"shares": {"train": 0.8, "valid": 0.1, "test": 0.1}, "seed": 2, "by": "recording"}
    assert dataset.info["split_rule"] == rule
    assert main([*argv, "--dry_run"]) == 0
    assert f"seed 2: {stated}\n" in capsys.readouterr().out
    assert main([*argv, "--dry_run", "--split", "test"]) == 0
    assert "split column" not in capsys.readouterr().out


def tables(tmp_path, **texts):
    """The tables, and file of the clip and its start -> split, and the rejected rows."""
    paths = []
    for name, text in texts.items():
        paths.append(tmp_path / name.replace("_", "."))
        paths[-1].write_text(text)
    rows = list(registry.read("folder", paths))
    clips = [row for row in rows if not isinstance(row, Rejected)]
    return (
        paths,
        {clip.id.partition(":")[2]: clip.split for clip in clips},
        [r for r in rows if isinstance(r, Rejected)],
    )


def cuts(numbers, start, column="", cell="{0}"):
    head = f"path,caption,start,end{',' if column else ''}{column}\n"
    tail = f",{cell}" if column else ""
    return head + "".join(f"{i}.wav,x,{start},{start + 2}{tail.format(i)}\n" for i in numbers)


@pytest.mark.parametrize("order", [("train_csv", "more_csv"), ("more_csv", "train_csv")])
def test_files_whose_split_a_table_states_stay_there(tmp_path, order):
    texts = {"train_csv": cuts(range(40), 0), "more_csv": cuts(range(60), 3)}
    _, found, bad = tables(tmp_path, **{name: texts[name] for name in order})
    assert not bad
    assert {found[f"{i}.wav#{start}"] for i in range(40) for start in (0, 3)} == {"train"}
    assert len({found[f"{i}.wav#3"] for i in range(40, 60)}) > 1


@pytest.mark.parametrize("other", ["group", "recording"])
@pytest.mark.parametrize("column", ["group", "recording"])
def test_groups_and_recordings_whose_split_a_table_states_stay_there(tmp_path, column, other):
    if (column, other) == ("recording", "group"):
        other = "group,recording"  # the group is empty
    more = f"path,caption,{other}\n" + "".join(
        f"{i}.wav,x,{',' * other.count(',')}n{i % 40}\n" for i in range(200, 240)
    )
    _, found, bad = tables(tmp_path, more_csv=more, a_csv=cuts(range(40), 0, f"{column},split", "n{0},test"))
    assert not bad
    assert len(found) == 80
    assert set(found.values()) == {"test"}


@pytest.mark.parametrize("column", ["group", "recording"])
@pytest.mark.parametrize("name", ["b_csv", "b_jsonl"])
def test_files_stay_together_where_one_table_groups_them_and_another_does_not(tmp_path, column, name):
    plain = cuts(range(80), 3)
    if name == "b_jsonl":
        plain = "".join(json.dumps({"path": f"{i}.wav", "start": 3, "end": 5}) + "\n" for i in range(80))
    for texts in (
        {name: plain, "c_csv": cuts(range(80), 0, column, "n{0}")},
        {"a_csv": cuts(range(80), 0, column, "n{0}"), name: plain},
    ):
        paths, found, bad = tables(tmp_path, **texts)
        assert not bad
        assert all(found[f"{i}.wav#0"] == found[f"{i}.wav#3"] for i in range(80))
        assert set(found.values()) == {"train", "valid", "test"}
        assert registry.split_rule("folder", paths).unit == f"{column} or file"


def test_a_row_that_would_part_its_file_or_group_is_rejected(tmp_path):
    lines = [{"path": f"{i}.wav", "start": 0, "end": 2} for i in range(80)]
    lines += [{"path": f"{i}.wav", "start": 3, "end": 5, "group": "one"} for i in range(80)]
    _, found, bad = tables(tmp_path, a_jsonl="".join(json.dumps(line) + "\n" for line in lines))
    assert {row.reason for row in bad} == {"group_in_two_splits"}
    assert "'one' is in " in bad[0].detail
    assert ".wav' was in " in bad[0].detail
    kept = [i for i in range(80) if f"{i}.wav#3" in found]
    assert len(kept) + len(bad) == 80
    assert len({found[f"{i}.wav#3"] for i in kept}) == 1
    assert all(found[f"{i}.wav#0"] == found[f"{i}.wav#3"] for i in kept)


def test_a_build_of_several_tables_says_which_the_rule_splits(tmp_path, capsys):
    (tmp_path / "audio").mkdir()
    for i in range(6):
        soundfile.write(tmp_path / "audio" / f"{i}.wav", 0.1 * np.ones(16000 * 5), 16000)
    paths, _, _ = tables(tmp_path, train_csv=cuts(range(6), 0), more_csv=cuts(range(6), 3))
    argv = ["--audio", str(tmp_path / "audio"), "--dry_run", "--metadata", *map(str, paths)]
    assert main(["data", "build", "folder", *argv]) == 0
    said = capsys.readouterr().out
    assert "no split column in 1 of 2 tables, so their clips are split 80/10/10 by file, seed 0\n" in said
    assert "  except for groups and files whose split other tables state; all clips together: " in said
    assert "so clips are split" not in said
    assert "no valid and no test clips come of this: a column 'split' can name some\n" in said
