"""A run up to its first step: everything that can be wrong with it before a device has computed anything."""

from alp_jax.config import RunConfig
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.data.order.batch_plan import plan
from alp_jax.models.accounting import parameters
from alp_jax.optim.optimizer import averages, make_optimizer
from alp_jax.parallel.mesh import batch_shards, make_mesh
from alp_jax.parallel.rules import infer_shardings
from alp_jax.train.build import make_parts, open_data
from alp_jax.train.compile import batch_shapes
from alp_jax.train.preconditions import check_batches, check_best_metric, check_settings
from alp_jax.train.state import state_maker, state_shapes
from alp_jax.train.step import make_train_step


def rehearse(config: RunConfig) -> dict:
    """Opens data, tokenizer and start, and lays out model and batches on the devices there are; writes nothing.

    Returns:
      ``params``, ``steps``, ``clips``, ``pairs``, ``hours``, ``epochs`` and ``batches`` (of every bucket: ``seconds``,
      ``clips`` in a batch, and the ``share`` of steps that take it).

    Raises:
      ConfigError, UserError: as ``train``, before its first step.
    """
    keep = check_settings(config)
    dataset, tokenizer = open_data(config)
    mesh = make_mesh(config.mesh)
    parts = make_parts(config, tokenizer, mesh)
    optimizer = make_optimizer(config.optim, config.train.steps)
    shapes = state_shapes(state_maker(parts.init, parts.apply, optimizer, averages(config.train)))
    batches = plan(dataset, config.data, seed=config.seed, devices=batch_shards(mesh))
    check_batches(config, batches.buckets)
    step = make_train_step(parts.apply, parts.objective, optimizer, config, mesh, infer_shardings(shapes, mesh))
    first = batches.buckets[0]
    check_best_metric(keep, step, shapes, batch_shapes(config, mesh, first.edge, first.batch))
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
