"""Vocabularies of other toolboxes, and ours written for them: the same ids on every text that a caption could be."""

import json
import pickle
import random
import unicodedata

import pytest

from alp_jax.core.errors import UserError
from alp_jax.data.text import portable, training
from alp_jax.data.text.json_tokenizer import JsonTokenizer, read_roles, with_caption_tokens
from alp_jax.data.text.open import open_tokenizer

tokenizers = pytest.importorskip("tokenizers")

SUBJECTS = ("a dog", "two women", "the old piano", "heavy rain", "an engine", "children", "crickets", "a crowd", "wind")
VERBS = ("barks", "talk", "plays", "falls", "idles", "are laughing", "chirp", "cheers", "whistles a tune", "blows")
PLACES = ("in the distance", "near a road", "with echo", "at 3 pm", "softly, then loudly", "in the caf\u00e9")
CAPTIONS = [f"{subject} {verb} {place}." for subject in SUBJECTS for verb in VERBS for place in PLACES]
BERT = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]", "unk_token": "[UNK]"}


@pytest.fixture(scope="module", params=training.VOCABULARY_KINDS)
def ours(request, tmp_path_factory):
    return training.train(CAPTIONS, tmp_path_factory.mktemp("vocabulary") / "tokenizer.model", 320, request.param)


@pytest.fixture(scope="module")
def theirs(ours):
    made = portable.portable_tokenizer(ours, CAPTIONS)
    assert (made.compared, made.differ, made.example) == (len(CAPTIONS) + len(portable.PROBES), 0, "")
    return JsonTokenizer(made.files["tokenizer.json"], ours.roles())


def bert(words=("dog", "bark", "##s", "a"), template=True):
    """A WordPiece tokenizer as BERT has it."""
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    if template:
        made.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.enable_truncation(4)
    made.enable_padding(length=8)
    return made.to_str()


def texts(lowest, highest, length=10, count=400, form=None):
    rng = random.Random(lowest)
    kept = [c for c in map(chr, range(lowest, highest)) if unicodedata.category(c)[0] not in "CM"]
    made = ["".join(rng.choice(kept) for _ in range(length)) for _ in range(count)]
    return [unicodedata.normalize(form, text) for text in made] if form else made


@pytest.mark.parametrize(
    "texts",
    [
        [caption.upper() for caption in CAPTIONS[::3]],
        ["  " + caption.replace(" ", "   ") + "\n" for caption in CAPTIONS[::9]],
        [" ".join(reversed(caption)) for caption in CAPTIONS[::9]],
        [chr(c) for c in range(1, 128) if c != ord("<")],
        texts(0x20, 0x250),
        texts(0x20, 0x130, form="NFD"),
        texts(0x1E00, 0x1F00, form="NFD"),
        texts(0x370, 0x530, form="NFD"),
        texts(0x2000, 0x2C00),
        texts(0x3040, 0xA000),
        texts(0xAC00, 0xD7A4, form="NFD"),
        texts(0xFF01, 0xFFA0),
        texts(0x1F300, 0x1FA00),
    ],
)
def test_our_vocabulary_gives_the_same_ids_in_the_other_library(ours, theirs, texts):
    for text in texts:
        assert theirs.encode(text) == ours.encode(text), ascii(text)
        assert theirs.decode(theirs.encode(text)) == ours.decode(ours.encode(text)), ascii(text)


def test_special_tokens_of_our_vocabulary_keep_their_places(ours, theirs):
    for name in ("vocab_size", "pad_id", "bos_id", "eos_id", "mask_id"):
        assert getattr(theirs, name) == getattr(ours, name), name
    ids = ours.encode("a dog barks")
    assert theirs.wrapped("a dog barks") == [ours.bos_id, *ids, ours.eos_id]
    assert theirs.decode([ours.bos_id, *ids, ours.eos_id, ours.pad_id, ours.mask_id]) == "a dog barks"


def test_other_ids_are_refused_and_a_rare_tie_is_told(ours, monkeypatch):
    encode = JsonTokenizer.encode
    wrong = set(CAPTIONS[:1])
    monkeypatch.setattr(JsonTokenizer, "encode", lambda self, text: encode(self, text) + [5] * (text in wrong))
    with pytest.raises(UserError, match=r"encodes 1 of 540 captions differently.* 'a dog barks in the distance.'"):
        portable.portable_tokenizer(ours, CAPTIONS)
    made = portable.portable_tokenizer(ours, CAPTIONS * 2 + ["x"] * 920)
    assert (made.differ, made.example) == (2, CAPTIONS[0])
    wrong.add(portable.PROBES[3])
    with pytest.raises(UserError, match="differently from the run's tokenizer"):
        portable.portable_tokenizer(ours, [])


