"""``alp bench step``: the real training step on the devices at hand, beside other forms of the same model."""

import argparse

from alp_jax.cli.configuration import add_config_argument, load_config
from alp_jax.core.errors import UserError

HELP = "time, bytes and compilation of the training step, on made-up clips, beside other forms of it"
EXAMPLE = (
    "alp bench step --clips 64 --seconds 10 --against plain,unregularised --config=configs/pretrain.py "
    "--config.model.compute_dtype=bfloat16"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clips", type=int, default=64, metavar="N", help="in the global batch (default: 64)")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="of each clip (default: 10)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of all variants in turns (default: 5)")
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="in a round (default: 5)")
    parser.add_argument(
        "--against",
        default="",
        metavar="NAME,...",
        help="plain (convolutions and attention as jax.lax has them), unregularised, remat, adamw",
    )
    parser.add_argument(
        "--fresh_cache", action="store_true", help="compile with an empty cache, and once more from the filled one"
    )
    add_config_argument(parser)


def run(args: argparse.Namespace) -> dict:
    """One dictionary with medians, spreads and ratios.

    Raises:
      UserError: numbers, names or settings that cannot be.
    """
    import tempfile

    from alp_jax.core.names import choose

    if args.clips < 1 or args.seconds <= 0 or args.rounds < 1 or args.steps < 1:
        raise UserError(
            f"--clips {args.clips} --seconds {args.seconds:g} --rounds {args.rounds} --steps {args.steps}: "
            "all must be above 0"
        )
    import jax

    from alp_jax.bench.train_step import VARIANTS, measure

    against = tuple(name for name in args.against.split(",") if name)
    for name in against:
        choose(name, VARIANTS, "--against")
    config = load_config(args.config, args.overrides)
    options = {"rounds": args.rounds, "steps": args.steps, "against": against}
    if args.fresh_cache:
        with tempfile.TemporaryDirectory() as folder:
            jax.config.update("jax_compilation_cache_dir", folder)
            found = measure(config, args.clips, args.seconds, **options)
            jax.clear_caches()
            again = measure(config, args.clips, args.seconds, rounds=1, steps=1)
        found["from_cache"] = {name: again[name] for name in ("trace_s", "compile_s", "compile_processor_s")}
    else:
        found = measure(config, args.clips, args.seconds, **options)
    return {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "versions": {"jax": jax.__version__, "jaxlib": jax.lib.__version__},
        "model": config.model.name,
        "objective": config.objective.name,
        "compute_dtype": config.model.compute_dtype,
        "optimizer": config.optim.name,
        "clips": args.clips,
        "seconds": args.seconds,
        "rounds": args.rounds,
        "steps": args.steps,
        **found,
    }
