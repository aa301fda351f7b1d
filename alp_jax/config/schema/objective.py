"""Settings of what is learned."""

import dataclasses

from alp_jax.config.domain import setting
from alp_jax.core import plugins

OBJECTIVES = ("contrastive", "captioning", "hybrid", "tagging")  # ours: the SPEC of alp_jax.objectives.NAME
_GROUP = "alp_jax.objectives"  # entry points of objectives that other distributions bring
NO_OBJECTIVE = "none"


def outside_objectives() -> dict[str, object]:
    """What other distributions add to ``OBJECTIVES``, by name."""
    return plugins.load(_GROUP, (*OBJECTIVES, NO_OBJECTIVE))


def objective_names() -> tuple[str, ...]:
    """The names of all objectives."""
    return (*OBJECTIVES, *outside_objectives())


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Learns ``contrastive`` (clip against caption), ``captioning`` (in order and in parallel), both, or tags."""

    name: str = setting(
        "contrastive",
        "what is learned; tagging is supervised, by config.data.tags; none is an imported model without a text side",
        choices=(*OBJECTIVES, NO_OBJECTIVE),
        group=_GROUP,
    )
    contrastive_share: float = setting(
        0.5, "hybrid: weight of the contrastive loss; the captioning loss has the rest", low=0, high=1
    )
    loss: str = setting("info_nce", "loss of the contrastive objective", choices=("info_nce", "siglip"))
    reduction: str = setting(
        "mean",
        "how the contrastive loss adds up over clips and both directions; the reference sums",
        choices=("mean", "sum"),
    )
    embed_reg: float = setting(0.0, "weight of the reference's penalty on contrastive embeddings; 1.0 there", low=0)
    temperature: float = setting(
        0.07, "temperature of the contrastive softmax; its start value when it is learnt", above=0
    )
    learn_temperature: bool = setting(True, "whether the contrastive temperature is learnt")
    learn_bias: bool = setting(
        False, "siglip: whether a bias on all logits is learnt from start_bias; the reference has none"
    )
    start_bias: float = setting(-10.0, "siglip: start value of the learnt bias", low=-1000, high=1000)
    max_logit_scale: float = setting(100.0, "limit of the inverse temperature", above=0)
    exclude_duplicates: bool = setting(
        True, "whether clips of the same recording or caption in a batch are left out of each other's negatives"
    )
    chunk: int = setting(1024, "columns of the similarity matrix held at a time", unit="captions", low=1)
    autoregressive_share: float = setting(
        0.25,
        "captioning: share of the rows that are decoded in order; the rest in parallel from MASK tokens (CapPa)",
        low=0,
        high=1,
    )
    label_smoothing: float = setting(0.1, "captioning: probability spread over all tokens", low=0, below=1)
