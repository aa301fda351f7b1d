"""Artefacts: every kind is found in what generators leave behind, and none in what people write."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alp_jax.data.text.artefacts import ARTEFACTS, find, loops

FOUND = {
    "refusal": [
        "I'm sorry, but I can't assist with that.",
        "I am unable to determine the sound from the tags",
        "Unfortunately, there is no information about the audio",
        "I cannot provide a caption",
    ],
    "self_reference": ["As an AI language model, I have no ears", "I\u2019m an AI assistant", "Written by ChatGPT"],
    "chat_reply": ["Sure, here is a caption: a dog barks", "Here's a possible description of it", "Certainly! A dog"],
    "label": ["Caption: a dog barks", "**Audio Caption:** rain", "A dog barks.\nAnswer: yes", "Caption 1: wind"],
    "prompt": [
        "Based on the given tags, a dog barks",
        "A bell, as described in the caption",
        "a bell in one sentence",
        "Birds sing, from the provided information",
    ],
    "placeholder": ["N/A", "none.", "No sounds available", "A {sound} is heard", "[insert name] speaks", "No caption"],
    "markup": ["**A dog** barks", "- a dog barks", "1. a dog", "a dog &amp; a cat", "see https://x.org", "<b>dog</b>"],
    "wrapped": ['"A dog barks."', "\u201cRain falls\u201d"],
    "printed_list": ["['a dog barks', 'a man speaks']", '["x", "y"]', "['a'\n 'b']", "('a dog',)"],
    "cut_off": ["A dog barks and", "Rain falls on the", "Birds sing,", "The engine of a "],
    "wrong_encoding": ["caf\u00c3\u00a9 noise", "a dog\ufffd barks", "it\u00e2\u20ac\u2122s raining", "dog\u200b"],
    "audio_contains": [
        "The audio contains a dog",
        "This recording features a piano",
        "This is a sound of rain",
        "In the audio clip, a man speaks",
        "It is a recording of wind",
    ],
    "interpretation": ["Bells ring, suggesting a wedding", "Strings play, creating a serene atmosphere"],
    "unsure": ["possibly a dog", "It is difficult to tell what is said", "a motor, likely a boat"],
    "listener": ["You can hear a dog", "we hear rain", "the listener may notice a hum"],
}
HUMAN = [
    "A woman talks nearby as water pours",
    "Constant rattling noise and sharp vibrations",
    'A man says "here is the dog" and laughs',
    "A dog that is being played with",
    "A sure-footed horse trots over okay ground",
    "Someone describes a caption competition, 3:45 pm",
    "the sound of rain gets louder. Then it stops",
    "A certain bird answers another bird",
    "Ducks quack, then a quack quack quack",
    "A test tone, then noise at -3 dB and 4/4 time",
    "A man cannot be quiet",
    "[music] plays (loudly)",
    "('ding') he says, and rings ('dong')  twice",
    "Caf\u00e9 chatter with \u201cgood morning\u201d in the middle",
]


@pytest.mark.parametrize("name", [name for name in ARTEFACTS if name != "word_loop"])
def test_every_kind_is_found(name):
    captions = FOUND[name]
    assert {position for position, found in find(captions) if found == name} == set(range(len(captions)))


def test_captions_that_people_write_have_none():
    assert [(HUMAN[position], name) for position, name in find(HUMAN)] == []


def test_kinds_are_told_apart_and_positions_are_right():
    captions = ["a dog barks", "Sure, here is the caption: rain,", "rain"]
    assert {(1, "chat_reply"), (1, "cut_off")} <= set(find(captions))
    assert {position for position, _ in find(captions)} == {1}
    assert list(find([])) == []


def slow_loops(captions):
    """By trying every stretch of every caption."""
    found = []
    for number, words in enumerate(captions):
        stretches = ((i, n) for n in range(1, 5) for i in range(len(words) - 4 * n + 1))
        if any(words[i : i + n] * 4 == words[i : i + 4 * n] for i, n in stretches):
            found.append(number)
    return found


@given(st.lists(st.lists(st.integers(0, 1), max_size=18), max_size=4))
def test_loops_are_those_of_trying_every_stretch(captions):
    words = np.array([word for words in captions for word in words], np.int64)
    owner = np.repeat(np.arange(len(captions)), [len(words) for words in captions]).astype(np.int64)
    assert loops(words, owner).tolist() == slow_loops(captions)
