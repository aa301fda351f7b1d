"""``alp eval``: the frozen encoder of a run on every probe and retrieval task of a data set."""

import argparse
import dataclasses
import pathlib

EXAMPLE = "alp eval --run runs/demo --suite mini"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", required=True, type=pathlib.Path, metavar="DIR", help="folder of a trained run")
    parser.add_argument(
        "--suite", metavar="mini|TASK,...", help="all tasks of the data set (mini) or those named; by default the run's"
    )
    parser.add_argument("--step", type=int, help="checkpoint to evaluate; the last one by default")
    parser.add_argument("--since", type=int, help="mean of the parameters after this checkpoint (running average)")
    parser.add_argument("--data", metavar="DIR", help="data set; by default the one the run was trained on")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="where results go; by default RUN/eval")
    parser.add_argument(
        "--floors", type=pathlib.Path, metavar="FILE", help="file in which runs on the same data share floors"
    )
    parser.add_argument("--keep_features", action="store_true", help="leave the frame embeddings in OUT/cache")


def run(args: argparse.Namespace) -> dict:
    """Prints a table of results; see ``alp_jax.evaluation.suite.run_suite`` for the files."""
    from alp_jax.parallel.runtime import setup_runtime

    setup_runtime()
    from alp_jax.core.errors import AlpError, UserError
    from alp_jax.evaluation.suite import run_suite
    from alp_jax.train.evaluate import eval_model, open_suite, trained_on

    model, config = eval_model(args.run, args.step, args.since)
    if args.data:
        vocabulary = config.data.tokenizer or str(pathlib.Path(config.data.path) / "tokenizer.model")
        data = dataclasses.replace(config.data, path=args.data, tokenizer=vocabulary)
        config = dataclasses.replace(config, data=data)
    suite = open_suite(config, args.suite or config.evaluation.suite, trained_on(args.run))
    if not suite.names:
        raise UserError(f"data set {config.data.path} has no task: it needs labels, tags or captions in train and test")
    out = args.out or args.run / "eval"
    floors = args.floors or out.parent / "floors.json"
    results = run_suite(model, suite, out, floors_path=floors, keep_features=args.keep_features)
    if not args.json:
        print(table(results))
        print("\n".join(overlaps(results)))
    failed = [f"{result['task']}-{result['pooling']}" for result in results if "failed" in result]
    if failed:
        raise AlpError(f"{len(failed)} of {len(results)} results failed: {', '.join(failed)}; reasons are in {out}")
    return {"out": str(out), "results": results}


def table(results: list[dict]) -> str:
    """A line per (task, pooling): value and interval beside chance and floor."""
    lines = [
        f"{'task':<16} {'pooling':<17} {'metric':<14} {'value':>6}  {'95% interval':<16} {'chance':>6} {'floor':>6}"
    ]
    for r in results:
        if "failed" in r:
            lines.append(f"{r['task']:<16} {r['pooling']:<17} failed: {r['failed']}")
            continue
        interval = f"[{r['interval'][0]:.3f}, {r['interval'][1]:.3f}]"
        lines.append(
            f"{r['task']:<16} {r['pooling']:<17} {r['metric']:<14} {r['value']:>6.3f}  {interval:<16} "
            f"{r['chance']:>6.3f} {r['floor']:>6.3f}"
        )
    return "\n".join(lines)


def overlaps(results: list[dict]) -> list[str]:
    """What is known of training clips among the test clips, a line for every task that has any."""
    found = {r["task"]: r["overlap"] for r in results if "overlap" in r}
    unknown = {shares["unknown"] for shares in found.values() if "unknown" in shares}
    lines = [f"test clips that were trained on: {why}" for why in sorted(unknown)]
    for task, shares in found.items():
        if shares.get("any"):
            kinds = ", ".join(f"{share:.1%} by {kind}" for kind, share in shares.items() if share and kind != "any")
            lines.append(f"{task}: {shares['any']:.1%} of the test clips were trained on ({kinds})")
    return lines or ["no test clip was trained on"]