def test_unused_ids_fill_the_rows_of_a_decoder(ours):
    made = portable.portable_tokenizer(ours, CAPTIONS[:5], rows=330)
    back = JsonTokenizer(made.files["tokenizer.json"], ours.roles())
    assert back.vocab_size == 330
    assert back.encode("rain") == ours.encode("rain")
    with pytest.raises(UserError, match="320 tokens, more than the 319 of the model"):
        portable.portable_tokenizer(ours, [], rows=319)


def test_the_settings_name_a_class_and_every_role(ours):
    settings = json.loads(portable.portable_tokenizer(ours, []).files["tokenizer_config.json"])
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    roles = {"bos": "<s>", "eos": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    assert {name: settings[f"{name}_token"] for name in roles} == roles


def test_a_bert_vocabulary_is_read_from_its_folder(tmp_path):
    (tmp_path / "tokenizer.json").write_text(bert())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**BERT, "mask_token": {"content": "[MASK]"}}))
    read = open_tokenizer(tmp_path / "tokenizer.json")
    assert (read.pad_id, read.bos_id, read.eos_id, read.mask_id, read.vocab_size) == (0, 2, 3, 4, 9)
    long = "Dog dogs barks a dog a dog"
    assert read.encode(long) == [5, 5, 7, 6, 7, 8, 5, 8, 5]  # neither cut nor padded as the file would have it
    assert read.encode("dog") == [5]
    assert read.wrapped(long) == [2, *read.encode(long), 3]
    assert read.decode([2, 8, 5, 3, 0]) == "a dog"
    assert 4 not in read.encode("a [MASK]")
    copy = pickle.loads(pickle.dumps(read))
    assert copy.encode(long) == read.encode(long)
    assert copy.sha256 == read.sha256
    roles = {"bos_token": "[CLS]", "eos_token": "[SEP]", **BERT}
    assert read.roles() == roles
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 512}')  # names nothing, as BERT's own does
    named_by_spelling = open_tokenizer(tmp_path / "tokenizer.json")
    assert (named_by_spelling.pad_id, named_by_spelling.bos_id, named_by_spelling.eos_id) == (0, 2, 3)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({**BERT, "mask_token": "a"}))
    other = open_tokenizer(tmp_path / "tokenizer.json")
    assert other.mask_id == 8
    assert other.sha256 != read.sha256


def test_a_caption_model_adds_the_tokens_that_a_vocabulary_lacks():
    plain = JsonTokenizer(bert().encode(), BERT)
    made = JsonTokenizer(*with_caption_tokens(bert().encode(), BERT, "x"))
    assert (made.bos_id, made.eos_id, made.pad_id, made.mask_id, made.vocab_size) == (9, 10, 0, 4, 11)
    assert made.roles() == {**BERT, "bos_token": "<s>", "eos_token": "</s>"}
    assert made.encode("a dog") == plain.encode("a dog")
    assert made.decode([9, 8, 5, 10]) == "a dog"
    again = with_caption_tokens(json.dumps(made.definition()).encode(), made.roles(), "x")
    assert JsonTokenizer(*again).vocab_size == 11


def test_a_panic_of_the_library_is_one_line_too(ours):
    definition = ours.definition()
    table = next(step for step in definition["normalizer"]["normalizers"] if step["type"] == "Precompiled")
    table["precompiled_charsmap"] = "x"
    with pytest.raises(UserError, match=r"x is not a tokenizer.json: [^\n]*$"):
        JsonTokenizer(json.dumps(definition).encode(), ours.roles(), "x")


def test_what_is_missing_or_damaged_is_one_line(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(UserError, match=r"tokenizer.json: No such file"):
        open_tokenizer(path)
    path.write_text(bert().replace("[CLS]", "[BEGIN]"))
    with pytest.raises(UserError, match=r"has no bos token: name one in tokenizer_config.json"):
        open_tokenizer(path)
    path.write_text(bert())
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text("[]")
    with pytest.raises(UserError, match="are not a JSON object"):
        open_tokenizer(path)
    settings.write_text(json.dumps({**BERT, "mask_token": "[MSK]"}))
    with pytest.raises(UserError, match=r"has no \[MSK\] token"):
        open_tokenizer(path)
    settings.write_text(json.dumps(BERT))
    for text in ("", "{}", "[]", bert()[:-2], bert().replace("WordPiece", "Wordpiece")):
        path.write_text(text)
        with pytest.raises(UserError, match=r"tokenizer.json is not a tokenizer.json: [^\n]*$"):
            open_tokenizer(path)
    path.write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"is not a tokenizer\.json"):
        open_tokenizer(path)
    assert read_roles(tmp_path) == BERT
