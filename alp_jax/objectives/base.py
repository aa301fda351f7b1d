"""What an objective is: pure functions before and after the model, and a spec that describes it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from jax.sharding import Mesh

from alp_jax.config.schema import ObjectiveConfig, RunConfig

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
    """Pure functions around the model; ``loss`` is all of them after it.

    ``reduce`` keeps the little of the model's outputs that the loss of a batch depends on, so that a batch can go
    through the model in parts: ``reduce`` each part, join the rows, and ``combine`` them into the same loss.

    Attributes:
      prepare: (batch, key) -> inputs of the model's text side, row by row.
      reduce: (outputs, inputs) -> ``Reduced``.
      combine: (Reduced, inputs, batch) -> (loss, metrics), all scalars over the global batch.
      coupled: see ``ObjectiveSpec``.
    """

    prepare: Callable[[Arrays, Any], Arrays]
    reduce: Callable[[Arrays, Arrays], "Reduced"]
    combine: Callable[["Reduced", Arrays, Arrays], tuple[Any, Arrays]]
    coupled: bool = False

    def loss(self, outputs: Arrays, inputs: Arrays, batch: Arrays) -> tuple[Any, Arrays]:
        """(loss, metrics) of a batch that went through the model whole."""
        return self.combine(self.reduce(outputs, inputs), inputs, batch)


class Reduced(NamedTuple):
    """Outputs as far as the loss needs them: ``rows`` with a leading batch dimension, ``scalars`` of the parameters."""

    rows: Arrays
    scalars: Arrays


def _any_run(config: RunConfig) -> None:
    """Accepts every run."""


@dataclasses.dataclass(frozen=True)
class ObjectiveSpec:
    """One objective.

    Attributes:
      name: in ``config.objective.name``, and that of its entry point if it comes from outside.
      sides: which of ``config.schema.model``'s TEXT, DECODER and TAGGER the model needs besides its encoder. They make
        up the objective's cost.
      make: (settings, special tokens, mesh) -> ``Objective``, whose inputs and outputs are those of
        ``alp_jax.models.dual.AudioTextModel``.
      metrics: settings -> names of what ``combine`` reports besides the loss.
      coupled: whether the gradient of a row depends on the content of other rows, and not at most on their number. If
        so, a batch of one clip teaches nothing.
      check: raises ConfigError for a configuration with which the objective cannot be learnt.
    """

    name: str
    sides: tuple[str, ...]
    make: Callable[[ObjectiveConfig, SpecialTokens, Mesh], Objective]
    metrics: Callable[[ObjectiveConfig], tuple[str, ...]]
    coupled: bool = False
    check: Callable[[RunConfig], None] = _any_run
