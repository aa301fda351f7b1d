"""Finds the tokenizer of a data set, and opens one of any kind."""

import hashlib
import os
import pathlib

from alp_jax.config.schema import DataConfig
from alp_jax.core import files, storage
from alp_jax.core.errors import UserError
from alp_jax.core.paths import cache_dir
from alp_jax.data.text.json_tokenizer import JsonTokenizer, read_roles
from alp_jax.data.text.sentencepiece import SentencePiece
from alp_jax.data.text.tokenizer import FILE_NAME, Tokenizer


def open_tokenizer(path: str | os.PathLike) -> Tokenizer:
    """Reads a sentencepiece model or, if the name ends in ``.json``, a tokenizer.json.

    Raises:
      UserError: the file is missing or of another kind, or a tokenizer.json lacks one of the special tokens.
    """
    path = pathlib.Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"tokenizer {path}: {error.strerror}; 'alp tokenizer' trains one") from None
    if path.suffix != ".json":
        return SentencePiece(data, f"tokenizer {path}")
    return JsonTokenizer(data, read_roles(path.parent), f"tokenizer {path}")


def tokenizer_path(dataset_path: storage.Location, config: DataConfig) -> pathlib.Path:
    """The configured model file, or ``tokenizer.model`` in the data set; a remote one is copied to the cache."""
    path = config.tokenizer or storage.join(dataset_path, FILE_NAME)
    if not storage.is_remote(path):
        return storage.local(path)
    try:
        content = storage.read(path)
    except OSError:
        return pathlib.Path(path)  # does not exist: whoever opens it reports that
    copy = cache_dir() / "tokenizers" / hashlib.sha256(content).hexdigest() / path.rpartition("/")[2]
    if not copy.exists():
        files.write_bytes(copy, content)
    return copy
