"""What an objective is: a pair of pure functions, before and after the model."""

from collections.abc import Callable
from typing import Any, NamedTuple

Arrays = dict[str, Any]


class SpecialTokens(NamedTuple):
    """Ids of the tokens that objectives put around captions."""

    pad: int
    bos: int
    eos: int
    mask: int

    @classmethod
    def of(cls, tokenizer: Any) -> "SpecialTokens":
        """Those of a ``data.text.tokenizer.Tokenizer``."""
        return cls(tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.mask_id)


class Objective(NamedTuple):
    """``prepare(batch, key) -> inputs`` of the model's text side; ``loss(outputs, inputs, batch) -> (loss, metrics)``.

    The loss is a scalar, already reduced over the global batch; metrics are scalars of float32.
    """

    prepare: Callable[[Arrays, Any], Arrays]
    loss: Callable[[Arrays, Arrays, Arrays], tuple[Any, Arrays]]
