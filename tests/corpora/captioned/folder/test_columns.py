"""What columns mean, whatever they are called."""

import pytest

from alp_jax.core.errors import UserError
from alp_jax.corpora.captioned.folder.columns import Columns, known, normalised


def meanings(*names, **settings):
    return {column.name: column.meaning for column in Columns(**settings).of(names, "t", "t header")}


@pytest.mark.parametrize(
    ("name", "plain"), [(" File Name ", "file_name"), ("\ufeffFILE-name", "file_name"), ("Caption_1", "caption_1")]
)
def test_names_are_compared_without_case_and_blanks(name, plain):
    assert normalised(name) == plain


@pytest.mark.parametrize("name", ["file_name", "Filename", "FILE", "path", "filepath", "audio", "Audio_Path", "wav"])
def test_the_file_by_any_usual_name(name):
    assert meanings(name, "caption")[name] == "file"


@pytest.mark.parametrize("name", ["caption", "Captions", "text", "Sentence", "description", "caption_3", "caption12"])
def test_captions_by_any_usual_name(name):
    assert meanings("file", name)[name] == "caption"


def test_the_first_name_of_a_meaning_wins_and_the_others_are_not_known():
    assert meanings("path", "file_name", "text", "caption", ignore="path,text") == {
        "file_name": "file",
        "caption": "caption",
    }
    with pytest.raises(UserError, match="unknown columns 'path', 'text'"):
        meanings("path", "file_name", "text", "caption")


def test_captions_come_in_the_order_of_their_numbers():
    found = Columns().of(("caption_10", "caption_2", "path", "caption_1"), "t", "t")
    assert [column.name for column in found if column.meaning == "caption"] == ["caption_1", "caption_2", "caption_10"]


def test_labels_keep_the_name_of_their_task():
    (label,) = (column for column in Columns().of(("path", "Label_Mood"), "t", "t") if column.meaning == "label")
    assert label.task == "Mood"


def test_how_many_columns_mean_something():
    assert known(["file_name", "Caption", "x"]) == 2
    assert known(["file_name;caption"]) == 0


@pytest.mark.parametrize(
    ("names", "option"),
    [
        (["a"], "ignore=a; "),
        (["b c", "d"], "'ignore=b c,d'; "),
        (["a,b"], "'ignore=*'; "),
        ([f"x{n}" for n in range(12)], "'ignore=*'; "),
    ],
)
def test_the_option_that_leaves_columns_aside_can_be_typed(names, option):
    with pytest.raises(UserError) as caught:
        meanings("path", "caption", *names)
    assert f"--option {option}expected" in str(caught.value)
    given = option.removesuffix("; ").strip("'").removeprefix("ignore=")
    assert set(meanings("path", "caption", *names, ignore=given)) == {"path", "caption"}


def test_a_table_without_captions_says_so():
    with pytest.raises(UserError, match=r"unknown column 'captoin' \(did you mean 'caption'\?\); none is for captions"):
        meanings("path", "captoin")


def test_two_columns_of_one_name():
    for names in (("path", "caption", "caption"), ("path", "note", "Note")):
        with pytest.raises(UserError, match="t header: two columns are called"):
            meanings(*names)
    assert set(meanings("path", "note", "Note", ignore="note")) == {"path"}


def test_what_is_left_aside_is_said_once_for_each_name(capsys):
    columns = Columns("*")
    for names in (("path", "a"), ("path", "a", "b"), ("path", "b"), ("path", "a")):
        columns.of(names, "t.jsonl", "t.jsonl line 1")
    columns.of(("path", "a"), "u.jsonl", "u.jsonl line 1")
    assert capsys.readouterr().err == "t.jsonl: ignored: a\nt.jsonl: ignored: b\nu.jsonl: ignored: a\n"
