"""``alp plan``: what a run would need on devices that are not there."""

import argparse

from alp_jax.cli.parsers import add_config_argument
from alp_jax.config.flags import load_config
from alp_jax.core.errors import UserError

EXAMPLE = (
    "alp plan --topology h100:8 --bucket 10 --config=configs/pretrain.py:objective=contrastive "
    "--config.model.compute_dtype=bfloat16"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--topology",
        required=True,
        metavar="KIND:SIZE",
        help="cpu:8, h100:64, h200:8, v4:2x2x4, v5e:8x8, v5p:4x4x4, v6e:8x8",
    )
    parser.add_argument(
        "--bucket", type=float, metavar="S", help="only the batches of clips up to S seconds (default all)"
    )
    parser.add_argument(
        "--layers", action="store_true", help="compile layer by layer and add up, for compilers that take too long"
    )
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        metavar="R",
        help="of the roofline's speed that projected days assume (default 1)",
    )
    parser.add_argument("--largest", type=int, default=0, metavar="N", help="also list the N kernels that move most")
    parser.add_argument(
        "--out", metavar="FILE", help="write the plan as JSON; a plan that was stopped resumes from there"
    )
    add_config_argument(parser)


def run(args: argparse.Namespace) -> dict:
    """Prints the plan.

    Raises:
      UserError: invalid settings or topology, or a compiler that is not installed.
    """
    config = load_config(args.config, args.overrides)
    if not 0 < args.share <= 1:
        raise UserError(f"--share {args.share:g} must be above 0 and at most 1")
    if args.largest < 0:
        raise UserError(f"--largest {args.largest} must be 0 or more")
    import jax

    jax.config.update("jax_platforms", "cpu")  # nothing runs, so local devices are left to others
    from alp_jax.planning import report
    from alp_jax.planning.plan import plan
    from alp_jax.planning.topology import parse

    target = parse(args.topology)
    result = plan(config, target, bucket_s=args.bucket, layers=args.layers, share=args.share, out=args.out)
    if not args.json:
        print(report.text(result))
        if args.largest:
            print("\n" + report.largest(result, args.largest))
    return result
