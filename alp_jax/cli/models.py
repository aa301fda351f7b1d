"""``alp models``: the model presets with the size and cost of their audio encoders."""

import argparse

from alp_jax.core.errors import UserError

EXAMPLE = "alp models --seconds 10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds", type=float, default=10.0, metavar="S", help="length of the clip that is encoded (default 10)"
    )


def run(args: argparse.Namespace) -> dict:
    """Prints the models as a Markdown table.

    Raises:
      UserError: a length that is not above zero.
    """
    from alp_jax.config.sizes import MATCHES, MODELS
    from alp_jax.models.accounting import table

    if not 0 < args.seconds < float("inf"):
        raise UserError(f"--seconds {args.seconds} must be above zero")
    rows = table(MODELS, MATCHES, args.seconds)
    if not args.json:
        print(f"| model | parameters | GFLOP ({args.seconds:g} s, forward) | width | frames | FLOPs against |")
        print("|---|--:|--:|--:|--:|---|")
        for row in rows:
            against = f"{row['matches']} {100 * (row['ratio'] - 1):+.1f} %" if row["matches"] else ""
            print(
                f"| {row['model']} | {row['parameters']:,} | {row['flops'] / 1e9:.3f} | {row['width']} | "
                f"{row['frames']} | {against} |"
            )
        print("\nParameters and operations are those of the audio encoder; take one with --config=...:model=NAME.")
    return {"seconds": args.seconds, "models": rows}
