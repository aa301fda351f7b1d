"""``alp golden``: compares this project with reference vectors, a line per tensor."""

import json
import pathlib
import sys

from alp_jax.core.errors import AlpError

EXAMPLE = "alp golden --dir vectors --skip modules,scaled_adam_toy"


def add_arguments(parser) -> None:
    parser.add_argument("--dir", required=True, type=pathlib.Path, help="folder of cases, each with a config.json")
    parser.add_argument("--case", nargs="+", default=[], metavar="NAME", help="check only these cases or folders")
    parser.add_argument(
        "--skip", default="", metavar="NAME,...", help="leave these cases or folders out; others must pass"
    )


def run(args) -> dict:
    """Prints ``case tensor max|difference| tolerance ok`` lines and always ends with the JSON line.

    Raises:
      UserError: no such folder or case.
      AlpError: some case failed or could not be run.
    """
    from alp_jax.core.progress import say
    from alp_jax.golden.runner import check_folder

    def report(line):
        if not args.json:
            say(line, sys.stdout)

    summary = check_folder(args.dir, args.case, [name for name in args.skip.split(",") if name], report)
    if summary["failed"] or not args.json:  # under --json the caller prints the result of a success
        print(json.dumps(summary, sort_keys=True, allow_nan=False), flush=True)
    if summary["failed"]:
        failures = ", ".join(summary["failures"])
        raise AlpError(f"{summary['failed']} of {summary['cases']} cases failed: {failures}")
    return summary
