"""From a caption to the token ids a model reads; training and evaluation share it."""

from alp_jax.config.schema import DataConfig
from alp_jax.data.text.normalise import clean
from alp_jax.data.text.tokenizer import Tokenizer


def caption_ids(caption: str, tokenizer: Tokenizer, config: DataConfig) -> tuple[list[int], bool]:
    """Ids of the cleaned-up caption without special tokens, at most ``config.text_budget``, and whether it was cut."""
    ids = tokenizer.encode(clean(caption, config.text_clean))
    return ids[: config.text_budget], len(ids) > config.text_budget
