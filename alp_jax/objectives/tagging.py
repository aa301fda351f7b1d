"""Supervised tagging: binary cross entropy of every tag by itself, the start that the paper calls supervised."""

import jax
import jax.numpy as jnp

from alp_jax.config.schema.model import TAGGER
from alp_jax.objectives.base import Arrays, Objective, ObjectiveSpec, Reduced


def make_tagging() -> Objective:
    """Mean binary cross entropy over tags and clips; clips without a tag from the list are unlabelled and left out.

    ``accuracy`` is the share of clips whose most likely tag is one of theirs.
    """

    def prepare(batch: Arrays, key: jax.Array) -> Arrays:
        del key
        return {"tags_BV": batch["tags"]}

    def reduce(outputs: Arrays, inputs: Arrays) -> Reduced:
        has_BV, logits_BV = inputs["tags_BV"], outputs["tag_logits_BV"]
        loss_BV = jax.nn.softplus(jnp.where(has_BV, -logits_BV, logits_BV))
        right_B = jnp.take_along_axis(has_BV, logits_BV.argmax(1)[:, None], 1)[:, 0]
        return Reduced({"loss_B": loss_BV.mean(1), "hits_B": right_B.astype(loss_BV.dtype)}, {})

    def combine(reduced: Reduced, inputs: Arrays, batch: Arrays) -> tuple[jax.Array, Arrays]:
        labelled_B = batch["mask"] & inputs["tags_BV"].any(1)
        # A batch without a labelled clip has a loss of 0; NaN would count as a bad step.
        number = jnp.maximum(jnp.sum(labelled_B), 1)

        def mean(value_B: jax.Array) -> jax.Array:
            return jnp.sum(jnp.where(labelled_B, value_B, 0.0)) / number

        metrics = {"accuracy": mean(reduced.rows["hits_B"]), "labelled_share": jnp.sum(labelled_B) / len(labelled_B)}
        return mean(reduced.rows["loss_B"]), metrics

    return Objective(prepare, reduce, combine)


SPEC = ObjectiveSpec(
    "tagging",
    sides=(TAGGER,),
    make=lambda config, tokens, mesh: make_tagging(),
    metrics=lambda config: ("accuracy", "labelled_share"),
)
