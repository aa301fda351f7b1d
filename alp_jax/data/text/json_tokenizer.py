"""Vocabularies made elsewhere: the tokenizer.json of the ``tokenizers`` library, which BERT and BART come with."""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json
from alp_jax.data.text.tokenizer import Tokenizer, added_token

if TYPE_CHECKING:
    import tokenizers

FILE_NAME, CONFIG_NAME = "tokenizer.json", "tokenizer_config.json"
# The reference's caption models fill these roles so where a tokenizer leaves them empty: with the first spelling in the
# vocabulary, else by adding the last one.
_CAPTION_TOKENS = {
    "bos_token": ("<s>",),
    "eos_token": ("</s>",),
    "pad_token": ("[PAD]", "<pad>"),
    "mask_token": ("[MASK]", "<mask>"),
}
# The files that name the special tokens of a tokenizer.json; an earlier one takes precedence.
_ROLE_FILES = (CONFIG_NAME, "special_tokens_map.json")
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# How each role is found: by name or, since many files name nothing, by how BERT, RoBERTa and BART spell the token. BERT
# has no tokens for the beginning and the end of a text other than those of its classifier.
_ROLES = {
    "pad": (("pad_token",), ("[PAD]", "<pad>")),
    "bos": (("bos_token", "cls_token"), ("[CLS]", "<s>")),
    "eos": (("eos_token", "sep_token"), ("[SEP]", "</s>")),
    "mask": (("mask_token",), ("[MASK]", "<mask>")),
}


def read_roles(folder: str | os.PathLike) -> dict[str, str]:
    """The special tokens that tokenizer_config.json and special_tokens_map.json name: role name -> token.

    Raises:
      UserError: one of the files is damaged.
    """
    roles = {}
    for file in _ROLE_FILES:
        path = pathlib.Path(folder) / file
        values = read_json(path, "tokenizer settings") if path.exists() else {}
        if not isinstance(values, dict):
            raise UserError(f"tokenizer settings {path} are not a JSON object")
        contents = {name: _content(values.get(name)) for name in _NAMES}
        roles = {name: token for name, token in contents.items() if token} | roles
    return roles


def read_tokenizer(folder: str | os.PathLike, *, captioning: bool = False) -> "JsonTokenizer":
    """The tokenizer of a model folder.

    Args:
      captioning: add what the reference's caption models add to a vocabulary, see ``with_caption_tokens``.

    Raises:
      UserError: as ``JsonTokenizer``.
    """
    path = pathlib.Path(folder) / FILE_NAME
    data, roles = path.read_bytes(), read_roles(folder)
    if captioning:
        data, roles = with_caption_tokens(data, roles, f"tokenizer {path}")
    return JsonTokenizer(data, roles, f"tokenizer {path}")


def with_caption_tokens(data: bytes, roles: dict[str, str], name: str) -> tuple[bytes, dict[str, str]]:
    """Gives a tokenizer.json and its roles begin, end, padding and mask tokens; new ones end the vocabulary.

    A classifier's tokens, which ``JsonTokenizer`` accepts as begin and end, do not count here.
    """
    vocabulary = _load(data, name).get_vocab(with_added_tokens=True)
    definition, roles = json.loads(data), dict(roles)
    for role, spellings in _CAPTION_TOKENS.items():
        if role in roles:
            continue
        roles[role] = next((token for token in spellings if token in vocabulary), spellings[-1])
        if roles[role] not in vocabulary:
            vocabulary[roles[role]] = 1 + max(vocabulary.values(), default=-1)
            definition.setdefault("added_tokens", []).append(added_token(vocabulary[roles[role]], roles[role]))
    return json.dumps(definition, ensure_ascii=False).encode(), roles


def _load(data: bytes, name: str) -> "tokenizers.Tokenizer":
    try:
        import tokenizers
    except ImportError:
        raise UserError(f"{name} needs the package tokenizers: pip install 'alp_jax[hf]'") from None
    try:
        return tokenizers.Tokenizer.from_str(data.decode())
    except BaseException as error:  # the library raises nothing more specific, and its panics derive from BaseException
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise UserError(f"{name} is not a tokenizer.json: {' '.join(str(error).split())}") from None


def _content(value: Any) -> str:
    """The token in ``value``, which is text or an object with the text as its ``content``; "" for anything else."""
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else ""


def settings(roles: dict[str, str]) -> bytes:
    """A tokenizer_config.json. It names the class, or transformers would guess a wrong one from config.json."""
    named = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **roles}
    return json.dumps(named, ensure_ascii=False, indent=1, sort_keys=True).encode()


class JsonTokenizer(Tokenizer):
    """A tokenizer.json with the names of its special tokens.

    Args:
      data: content of the file.
      roles: special tokens by name, see ``read_roles``.

    Raises:
      UserError: ``tokenizers`` is not installed, the file is damaged, or a special token is missing.
    """

    def __init__(self, data: bytes, roles: dict[str, str], name: str = "tokenizer"):
        self._data, self._roles, self._name = data, roles, name
        self._tokenizer = _load(data, name)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # a caption that spells a special token is text
        special = {role: self._special(role) for role in _ROLES}
        self.pad_id, self.bos_id, self.eos_id, self.mask_id = map(self._tokenizer.token_to_id, special.values())
        self._roles = {f"{role}_token": token for role, token in special.items()} | roles
        self.vocab_size = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())
        self.sha256 = hashlib.sha256(data + json.dumps(special, sort_keys=True).encode()).hexdigest()

    def __reduce__(self):
        return JsonTokenizer, (self._data, self._roles, self._name)

    def _special(self, role: str) -> str:
        names, spellings = _ROLES[role]
        named = [self._roles[name] for name in names if name in self._roles]
        token = next((t for t in named or spellings if self._tokenizer.token_to_id(t) is not None), None)
        if token is None:
            raise UserError(f"{self._name} has no {named[0] if named else role} token: name one in {CONFIG_NAME}")
        return token

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def wrapped(self, text: str) -> list[int]:
        """Token ids including the special tokens that the tokenizer itself puts around a text."""
        return self._tokenizer.encode(text).ids

    def check_wrapping(self) -> None:
        """Raises UserError unless the tokenizer puts a text between its begin and end tokens, as training does."""
        text = "a dog barks"
        wanted = [self.bos_id, *self.encode(text), self.eos_id]
        if self.wrapped(text) != wanted:
            raise UserError(f"{self._name} turns {text!r} into {self.wrapped(text)}; only {wanted} could be reproduced")

    def files(self) -> dict[str, bytes]:
        """tokenizer.json and the tokenizer_config.json that names its special tokens."""
        return {FILE_NAME: self._data, CONFIG_NAME: settings(self._roles)}

    def decode(self, ids: Iterable[int]) -> str:
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=True)

    def definition(self) -> dict[str, Any]:
        return json.loads(self._data)

    def roles(self) -> dict[str, str]:
        return dict(self._roles)
