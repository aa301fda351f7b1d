"""Vocabularies of other toolboxes: the tokenizer.json of the ``tokenizers`` library, as BERT or BART have it."""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

from alp_jax.core.errors import UserError
from alp_jax.core.files import read_json
from alp_jax.data.tokenizer import Tokenizer

FILE_NAME, CONFIG_NAME = "tokenizer.json", "tokenizer_config.json"
# Where the special tokens of a tokenizer.json are named, in the order in which they are looked for.
_ROLE_FILES = (CONFIG_NAME, "special_tokens_map.json")
# BERT has no tokens for the begin and the end of a text but those of its classifier, and uses them in their place.
_ROLES = {
    "pad": ("pad_token",),
    "bos": ("bos_token", "cls_token"),
    "eos": ("eos_token", "sep_token"),
    "mask": ("mask_token",),
}
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def read_roles(folder: str | os.PathLike) -> dict[str, str]:
    """Special tokens by their names in tokenizer_config.json, or in special_tokens_map.json where that is absent.

    Raises:
      UserError: neither file is in ``folder``, or it is damaged.
    """
    for name in _ROLE_FILES:
        path = pathlib.Path(folder) / name
        if path.exists():
            values = read_json(path, "tokenizer settings")
            if not isinstance(values, dict):
                raise UserError(f"tokenizer settings {path} are no JSON object")
            found = {name: _content(values.get(name)) for name in _NAMES}
            return {name: token for name, token in found.items() if token}
    raise UserError(f"{folder} has no {' and no '.join(_ROLE_FILES)}, so the tokenizer's special tokens are unknown")


def _content(value: Any) -> str:
    """A token is written as text or as an object with its ``content``."""
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else ""


class JsonTokenizer(Tokenizer):
    """A tokenizer.json with the names of its special tokens.

    Args:
      data: content of the file.
      roles: special tokens by name, see ``read_roles``.

    Raises:
      UserError: ``tokenizers`` is not installed, the file is damaged, or a special token is missing.
    """

    def __init__(self, data: bytes, roles: dict[str, str], name: str = "tokenizer"):
        try:
            import tokenizers
        except ImportError:
            raise UserError(f"{name} needs the package tokenizers: pip install 'alp_jax[hf]'") from None
        self._data, self._roles, self._name = data, roles, name
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(data.decode())
        except Exception as error:  # the library raises nothing more specific
            raise UserError(f"{name} is no tokenizer.json: {error}") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # a caption that spells a special token is text
        self.pad_id, self.bos_id, self.eos_id, self.mask_id = (self._id(role) for role in _ROLES)
        self.vocab_size = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())
        self.sha256 = hashlib.sha256(data + json.dumps(roles, sort_keys=True).encode()).hexdigest()

    def __reduce__(self):
        return JsonTokenizer, (self._data, self._roles, self._name)

    def _id(self, role: str) -> int:
        token = next((self._roles[name] for name in _ROLES[role] if name in self._roles), None)
        number = None if token is None else self._tokenizer.token_to_id(token)
        if number is None:
            wanted = " or ".join(_ROLES[role])
            raise UserError(f"{self._name} has no {wanted} ({_ROLE_FILES[0]} names {token!r})")
        return number

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def wrapped(self, text: str) -> list[int]:
        """Token ids with the special tokens that the tokenizer itself puts around a text."""
        return self._tokenizer.encode(text).ids

    def decode(self, ids: Iterable[int]) -> str:
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=True)

    def definition(self) -> dict[str, Any]:
        return json.loads(self._data)

    def roles(self) -> dict[str, str]:
        return dict(self._roles)
