"""A run up to its first step: everything that can be wrong with it before a device has computed anything."""

from alp_jax.config import RunConfig
from alp_jax.data.batch_plan import plan
from alp_jax.data.example import SAMPLE_RATE
from alp_jax.models.accounting import parameters
from alp_jax.optim.averaging import averages
from alp_jax.optim.optimizer import make_optimizer
from alp_jax.parallel.mesh import batch_shards, make_mesh
from alp_jax.train.build import make_parts, open_data
from alp_jax.train.logs.sinks import parse_logs
from alp_jax.train.profile import parse_steps
from alp_jax.train.state import state_maker, state_shapes


def rehearse(config: RunConfig) -> dict:
    """Opens data, tokenizer and start, and lays out model and batches on the devices there are; writes nothing.

    Returns:
      ``params``, ``steps``, ``clips``, ``pairs``, ``hours``, ``epochs`` and ``batches`` (of every bucket: ``seconds``,
      ``clips`` in a batch, and the ``share`` of steps that take it).

    Raises:
      UserError: as ``train``, before its first step.
    """
    parse_logs(config.train.logs)
    parse_steps(config.train.profile_steps)
    dataset, tokenizer = open_data(config)
    mesh = make_mesh(config.mesh)
    parts = make_parts(config, tokenizer, mesh)
    optimizer = make_optimizer(config.optim, config.train.steps)
    shapes = state_shapes(state_maker(parts.init, parts.apply, optimizer, averages(config.train)))
    batches = plan(dataset, config.data, seed=config.seed, devices=batch_shards(mesh))
    steps = sum(bucket.per_block for bucket in batches.buckets)
    return {
        "params": parameters(shapes["params"]),
        "steps": config.train.steps,
        "clips": batches.clips,
        "pairs": batches.pairs,
        "hours": batches.hours,
        "epochs": config.train.steps / batches.batches_per_epoch,
        "batches": [
            {"seconds": bucket.edge / SAMPLE_RATE, "clips": bucket.batch, "share": bucket.per_block / steps}
            for bucket in batches.buckets
        ],
    }
