"""Every setting of a run as frozen dataclasses; ``RunConfig`` is the whole of it.

Each field carries its meaning, unit and range (``config.domain``). Nothing below ``resolve`` looks a setting up by
string.
"""

from alp_jax.config.schema.cluster import CLUSTERS, ClusterConfig
from alp_jax.config.schema.data import CHOSEN_WIDTHS, DataConfig
from alp_jax.config.schema.encoders import ConformerConfig, ViTConfig, ZipformerConfig
from alp_jax.config.schema.evaluation import EvalConfig
from alp_jax.config.schema.features import FeatureConfig, SpecAugmentConfig
from alp_jax.config.schema.model import DecoderConfig, ModelConfig, TextTowerConfig
from alp_jax.config.schema.objective import ObjectiveConfig
from alp_jax.config.schema.optim import OptimConfig
from alp_jax.config.schema.run import RunConfig
from alp_jax.config.schema.train import MeshConfig, TrainConfig

__all__ = [
    "CHOSEN_WIDTHS",
    "CLUSTERS",
    "ClusterConfig",
    "ConformerConfig",
    "DataConfig",
    "DecoderConfig",
    "EvalConfig",
    "FeatureConfig",
    "MeshConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "RunConfig",
    "SpecAugmentConfig",
    "TextTowerConfig",
    "TrainConfig",
    "ViTConfig",
    "ZipformerConfig",
]
