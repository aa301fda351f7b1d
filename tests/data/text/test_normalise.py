"""Caption clean-up against what the reference's recipes make of the same captions."""

import pytest

from alp_jax.core.errors import UserError
from alp_jax.data.text.normalise import clean

# caption, clap, audio_caption: recorded from the reference
RECORDED = [
    ("A Dog barks , twice !", "a dog barks twice ", "a dog barks twice "),
    (
        'Rain  falls (softly); then: "thunder" .',
        "rain falls softly  then  thunder ",
        "rain falls softly  then  thunder ",
    ),
    ("He said *wow* | loudly?", "he said wow  loudly ", "he said *wow*  loudly "),
    ("  two   spaces .  ", " two spaces ", " two spaces "),
    ("a.b,c!d", "a b c d", "a b c d"),
    ("It's 3:45 pm.", "it's 3 45 pm ", "it's 3 45 pm "),
]


@pytest.mark.parametrize(("caption", "clap", "audio_caption"), RECORDED)
def test_recorded_captions(caption, clap, audio_caption):
    assert clean(caption, "clap") == clap
    assert clean(caption, "audio_caption") == audio_caption
    assert clean(caption, "none") == caption


def test_white_space_after_a_mark_is_seen_once():
    """Of three spaced marks in a row the second keeps its space, one more than if white space could be seen twice."""
    assert clean("a . . . b", "clap") == "a   b"
    assert clean("a\t. b", "clap") == "a b"


def test_an_unknown_recipe_is_named():
    with pytest.raises(UserError, match=r"text_clean 'clpa' \(did you mean 'clap'"):
        clean("a dog", "clpa")
