"""Cells: what says nothing, and lists that were printed into text."""

import json

import pytest

from alp_jax.corpora.captioned.folder.cells import empty, listed, printed_list
from alp_jax.corpora.rows import BadRow


@pytest.mark.parametrize("value", [None, float("nan"), "", "  ", "nan", "NaN", "NULL", "null", "None", "<NA>", "N/A"])
def test_empty(value):
    assert empty(value)


@pytest.mark.parametrize("value", [0, 0.0, False, "none of it", "nano", "a"])
def test_not_empty(value):
    assert not empty(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("['a dog barks', 'a man speaks']", ["a dog barks", "a man speaks"]),
        ('["x", "y"]', ["x", "y"]),
        ("['a dog barks' 'a man speaks']", ["a dog barks", "a man speaks"]),  # numpy prints no commas
        ("['a dog barks'\n 'a man speaks']", ["a dog barks", "a man speaks"]),
        ("array(['a', \"it's b\"], dtype=object)", ["a", "it's b"]),
        ("('a', 'b')", ["a", "b"]),
        (" ['it\\'s', \"a [b], c\",] ", ["it's", "a [b], c"]),
        ('["a", null, NaN]', ["a"]),
        ("[None, 'a']", ["a"]),
        ("(None)", None),
        ("['caf\u00e9', '\\u00e9']", ["caf\u00e9", "\u00e9"]),
        ("[]", []),
        ("[nan]", []),
        ("[music] plays", None),
        ("[music]", None),
        ("[1, 2]", None),
        ("(a man) speaks (loudly)", None),
        ("()", None),
        ("'a', 'b'", None),
        ("['a'.upper()]", None),
        ("[f'{x}']", None),
        (json.dumps(["a dog \U0001f600 barks", "b"]), ["a dog \U0001f600 barks", "b"]),
        ('["rain \\/ wind", NaN, null]', ["rain / wind"]),
        ('("Hello" and "Goodbye")', None),
        ('("Hello", "Hi" and "Goodbye")', None),
        ('["Hi!" he said. "Bye!"]', None),
        ('["Hi!" he said.]', None),
        ("['Hi!' she said, 'Bye!']", None),
    ],
)
def test_printed_lists(text, expected):
    assert printed_list(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "['a', 'b' ...]",
        "['x'] and ['y']",
        "['it's raining']",
        "['a', ... 'b']",
        "['dogs' toys', 'cats' toys']",
        "[b'a', 'b']",
    ],
)
def test_printed_lists_that_are_damaged_are_no_captions(text):
    if text.startswith("[b"):
        assert printed_list(text) is None
        return
    with pytest.raises(BadRow, match="caption is a printed list that cannot be read"):
        printed_list(text, "caption")


def test_a_cell_of_several_values():
    assert listed("dog; bark ;", "tags", ";") == ["dog", " bark "]
    assert listed("['dog', 'bark']", "tags", ";") == ["dog", "bark"]
    assert listed(["a", None, float("nan"), "nan"], "tags") == ["a"]
    assert listed("a; b", "caption") == ["a; b"]
    assert listed(None, "caption") == []
    assert listed(3, "caption") == [3]
