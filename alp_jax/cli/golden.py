"""``alp golden``: reference vectors against this project, a line per tensor."""

import json
import math
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
    from alp_jax.core.progress import Progress, say
    from alp_jax.golden.runner import run_case, select

    def report(line):
        if not args.json:
            say(str(line), sys.stdout)

    cases, left_out = select(args.dir, args.case, [name for name in args.skip.split(",") if name])
    results = []
    with Progress("golden", len(cases), "cases") as progress:
        for case in cases:
            result = run_case(case, report)
            if result.problem and not args.json:
                say(f"{result.case:<28} {'(not run to its end)':<44} {result.problem}  FAIL", sys.stdout)
            results.append(result)
            progress.update(note=case.name)
    summary = summarise(results, [case.name for case in left_out])
    failed = summary["failed"]
    if failed or not args.json:  # under --json the caller prints the result of a success
        print(json.dumps(summary, sort_keys=True, allow_nan=False), flush=True)
    if failed:
        raise AlpError(f"{failed} of {len(results)} cases failed: {', '.join(summary['failures'])}")
    return summary


def summarise(results, left_out: list[str]) -> dict:
    """Counts, the names of what failed and the largest finite difference of every case that was run."""
    failures = [result.case for result in results if not result.ok]
    worst = {}
    for result in results:
        finite = [line.difference for line in result.lines if math.isfinite(line.difference)]
        if finite:
            worst[result.case] = max(finite)
    return {
        "cases": len(results),
        "failed": len(failures),
        "failures": failures,
        "skipped": left_out,
        "tensors": sum(len(result.lines) for result in results),
        "largest_difference": worst,
    }
