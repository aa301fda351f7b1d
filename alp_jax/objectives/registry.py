"""From the name in the configuration to the objective."""

from jax.sharding import Mesh

from alp_jax.config.schema import ObjectiveConfig
from alp_jax.core.names import choose
from alp_jax.objectives.base import Objective, SpecialTokens
from alp_jax.objectives.captioning import make_captioning
from alp_jax.objectives.contrastive import make_contrastive
from alp_jax.objectives.hybrid import make_hybrid
from alp_jax.objectives.tagging import make_tagging


def make_objective(config: ObjectiveConfig, tokens: SpecialTokens, mesh: Mesh) -> Objective:
    """Builds the objective ``config.name``; an unknown name is a UserError that lists the known ones."""
    makers = {
        "contrastive": lambda: make_contrastive(config, tokens, mesh),
        "captioning": lambda: make_captioning(config, tokens),
        "hybrid": lambda: make_hybrid(config, tokens, mesh),
        "tagging": make_tagging,
    }
    return makers[choose(config.name, makers, "config.objective.name")]()
