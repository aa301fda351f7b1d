"""``alp bench loss``: memory and time of the contrastive loss at several sizes of the global batch."""

import argparse

from alp_jax.core.errors import UserError

HELP = "memory and time of the contrastive loss and its gradients, also for batches and devices that are not at hand"
EXAMPLE = "alp bench loss --pairs 4096,32768 --devices 8 --rounds 0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", default="4096", metavar="N,...", help="sizes of the global batch (default: 4096)")
    parser.add_argument("--width", type=int, default=512, metavar="D", help="of the embeddings (default: 512)")
    parser.add_argument("--loss", default="info_nce", metavar="NAME", help="info_nce (default) or siglip, with a bias")
    parser.add_argument("--chunk", type=int, metavar="N", help="columns at a time (default: config.objective.chunk)")
    parser.add_argument("--devices", type=int, metavar="N", help="to split over (default: all); CPUs pretend to be N")
    parser.add_argument(
        "--rounds", type=int, default=5, metavar="N", help="timed runs (default: 5); 0 compiles and runs nothing"
    )
    parser.add_argument("--against", choices=("dense",), help="also the loss over the whole matrix, in turns with ours")


def run(args: argparse.Namespace) -> dict:
    """Bytes, times and ratios by size.

    Raises:
      UserError: a size that is none or does not divide over the devices, or too few devices.
    """
    from alp_jax.config.arguments import parse_count
    from alp_jax.config.schema import MeshConfig, ObjectiveConfig

    sizes = [parse_count(text) for text in args.pairs.split(",")]
    if args.rounds < 0 or args.width < 1 or (args.chunk is not None and args.chunk < 1):
        raise UserError(f"--rounds {args.rounds} --width {args.width} --chunk {args.chunk}: must be positive")
    import jax

    if args.devices is not None:
        _pretend(args.devices)
    if args.devices is not None and not 1 <= args.devices <= jax.device_count():
        raise UserError(f"--devices {args.devices}: this machine has {jax.device_count()}")
    from alp_jax.bench.contrastive_loss import measure
    from alp_jax.parallel.mesh import make_mesh

    mesh = make_mesh(MeshConfig(), jax.devices()[: args.devices])
    for pairs in sizes:
        if pairs < 1 or pairs % mesh.size:
            raise UserError(f"--pairs {pairs} does not divide over {mesh.size} devices")
    config = ObjectiveConfig(loss=args.loss, learn_bias=args.loss == "siglip", start_bias=-10.0)
    config = config if args.chunk is None else ObjectiveConfig(**{**vars(config), "chunk": args.chunk})
    dense = args.against == "dense"
    found = [measure(config, pairs, args.width, mesh, rounds=args.rounds, dense=dense) for pairs in sizes]
    device = mesh.devices.ravel()[0]
    return {
        "devices": mesh.size,
        "device": device.device_kind,
        "versions": {"jax": jax.__version__},
        "config": {"loss": config.loss, "chunk": config.chunk, "rounds": args.rounds},
        "sizes": found,
    }


def _pretend(devices: int) -> None:
    """Lets the CPU count as so many devices, where it is the only kind here and is not in use yet."""
    import jax

    try:
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:
        return  # this process has used its devices already; their number is checked by the caller
