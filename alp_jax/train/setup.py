"""A run up to its first step: everything opened, laid out and checked before a device computes anything."""

import dataclasses
from collections.abc import Callable

import jax
from jax.sharding import Mesh

from alp_jax.config import RunConfig, check_run
from alp_jax.core import storage
from alp_jax.core.clip import SAMPLE_RATE
from alp_jax.core.errors import UserError
from alp_jax.data.order.batch_plan import BatchPlan, plan
from alp_jax.data.store.dataset import Dataset
from alp_jax.data.text.tokenizer import Tokenizer
from alp_jax.models.accounting import parameters
from alp_jax.objectives.registry import check_batches, check_objective, objective_spec
from alp_jax.optim.optimizer import averages, make_optimizer
from alp_jax.parallel import hosts
from alp_jax.parallel.mesh import batch_shards, make_mesh
from alp_jax.parallel.rules import infer_shardings
from alp_jax.train.build import Parts, make_parts, open_data
from alp_jax.train.checkpoint_folder import Keep
from alp_jax.train.host import BatchShapes, batch_shapes, parse_steps
from alp_jax.train.state import State, state_maker, state_shapes
from alp_jax.train.step import STEP_METRICS, make_train_step
from alp_jax.train.validation import Validation
from alp_jax.train.writers import parse_logs


@dataclasses.dataclass(frozen=True)
class RunSetup:
    """A run ready for its first step on the devices present; nothing is compiled or written yet."""

    keep: Keep  # which checkpoints stay
    dataset: Dataset
    tokenizer: Tokenizer
    mesh: Mesh
    parts: Parts
    make_state: Callable[..., State]
    state: State  # its shapes
    batches: BatchPlan
    step: jax.stages.Wrapped  # from ``make_train_step``
    shapes: list[BatchShapes]  # of the batches of each bucket
    validation: Validation | None  # what measures the validation loss, if any


def prepare(config: RunConfig) -> RunSetup:
    """Opens data, tokenizer and start, and lays out model and batches.

    Raises:
      ConfigError: a setting out of its range, or settings that do not go together.
      UserError: settings and data do not fit together.
    """
    check_run(config)
    check_objective(config)
    parse_logs(config.train.logs)
    parse_steps(config.train.profile_steps)
    keep = Keep.of(config.train)
    _check_best_metric(config, keep)
    with hosts.stage("opening the data set", config.data.path):
        dataset, tokenizer = open_data(config)
    with hosts.stage("starting the devices", quiet=True):
        mesh = make_mesh(config.mesh)
    with hosts.stage("building the model", config.model.name):
        parts = make_parts(config, tokenizer, mesh)
        optimizer = make_optimizer(config.optim, config.train.steps)
        make_state = state_maker(parts.init, parts.apply, optimizer, averages(config.train))
        state = state_shapes(make_state)
    with hosts.stage("planning the batches"):
        batches = plan(dataset, config.data, seed=config.seed, devices=batch_shards(mesh))
        check_batches(config, [(bucket.batch, bucket.edge / SAMPLE_RATE) for bucket in batches.buckets])
    step = make_train_step(parts.apply, parts.objective, optimizer, config, mesh, infer_shardings(state, mesh))
    shapes = [batch_shapes(config, mesh, (bucket.batch, bucket.edge, bucket.tokens)) for bucket in batches.buckets]
    validation = None
    if config.train.validate_every:
        with hosts.stage("choosing the clips of the validation loss"):
            validation = Validation(config, dataset, tokenizer, parts, mesh)
    return RunSetup(keep, dataset, tokenizer, mesh, parts, make_state, state, batches, step, shapes, validation)


def rehearse(config: RunConfig, workdir: storage.Location = "") -> dict:
    """What ``alp train --dry_run`` reports; raises what ``train`` would before its first step, and writes nothing.

    Returns:
      ``params``, ``steps``, ``clips``, ``pairs``, ``hours``, ``epochs`` and ``batches`` (of every bucket: ``seconds``,
      ``tokens``, ``clips`` in a batch, and the ``share`` of steps that take it).
    """
    storage.check_run_folder(workdir, "--workdir")
    setup = prepare(config)
    batches = setup.batches
    block = sum(bucket.per_block for bucket in batches.buckets)
    return {
        "params": parameters(setup.state["params"]),
        "steps": config.train.steps,
        "clips": batches.clips,
        "pairs": batches.pairs,
        "hours": batches.hours,
        "epochs": config.train.steps / batches.batches_per_epoch,
        "batches": [
            {
                "seconds": bucket.edge / SAMPLE_RATE,
                "tokens": bucket.tokens,
                "clips": bucket.batch,
                "share": bucket.per_block / block,
            }
            for bucket in batches.buckets
        ],
    }


def _check_best_metric(config: RunConfig, keep: Keep) -> None:
    """UserError where no step reports the metric that the best checkpoints are chosen by."""
    name = keep.metric.lstrip("+")
    known = {*STEP_METRICS, *objective_spec(config.objective.name).metrics(config.objective)}
    if keep.best and name not in known:
        raise UserError(
            f"config.train.best_metric is {keep.metric}, and no step of this run gives {name}: it must be one of "
            f"{', '.join(sorted(known))}, with + in front where higher is better"
        )
