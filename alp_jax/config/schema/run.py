"""All settings of one run."""

import dataclasses

from alp_jax.config.domain import setting
from alp_jax.config.schema.data import DataConfig
from alp_jax.config.schema.evaluation import EvalConfig
from alp_jax.config.schema.features import FeatureConfig
from alp_jax.config.schema.model import ModelConfig
from alp_jax.config.schema.objective import ObjectiveConfig
from alp_jax.config.schema.optim import OptimConfig
from alp_jax.config.schema.train import MeshConfig, TrainConfig


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """All settings of one run, as stored in ``config.json`` of its folder."""

    seed: int = setting(
        0, "random seed of the parameters, the order of the data and every other draw", low=0, high=2**31 - 1
    )
    init: str = setting("scratch", "where the encoder begins: scratch, or the folder of a run or an import")
    init_text: str = setting("scratch", "where the text tower begins: scratch, or the folder of a run or an import")
    data: DataConfig = dataclasses.field(default=DataConfig())
    features: FeatureConfig = dataclasses.field(default=FeatureConfig())
    model: ModelConfig = dataclasses.field(default=ModelConfig())
    objective: ObjectiveConfig = dataclasses.field(default=ObjectiveConfig())
    optim: OptimConfig = dataclasses.field(default=OptimConfig())
    mesh: MeshConfig = dataclasses.field(default=MeshConfig())
    train: TrainConfig = dataclasses.field(default=TrainConfig())
    evaluation: EvalConfig = dataclasses.field(default=EvalConfig())
