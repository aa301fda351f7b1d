"""Vocabularies: the same bytes from the same captions in any order, and what sentencepiece itself makes of them."""

import io
import itertools
import random

import pytest
import sentencepiece

from alp_jax.core.errors import UserError
from alp_jax.data.text import training
from alp_jax.data.text.sentencepiece import NORMALIZATION

NOUNS = ("dog", "cat", "rain", "engine", "piano", "crowd", "church bell", "caf\u00e9", "thunder", "train")
VERBS = ("barks", "purrs", "falls", "idles", "plays", "cheers", "rings", "is loud", "rolls", "passes")
PLACES = ("nearby", "in the distance", "ON A ROOF", "with echo,", "softly.", "at 3 pm")
CAPTIONS = [f"A {noun} {verb} {place}" for noun, verb, place in itertools.product(NOUNS, VERBS, PLACES)]


@pytest.mark.parametrize("kind", training.VOCABULARY_KINDS)
def test_equal_captions_in_any_order_give_equal_bytes(kind, tmp_path):
    shuffled = random.Random(0).sample(CAPTIONS, len(CAPTIONS))
    for name, captions in (("a", CAPTIONS), ("b", iter(shuffled)), ("c", CAPTIONS[:-1])):
        training.train(captions, tmp_path / name, 310, kind)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize("kind", training.VOCABULARY_KINDS)
def test_texts_come_back_normalised_and_special_ids_are_fixed(kind, tmp_path):
    made = training.train(CAPTIONS, tmp_path / "t.model", 310, kind)
    assert (made.pad_id, made.bos_id, made.eos_id, made.unk_id, made.mask_id) == (0, 1, 2, 3, 4)
    assert made.vocab_size == 310
    for text in ("A Dog BARKS <mask> \u72ac", "ﬁne  caf\u00e9", "<s> </s> <pad>"):
        ids = made.encode(text)
        assert not set(range(5)) & set(ids)
        assert made.decode([1, *ids, 2, 0]) == " ".join(text.replace("ﬁ", "fi").lower().split())


def pieces(model):
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model)
    return [(processor.IdToPiece(i), processor.GetScore(i)) for i in range(processor.GetPieceSize())]


def test_bpe_of_words_is_bpe_of_captions(tmp_path):
    """What is trained on counted words is what sentencepiece trains on the captions."""
    training.train(CAPTIONS, tmp_path / "t.model", 400, "bpe")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(CAPTIONS),
        model_writer=model,
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        character_coverage=0.9998,
        normalization_rule_name=NORMALIZATION,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        control_symbols=["<mask>"],
        minloglevel=2,
    )
    assert pieces((tmp_path / "t.model").read_bytes()) == pieces(model.getvalue())


def test_words_are_counted_as_written_and_the_rarest_are_forgotten_first():
    assert training.count_words(["a  Dog\tbarks\n", "a dog\u00a0barks"]) == {"a": 2, "Dog": 1, "barks": 2, "dog": 1}
    rare = (f"word{i}" for i in range(100))
    kept = training.count_words((f"the the bell {word}" for word in rare), most=20)
    assert (kept["the"], kept["bell"]) == (200, 100)
    assert len(kept) <= 20


def test_what_does_not_fit_is_named(tmp_path):
    out = tmp_path / "t.model"
    with pytest.raises(UserError, match="9 is too small"):
        training.train(CAPTIONS, out, 9)
    with pytest.raises(UserError, match="no captions"):
        training.train([], out, 300)
    with pytest.raises(UserError, match=r"kind 'bep'.*bpe"):
        training.train(CAPTIONS, out, 300, "bep")
    assert not out.exists()


@pytest.mark.parametrize("kind", training.VOCABULARY_KINDS)
@pytest.mark.parametrize("captions", [["a dog barks"], CAPTIONS[:60], ["\u72ac\u304c\u5420\u3048\u308b"]])
def test_a_size_above_what_the_captions_carry_is_clamped_to_it(captions, kind, tmp_path):
    made = [training.train(captions, tmp_path / f"{size}.model", size, kind) for size in (None, 50_000)]
    carried = made[0].vocab_size
    assert [one.vocab_size for one in made] == [carried, carried]
    assert 5 + 256 < carried < 600
    assert (tmp_path / "None.model").read_bytes() == (tmp_path / "50000.model").read_bytes()
    again = training.train(captions, tmp_path / "again.model", carried, kind)
    assert again.sha256 == made[0].sha256


def test_the_default_size_makes_room_for_many_characters(tmp_path):
    captions = ["".join(chr(0x4E00 + 5 * i + j) for j in range(5)) for i in range(500)]
    with pytest.raises(UserError, match="2000 is too small: bytes, characters and special tokens alone need 276"):
        training.train(captions, tmp_path / "t.model", 2000)
    assert training.train(captions, tmp_path / "t.model", None, "bpe").vocab_size > 2761
