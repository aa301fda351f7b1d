"""The run that an export is made from, and the data set that the export is compared on."""

import itertools
import os
import pathlib
from typing import Any, NamedTuple

import alp_jax
from alp_jax.config import RunConfig
from alp_jax.data.store.dataset import Dataset
from alp_jax.data.text.tokenizer import Tokenizer
from alp_jax.data.text.training import training_captions
from alp_jax.interop.writing.compare import parity_data
from alp_jax.train.build import read_config, run_tokenizer
from alp_jax.train.checkpoint import load_params

CAPTIONS = 20_000  # of the data set at most, to compare a tokenizer on
SENTENCES = ("a dog", "rain on a roof", "two people talk while a train passes", "slow piano music with a soft drum")


class Run(NamedTuple):
    """What an export is made from.

    Fields:
      step, since: the checkpoint of ``params``; unless ``since`` is None they are the mean over the steps after it.
      params: of the whole model, nested dictionaries of arrays.
      dataset: to compare on; None where it is not on this machine.
    """

    folder: pathlib.Path
    step: int
    since: int | None
    config: RunConfig
    params: dict[str, Any]
    dataset: Dataset | None

    def captions(self) -> list[str]:
        """Captions to compare on: the data set's, or made-up ones where it is gone or has none."""
        captions = [] if self.dataset is None else list(itertools.islice(training_captions(self.dataset), CAPTIONS))
        return captions or list(SENTENCES)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the run, which ``--data`` does not change."""
        return run_tokenizer(self.folder, self.config, self.config.data.path)

    def origin(self, **more: Any) -> dict[str, Any]:
        """Where an export is from, for the key ``alp`` of its config.json, with what of ``more`` is not None."""
        about = {"run": self.folder.resolve().name, "step": self.step, "since": self.since, **more}
        about |= {"version": alp_jax.__version__, "model": self.config.model.name}
        about["objective"] = self.config.objective.name
        return {name: value for name, value in about.items() if value is not None}


def open_run(folder: str | os.PathLike, step: int | None, since: int | None, data: str | None) -> Run:
    """The run in ``folder``.

    Args:
      step: which checkpoint; None: the latest.
      since: take the mean of the parameters after this checkpoint (running average).
      data: data set to compare on; None: that of the run.

    Raises:
      UserError: no such run, checkpoint or data set.
    """
    folder = pathlib.Path(folder)
    config = read_config(folder)
    params, step = load_params(folder, step, since)
    return Run(folder, step, since, config, params, parity_data(folder, config, data))
