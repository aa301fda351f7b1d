"""The encoders that a run is compared with under the same probes: untrained, and what its training began with."""

import pathlib
from collections.abc import Iterator

import jax

from alp_jax.core.progress import say
from alp_jax.evaluation.model import EvalModel
from alp_jax.train.build import make_model, read_config
from alp_jax.train.evaluate import eval_model, frozen_model

UNTRAINED, START = "untrained", "start"


def baseline_models(
    run_dir: str | pathlib.Path, start: str | pathlib.Path | None = None
) -> Iterator[tuple[str, EvalModel]]:
    """(``untrained``, the run's model with fresh parameters), then (``start``, the supervised encoder) if there is one.

    Args:
      run_dir: the run that is compared.
      start: folder of the supervised encoder; None takes the one that ``config.init`` of the run names.

    Raises:
      UserError: ``start`` is no run or import.
    """
    config = read_config(run_dir)
    init, _ = make_model(config)
    params = jax.jit(init)(jax.random.key(config.seed))
    yield UNTRAINED, frozen_model(config, params, f"{config.model.name} untrained, seed {config.seed}")
    folder = start or (config.init if config.init != "scratch" else None)
    if folder and start is None and not pathlib.Path(folder).exists():
        say(f"evaluate: {folder}, which training began with, is not here: it is left out")
    elif folder:
        yield START, eval_model(folder)[0]
