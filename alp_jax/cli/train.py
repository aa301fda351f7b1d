"""``alp train``: one run, from the first step or from its last checkpoint."""

import argparse
from typing import TYPE_CHECKING

from alp_jax.cli.cluster import add_cluster_arguments, cluster_config
from alp_jax.cli.parsers import add_config_argument
from alp_jax.config.flags import load_config
from alp_jax.core.progress import say, stage

if TYPE_CHECKING:
    from alp_jax.config import RunConfig

EXAMPLE = (
    "alp train --workdir runs/mine --config=configs/pretrain.py:model=zipformer_xxs,batch_seconds=64 "
    "--config.data.path=data/mine --config.train.steps=500 --config.train.save_every=100 --evaluate\n"
    "  alp train --workdir runs/demo --config=configs/pretrain.py:objective=contrastive,pairs=400k "
    "--config.data.path=data/captionstew --dry_run"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workdir", required=True, metavar="DIR", help="run folder; an interrupted run resumes there")
    parser.add_argument(
        "--dry_run", action="store_true", help="check settings, data, start and sizes, and stop before the first step"
    )
    parser.add_argument(
        "--extend", action="store_true", help="let the run in DIR continue to more steps than it started with"
    )
    parser.add_argument("--evaluate", action="store_true", help="evaluate the frozen encoder after the last step")
    parser.add_argument("--floors", metavar="FILE", help="file in which runs on the same data share baseline results")
    add_cluster_arguments(parser)
    add_config_argument(parser)


def run(args: argparse.Namespace) -> dict:
    config = load_config(args.config, args.overrides)
    run_words = f"{config.objective.name}, {config.model.name}, {config.train.steps} steps"
    say(f"alp train: {run_words}; run folder {args.workdir}")
    with stage("loading JAX and the code for training"):
        from alp_jax.config import to_dict
        from alp_jax.parallel import hosts
        from alp_jax.parallel.runtime import setup_runtime
        from alp_jax.train.evaluate import evaluate_run
        from alp_jax.train.loop import train
        from alp_jax.train.run_dir import mark_done
        from alp_jax.train.stopping import Stop

    setup_runtime()
    with stage("waiting for the other processes", quiet=True):
        hosts.initialize(cluster_config(args))
        hosts.require_same(to_dict(config))
    if args.dry_run:
        return _dry_run(config, args)

    results = []
    with Stop() as stop:
        stop.leave_at_once(lambda: "before the first step: there is nothing to save; run it again")
        summary = train(config, args.workdir, extend=args.extend)
        if hosts.is_primary():
            if args.evaluate:
                stop.leave_at_once(
                    lambda: f"during evaluation, step {config.train.steps} is saved; the same command resumes"
                )
                results = evaluate_run(args.workdir, floors=args.floors)
            mark_done(args.workdir)
        if not args.json and hosts.is_primary():
            _tell(args.workdir, summary)
        # Processes that wait here while another evaluates must still stop cleanly on a signal, not be killed by it.
        hosts.barrier("the end of the evaluation", 10 * 86400.0)
    return {**summary, "workdir": args.workdir, "results": len(results)}


def _tell(workdir: str, summary: dict) -> None:
    print(f"{workdir}: {summary['steps']} steps, {summary['samples_seen']} clips, {summary['params']} parameters")


def _dry_run(config: "RunConfig", args: argparse.Namespace) -> dict:
    from alp_jax.parallel import hosts
    from alp_jax.train.setup import rehearse

    report = rehearse(config, args.workdir)
    if not args.json and hosts.is_primary():
        print(
            f"{report['params']} parameters, {report['clips']} clips, {report['pairs']} pairs, {report['hours']:.2f} h"
        )
        for batch in report["batches"]:
            up_to = f"{batch['seconds']:g} s and {batch['tokens']} tokens"
            print(f"  {batch['share']:.1%} of the steps: {batch['clips']} clips of up to {up_to}")
        print(f"{report['steps']} steps, {report['epochs']:.4g} epochs; nothing was computed or written")
    return report
