"""Contrastive learning and captioning at once: the encoder runs once and both losses are added.

As in CoCa (Yu et al. 2022, "CoCa: Contrastive Captioners are Image-Text Foundation Models"), with separate towers for
the two sides.
"""

from typing import Any

import jax
from jax.sharding import Mesh

from alp_jax.config.schema import ObjectiveConfig
from alp_jax.config.schema.model import DECODER, TEXT
from alp_jax.core.errors import UserError
from alp_jax.objectives import captioning, contrastive
from alp_jax.objectives.base import Arrays, Objective, ObjectiveSpec, Reduced, SpecialTokens

_PARTS = (contrastive.SPEC, captioning.SPEC)


def make_hybrid(config: ObjectiveConfig, tokens: SpecialTokens, mesh: Mesh) -> Objective:
    """``config.contrastive_share`` of the contrastive loss and the rest of the captioning loss.

    Metrics of the two carry the objective's name as a prefix; ``accuracy`` is the contrastive one.

    Raises:
      UserError: a share that is not between 0 and 1, or what either objective refuses.
    """
    share = config.contrastive_share
    if not 0.0 <= share <= 1.0:
        raise UserError(f"config.objective.contrastive_share is {share}: it must be between 0 and 1")
    parts = {spec.name: spec.make(config, tokens, mesh) for spec in _PARTS}
    weights = dict(zip(parts, (share, 1.0 - share), strict=True))

    def prepare(batch: Arrays, key: jax.Array) -> Arrays:
        # Both get the same key, so the same rows are autoregressive as in a captioning run. That is sound only as long
        # as contrastive learning draws nothing; a second part that draws needs a key of its own.
        return {name: value for part in parts.values() for name, value in part.prepare(batch, key).items()}

    def reduce(outputs: Arrays, inputs: Arrays) -> Reduced:
        # In one namespace from here on: names that both parts used would overwrite each other.
        reduced = [part.reduce(outputs, inputs) for part in parts.values()]
        rows, scalars = ({k: v for one in both for k, v in one.items()} for both in zip(*reduced, strict=True))
        return Reduced(rows, scalars)

    def combine(reduced: Reduced, inputs: Arrays, batch: Arrays) -> tuple[Any, Arrays]:
        value: Any = 0.0
        metrics: Arrays = {}
        for name, part in parts.items():
            loss, of_part = part.combine(reduced, inputs, batch)
            value = value + weights[name] * loss
            metrics |= {f"{name}/{metric}": number for metric, number in of_part.items()} | {f"{name}/loss": loss}
        return value, metrics | {"accuracy": metrics["contrastive/accuracy"]}

    return Objective(prepare, reduce, combine)


def metric_names(config: ObjectiveConfig) -> tuple[str, ...]:
    """Names of what the objective reports besides the loss: the accuracy, and the metrics of both parts."""
    return "accuracy", *(f"{spec.name}/{name}" for spec in _PARTS for name in (*spec.metrics(config), "loss"))


SPEC = ObjectiveSpec(
    "hybrid",
    sides=(TEXT, DECODER),
    make=make_hybrid,
    metrics=metric_names,
    coupled=True,
    check=contrastive.check_negatives,
)
