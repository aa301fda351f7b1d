"""Grammar, captions, event names and splits as pure functions."""

import itertools
import pathlib

import pytest

from alp_jax.corpora.captioned.mini import captions, events, music, splits
from alp_jax.corpora.captioned.mini.asterisk import transcripts
from alp_jax.corpora.captioned.mini.captions import expand, slots, tidy
from alp_jax.corpora.captioned.mini.drums import classify as drum_class
from alp_jax.corpora.captioned.mini.drums import spaced
from alp_jax.corpora.captioned.mini.item import Item, table


def item(group="g", policy="train", kind="sound", **more):
    facts = more.pop("facts", {"subject": "dog"})
    base = {"package": "p", "relpath": "a.wav", "path": pathlib.Path("a.wav"), "source": "s", "tags": ("dog", "bark")}
    return Item(**base, kind=kind, group=group, policy=policy, facts=facts, **more)


def test_grammar_uses_only_templates_whose_facts_are_known():
    templates = ("a {animal} barks", "{missing} and {animal}", "{empty}")
    forms = {expand(templates, {"animal": "owl", "empty": ""}, str(i)) for i in range(20)}
    assert forms == {"An owl barks"}
    assert expand(("{x}",), {}, "k") == ""


def test_grammar_nests_varies_and_repeats_itself_for_the_same_key():
    template = ("[one|two [red|blue]|] {thing}s",)
    forms = [expand(template, {"thing": "car"}, str(i)) for i in range(60)]
    assert set(forms) == {"One cars", "Two red cars", "Two blue cars", "Cars"}
    assert forms == [expand(template, {"thing": "car"}, str(i)) for i in range(60)]


@pytest.mark.parametrize(
    ("text", "tidied"),
    [
        ("a  owl , a dog", "An owl, a dog"),
        ('a "empty" a unicycle', 'An "empty" a unicycle'),
        ("is it a {English} word", "Is it a {English} word"),
        ('says "hello.".', 'Says "hello."'),
    ],
)
def test_tidy(text, tidied):
    assert tidy(text) == tidied


def test_captions_have_the_persons_words_first_and_no_repeats():
    texts = captions.make(item(human="A  dog  barks"), "id")
    assert texts[:2] == ("A dog barks", "dog, bark")
    again = captions.make(item(human="Dog, bark."), "id")
    assert sum(text.lower().strip(".") == "dog, bark" for text in again) == 1
    assert again[0] == "Dog, bark."


def test_every_template_names_facts_that_a_parser_gives():
    known = {
        "speech": "voice language style text gloss unit syllable tone",
        "sound": "subject event event_noun context",
        "drum": "drum kit played name",
        "music": "style purpose artist title track_length part loop",
    }
    for kind, names in known.items():
        for template in (*table("captions")["attributes"][kind], *table("captions")["paraphrase"][kind]):
            assert slots(template) <= {*names.split(), "length", "channel"}, template


@pytest.mark.parametrize(
    ("name", "words", "label"),
    [
        ("LRBark_1_LA_cut", "bark", "animal"),
        ("breakglass02", "break glass", "glass"),
        ("femaledeath01", "woman dying", "human_voice"),
        ("steam_train", "steam train", "vehicle"),
        ("growl", "growl", "monster"),
        ("paper_airplane", "paper airplane", ""),
        ("reload-shotgun", "reload shotgun", "reload"),
        ("xyzzy", "xyzzy", ""),
    ],
)
def test_event_names(name, words, label):
    assert events.readable(events.words_of(name)) == words
    assert events.classify(events.words_of(name)) == label


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("HatClosed-Hard", "hihat"),
        ("808_Kick_Long", "kick"),
        ("bassdrum_acoustic01", "kick"),
        ("drum_cymbal_closed", "hihat"),
        ("SnareRimshot-Soft", "snare"),
        ("24Ride-1", "cymbal"),
        ("drum_cowbell", "cowbell"),
        ("tabla_ghe1", "hand_drum"),
        ("zap01", ""),
    ],
)
def test_drum_names(name, label):
    assert drum_class(spaced(name)) == label


@pytest.mark.parametrize(
    ("seconds", "starts"),
    [(7.0, [0.0]), (10.0, [0.0]), (29.9, [0.0, 10.0]), (120.0, [10.0 * i for i in range(12)])],
)
def test_segments(seconds, starts):
    assert music.segments(seconds) == starts


def test_long_tracks_are_covered_from_start_to_end():
    starts = music.segments(1000.0)
    assert (len(starts), starts[0], starts[-1]) == (12, 0.0, 990.0)
    assert min(b - a for a, b in itertools.pairwise(starts)) >= 10.0


def test_rank_policy_is_exact_and_hash_policy_does_not_move_others():
    tracks = [item(f"t{i}", "rank:album:20:10") for i in range(10)]
    found = sorted(splits.assign(tracks).values())
    assert found == ["test"] * 2 + ["train"] * 7 + ["valid"]
    many = [item(f"g{i}", "hash:20:5") for i in range(1000)]
    first, both = splits.assign(many), splits.assign([*many, item("other", "hash:20:5")])
    assert {group: both[group] for group in first} == first
    shares = [list(first.values()).count(name) for name in ("test", "valid")]
    assert 160 < shares[0] < 240
    assert 25 < shares[1] < 80
    assert splits.assign([item("only", "rank:x:20:4")]) == {"only": "train"}


def test_a_group_has_one_policy():
    with pytest.raises(ValueError, match="group g asks for train and test"):
        splits.assign([item(policy="train"), item(policy="test")])


def test_labels_need_training_and_test_clips():
    def labelled(group, label, count):
        return [item(group, group, labels={"t": label}) for _ in range(count)]

    items = labelled("train", "kept", 8) + labelled("test", "kept", 4)
    items += labelled("train", "no test", 8) + labelled("train", "few", 7) + labelled("test", "few", 4)
    assert splits.kept_labels(items, {"train": "train", "test": "test"}) == {("t", "kept")}


def test_transcripts():
    assert transcripts("; head: x\n\na/b: Press:  one\nc:\n") == {"a/b": "Press: one"}
