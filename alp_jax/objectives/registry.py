"""Every objective by its name: ours, and those that other distributions bring by entry points."""

import importlib
from collections.abc import Iterable

from jax.sharding import Mesh

from alp_jax.config import ConfigError
from alp_jax.config.schema import ObjectiveConfig, RunConfig
from alp_jax.config.schema.objective import NO_OBJECTIVE, OBJECTIVES, objective_names, outside_objectives
from alp_jax.core.errors import UserError
from alp_jax.core.names import choose
from alp_jax.objectives.base import Objective, ObjectiveSpec, SpecialTokens
from alp_jax.objectives.contrastive import why_negatives


def objective_spec(name: str) -> ObjectiveSpec:
    """The spec of the objective ``name``; UserError when there is none, or its entry point is no spec."""
    if name in OBJECTIVES:
        return importlib.import_module(f"alp_jax.objectives.{name}").SPEC
    spec = outside_objectives()[choose(name, objective_names(), "config.objective.name")]
    if not isinstance(spec, ObjectiveSpec) or spec.name != name:
        raise UserError(
            f"entry point {name!r} of alp_jax.objectives is not an ObjectiveSpec of that name: {spec!r:.80}"
        )
    return spec


def sides_of(config: ObjectiveConfig) -> tuple[str, ...]:
    """What a model of this objective has besides its encoder; nothing for an encoder that was imported alone."""
    return () if config.name == NO_OBJECTIVE else objective_spec(config.name).sides


def make_objective(config: ObjectiveConfig, tokens: SpecialTokens, mesh: Mesh) -> Objective:
    """Builds the objective ``config.name``; an unknown name is a UserError that lists the known ones."""
    spec = objective_spec(config.name)
    return spec.make(config, tokens, mesh)._replace(coupled=spec.coupled)


def check_objective(config: RunConfig) -> None:
    """Raises ConfigError or UserError where the objective of ``config`` cannot be learnt with it."""
    if config.objective.name == NO_OBJECTIVE:
        *names, last = objective_names()
        raise ConfigError(
            "config.objective.name is none: that is for an imported model without a text side, and there is nothing to "
            f"train in it; choose {', '.join(names)} or {last}"
        )
    objective_spec(config.objective.name).check(config)


def check_batches(config: RunConfig, batches: Iterable[tuple[int, float]]) -> None:
    """As ``check_objective``, and ConfigError where one of ``batches`` is too small for the objective.

    Args:
      batches: (clips in a global batch, their greatest length in seconds).
    """
    check_objective(config)
    name = config.objective.name
    for clips, seconds in batches:
        if clips < 2 and objective_spec(name).coupled:
            raise ConfigError(
                f"config.data.batch_seconds is {config.data.batch_seconds:g}: a batch of clips of up to {seconds:g} s "
                f"has 1 clip, and must have 2 or more; {why_negatives(name)}"
            )
