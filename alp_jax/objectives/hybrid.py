"""Contrastive learning and captioning at once: the encoder runs once and both losses are added.

As in CoCa (Yu et al. 2022, "CoCa: Contrastive Captioners are Image-Text Foundation Models"), with separate towers for
the two sides.
"""

from typing import Any

import jax
from jax.sharding import Mesh

from alp_jax.config.schema import ObjectiveConfig
from alp_jax.core.errors import UserError
from alp_jax.objectives.base import Arrays, Objective, Reduced, SpecialTokens
from alp_jax.objectives.captioning import make_captioning
from alp_jax.objectives.contrastive import make_contrastive


def make_hybrid(config: ObjectiveConfig, tokens: SpecialTokens, mesh: Mesh) -> Objective:
    """``config.contrastive_share`` of the contrastive loss and the rest of the captioning loss.

    Metrics of the two have their names in front; ``accuracy`` is the contrastive one.

    Raises:
      UserError: a share that is not between 0 and 1, or what either objective refuses.
    """
    share = config.contrastive_share
    if not 0.0 <= share <= 1.0:
        raise UserError(f"config.objective.contrastive_share is {share}: it must be from 0 to 1")
    parts = {"contrastive": make_contrastive(config, tokens, mesh), "captioning": make_captioning(config, tokens)}
    weights = {"contrastive": share, "captioning": 1.0 - share}

    def prepare(batch: Arrays, key: jax.Array) -> Arrays:
        return {name: value for part in parts.values() for name, value in part.prepare(batch, key).items()}

    def reduce(outputs: Arrays, inputs: Arrays) -> Reduced:
        found = [part.reduce(outputs, inputs) for part in parts.values()]
        rows, scalars = ({k: v for one in sides for k, v in one.items()} for sides in zip(*found, strict=True))
        return Reduced(rows, scalars)

    def combine(reduced: Reduced, inputs: Arrays, batch: Arrays) -> tuple[Any, Arrays]:
        value: Any = 0.0
        metrics: Arrays = {}
        for name, part in parts.items():
            loss, found = part.combine(reduced, inputs, batch)
            value = value + weights[name] * loss
            metrics |= {f"{name}/{metric}": number for metric, number in found.items()} | {f"{name}/loss": loss}
        return value, metrics | {"accuracy": metrics["contrastive/accuracy"]}

    return Objective(prepare, reduce, combine, coupled=True)
