"""The interface of an evaluator: what it is built from and what it has to provide.

A kind of task is one file with one subclass of ``Evaluator``. ``registry`` lists ours and adds those of other
distributions, which name their class as an entry point in the group ``alp_jax.evaluators``; ``suite`` loops over what
it finds. Nothing here decides when evaluation runs.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from alp_jax.config.schema import DataConfig, EvalConfig, FeatureConfig, ModelConfig
from alp_jax.data.store.dataset import Dataset
from alp_jax.data.text.normalise import caption_ids
from alp_jax.data.text.tokenizer import Tokenizer
from alp_jax.evaluation.features import Features
from alp_jax.evaluation.measured import Measured
from alp_jax.evaluation.model import EvalModel
from alp_jax.evaluation.probes.sizes import TaskSize
from alp_jax.evaluation.table import Shortage, Split, Table, read_table
from alp_jax.objectives.base import SpecialTokens

TEXT_BATCH, TEXT_MULTIPLE = 64, 16  # shapes in which captions are embedded
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Setup:
    """A data set, and how encoders are measured on it.

    Attributes:
      data_config: only ``bucket_seconds``, ``text_clean`` and ``text_budget`` are used.
      feature_config: settings of the log-mel frames that floors are computed from.
      model_config: sizes of the text towers and decoders that are trained on frozen frames.
      text_start, decoder_start: initial parameters of those text towers and decoders; None starts at random.
    """

    dataset: Dataset
    tokenizer: Tokenizer
    config: EvalConfig
    data_config: DataConfig
    feature_config: FeatureConfig
    model_config: ModelConfig
    text_start: dict | None = None
    decoder_start: dict | None = None
    _built: dict = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    @functools.cached_property
    def table(self) -> Table:
        """The rows of the data set, read on the first call."""
        return read_table(self.dataset)

    def shared(self, build: Callable[["Setup"], T]) -> T:
        """``build(self)``, computed on the first call and shared by all evaluators that ask for it."""
        if build not in self._built:
            self._built[build] = build(self)
        return self._built[build]

    @property
    def special(self) -> SpecialTokens:
        """The special tokens of the tokenizer."""
        return SpecialTokens.of(self.tokenizer)

    def encode(self, text: str) -> list[int]:
        """Token ids of a caption for a text side that is trained here, without special tokens.

        It is cleaned up as in the model's training, and cut to ``config.lit_tokens``.
        """
        budget = self.config.lit_tokens or self.data_config.text_budget
        return self._ids(text, dataclasses.replace(self.data_config, text_budget=budget))

    def _ids(self, text: str, config: DataConfig) -> list[int]:
        return caption_ids(text, self.tokenizer, config)[0]

    def embed_texts(self, model: EvalModel, texts: list[str]) -> np.ndarray:
        """text_ME of M captions, cut as in the model's training.

        Each distinct caption is embedded once, and all batches have the same shape.
        """
        distinct = sorted(set(texts))
        encoded = [self._ids(text, self.data_config) for text in distinct]
        longest = max(1, *map(len, encoded))
        width = min(self.data_config.text_budget, -(-longest // TEXT_MULTIPLE) * TEXT_MULTIPLE)
        embedded = []
        for start in range(0, len(encoded), TEXT_BATCH):
            text_BL = np.full((TEXT_BATCH, width), self.tokenizer.pad_id, np.int32)
            text_len_B = np.zeros(TEXT_BATCH, np.int32)
            for i, ids in enumerate(encoded[start : start + TEXT_BATCH]):
                text_BL[i, : len(ids)], text_len_B[i] = ids, len(ids)
            embedded.append(np.asarray(model.embed_text(text_BL, text_len_B, self.special), np.float32))
        position = {text: i for i, text in enumerate(distinct)}
        return np.concatenate(embedded)[[position[text] for text in texts]]


class Evaluator(abc.ABC):
    """One task of a data set, or several that are measured together.

    Attributes:
      names: names of its tasks, at least one; no two evaluators of a data set may share a name.
      split: its clips.
    """

    names: tuple[str, ...] = ()

    def __init__(self, split: Split, setup: Setup):
        self.split, self.setup = split, setup

    @classmethod
    @abc.abstractmethod
    def find(cls, setup: Setup) -> tuple[list["Evaluator"], dict[str, Shortage]]:
        """The evaluators of this kind that the data set supports, and task name -> why it is too small for that task.

        Raises:
          DataError: a group is in both training and test.
        """

    @classmethod
    def from_split(cls, split: Split | Shortage | None, setup: Setup) -> tuple[list["Evaluator"], dict[str, Shortage]]:
        """What ``find`` returns for a kind with at most one evaluator; None where the data set has nothing for it."""
        if isinstance(split, Shortage):
            return [], dict.fromkeys(cls.names, split)
        return [cls(split, setup)] if split else [], {}

    @classmethod
    def identity(cls, setup: Setup) -> list:
        """What results depend on besides data, settings, tokenizer and model, as JSON; a version, for instance."""
        return []

    def rows(self) -> np.ndarray:
        """Rows of the data set whose features ``measure`` and ``floor`` will read."""
        return np.concatenate([self.split.train_row, self.split.test_row])

    @abc.abstractmethod
    def poolings(self, model: EvalModel) -> tuple[str, ...]:
        """The ways in which this model can be measured."""

    @abc.abstractmethod
    def measure(self, features: Features, model: EvalModel, pooling: str) -> dict[str, Measured]:
        """A result for every one of ``names``.

        Args:
          features: reads the embeddings of ``rows()``; the frames of a full-sized data set do not fit into memory, so
            ask for no more at a time than you need.
        """

    @abc.abstractmethod
    def floor(self, features: Features) -> dict[str, Measured]:
        """Task name -> result without any network, from log-mel ``features``; tasks without a floor are left out."""

    def size(self) -> TaskSize | None:
        """Clips and classes, from which the time and memory of a probe are predicted; None where no probe is fitted."""
        return None

    def facts(self) -> dict:
        """What every result says about the task."""
        return self.split.facts()
