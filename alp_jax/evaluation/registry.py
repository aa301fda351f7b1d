"""The kinds of tasks: the built-in ones, and those that other distributions add."""

import inspect

from alp_jax.core import plugins
from alp_jax.core.errors import UserError
from alp_jax.evaluation.captioning.evaluator import CaptioningEvaluator
from alp_jax.evaluation.evaluator import Evaluator, Setup
from alp_jax.evaluation.probes.evaluator import ProbeEvaluator
from alp_jax.evaluation.retrieval.evaluator import RetrievalEvaluator
from alp_jax.evaluation.sed.detection import DetectionEvaluator
from alp_jax.evaluation.table import Shortage

GROUP = "alp_jax.evaluators"  # of entry points
BUILT_IN: dict[str, type[Evaluator]] = {  # in the order of results
    "probes": ProbeEvaluator,
    "retrieval": RetrievalEvaluator,
    "sed": DetectionEvaluator,
    "captioning": CaptioningEvaluator,
}


def kinds() -> dict[str, type[Evaluator]]:
    """Name of the kind -> its class; the built-in ones come first.

    Raises:
      UserError: an entry point that does not load, has the name of another, or is not a complete ``Evaluator``.
    """
    known = {**BUILT_IN, **plugins.load(GROUP, BUILT_IN)}
    for kind, cls in known.items():
        if not (inspect.isclass(cls) and issubclass(cls, Evaluator)):
            raise UserError(
                f"evaluator {kind!r} ({GROUP}): {cls!r} is not a subclass of alp_jax.evaluation.evaluator.Evaluator"
            )
        missing = sorted(cls.__abstractmethods__)
        if missing:
            raise UserError(
                f"evaluator {kind!r} ({cls.__module__}.{cls.__name__}) does not implement {', '.join(missing)}"
            )
    return known


def open_evaluators(setup: Setup) -> tuple[dict[str, Evaluator], dict[str, Shortage], list]:
    """Task name -> evaluator, task name -> why there is too little data for it, and what results depend on besides.

    Raises:
      UserError: as ``kinds``, and for an evaluator that names no task or a task that another evaluator has.
    """
    by_name: dict[str, Evaluator] = {}
    shortages: dict[str, Shortage] = {}
    owner: dict[str, str] = {}
    identity = []
    for kind, cls in kinds().items():
        evaluators, short = cls.find(setup)
        for evaluator in evaluators:
            if not (isinstance(evaluator.names, tuple) and evaluator.names):
                raise UserError(
                    f"evaluator {kind!r} ({cls.__module__}.{cls.__name__}): names is {evaluator.names!r}: make it a "
                    "tuple of the names of its tasks"
                )
        named = [(name, evaluator) for evaluator in evaluators for name in evaluator.names]
        for name in [*(name for name, _ in named), *short]:
            if name in owner:
                raise UserError(
                    f"task {name!r} belongs to both evaluators {owner[name]!r} and {kind!r}: rename it in one of them"
                )
            owner[name] = kind
        by_name |= named
        shortages |= short
        identity += cls.identity(setup)
    return by_name, shortages, identity
