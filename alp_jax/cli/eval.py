"""``alp eval``: the frozen encoder of a run or an import on every task of a data set, beside its baselines."""

import argparse
import dataclasses
import pathlib
import resource
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alp_jax.evaluation.suite import Suite

EXAMPLE = """alp eval --run runs/demo --suite mini
  alp eval --run runs/demo --suite paper --data data/benchmarks
  alp eval --hf wav2vec2-base --data data/mini --suite sound_event,speaker
  alp eval --run runs/demo --follow --suite sound_event,text_to_audio
  alp eval --model runs/imported --data data/mini --suite sound_event,text_to_audio --start runs/supervised"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--run", type=pathlib.Path, metavar="DIR", help="folder of a trained run")
    model.add_argument("--model", type=pathlib.Path, metavar="DIR", help="folder that 'alp import' made")
    model.add_argument(
        "--hf", type=pathlib.Path, metavar="DIR", help="folder of a transformers audio encoder, run by PyTorch"
    )
    parser.add_argument(
        "--suite",
        metavar="mini|paper|TASK,...",
        help="all tasks of the data set (mini), those of the paper's protocol on all of their clips (paper), or those "
        "named; by default the run's",
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="every checkpoint of --run as it comes, until the run is done; by default into RUN/eval/steps",
    )
    parser.add_argument("--step", type=int, help="checkpoint to evaluate; the last one by default")
    parser.add_argument("--since", type=int, help="mean of the parameters after this checkpoint (running average)")
    parser.add_argument(
        "--data", metavar="DIR", help="data set, or with --suite paper a folder of them; by default the run's own"
    )
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="where results go; by default RUN/eval")
    parser.add_argument(
        "--start",
        type=pathlib.Path,
        metavar="DIR",
        help="run or import to compare with; by default the encoder that training began with, if it did",
    )
    parser.add_argument(
        "--no_baselines", action="store_true", help="leave out the untrained encoder and the one training began with"
    )
    parser.add_argument(
        "--floors", type=pathlib.Path, metavar="FILE", help="file in which runs on the same data share floors"
    )
    parser.add_argument("--keep_features", action="store_true", help="leave the frame embeddings in OUT/cache")


def run(args: argparse.Namespace) -> dict:
    """Prints a table of results for every data set; see ``alp_jax.evaluation.suite.run_suite`` for the files.

    Baselines go to OUT/untrained and OUT/start; what is there already and still fits is not measured again.
    """
    from alp_jax.parallel.runtime import setup_runtime

    setup_runtime()
    from alp_jax.core.errors import AlpError
    from alp_jax.evaluation.stats.published import not_measured
    from alp_jax.evaluation.suite import run_suite
    from alp_jax.train.baselines import baseline_models
    from alp_jax.train.evaluate import eval_model, open_suite

    began, folder = time.monotonic(), args.run or args.model or args.hf
    if args.follow:
        return _follow(args)
    model, config = _foreign(args) if args.hf else eval_model(folder, args.step, args.since)
    sets = {}
    for place in places(args.data, args.suite):
        suite = open_suite(None if args.hf else folder, config, args.suite, place)
        data = str(suite.dataset.path)
        _require_tasks(data, suite)
        out = args.out or folder / "eval"
        if args.data and pathlib.Path(args.data) != place:
            out /= place.name
        floors = args.floors or out.parent / "floors.json"
        results = run_suite(model, suite, out, floors_path=floors, keep_features=args.keep_features)
        baselines = {}
        if not (args.no_baselines or args.hf):
            for name, other in baseline_models(folder, args.start):
                baselines[name] = run_suite(other, suite, out / name, floors_path=floors)
        short = {name: dataclasses.asdict(shortage) for name, shortage in suite.shortages.items()}
        sets[data] = {"out": str(out), "results": results, "baselines": baselines, "too_small": short}
        if not args.json:
            print(data, table(results, baselines), *too_small(suite), sep="\n", flush=True)
            print("\n".join([*notes(results), *overlaps(results)]))
    measured = [result["task"] for found in sets.values() for result in found["results"]]
    lacking = not_measured(measured) if args.suite == "paper" else []
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    summary = {"seconds": round(time.monotonic() - began, 1), "peak_gib": round(peak, 2), "not_measured": lacking}
    outs = ", ".join(found["out"] for found in sets.values())
    if not args.json:
        spent = f"{summary['seconds']:.0f} s, at most {peak:.1f} GiB"
        print(*lacking, f"{spent}; a JSON of each result in {outs}", sep="\n")
    every = [r for found in sets.values() for some in (found["results"], *found["baselines"].values()) for r in some]
    failed = [f"{r['task']}-{r['pooling']}" for r in every if "failed" in r]
    if failed:
        raise AlpError(f"{len(failed)} results failed: {', '.join(failed)}; reasons are in {outs}")
    return {"sets": sets} | summary


def too_small(suite: "Suite") -> list[str]:
    """A line for every task that the data set is too small for."""
    same = {}
    for name, shortage in suite.shortages.items():
        same.setdefault(str(shortage), []).append(name)
    return [f"{', '.join(names)}: {shortage}" for shortage, names in same.items()]


def _require_tasks(data: str, suite: "Suite") -> None:
    """Raises UserError when there is nothing to measure."""
    from alp_jax.core.errors import UserError

    if suite.names:
        return
    if not suite.shortages:
        raise UserError(f"data set {data} has no task: it needs labels, tags or captions in train and test")
    more = "; --option shares=60/10/30 of 'alp data build' gives more test clips"
    hint = more if "split_rule" in suite.dataset.info else ""
    raise UserError(f"data set {data} is too small for every task: {'; '.join(too_small(suite))}{hint}")


def _foreign(args: argparse.Namespace) -> tuple:
    """The encoder of ``--hf`` and the settings that it is evaluated with."""
    from alp_jax.config import RunConfig
    from alp_jax.config.schema import DataConfig
    from alp_jax.core.errors import UserError
    from alp_jax.interop.reading.torch_encoder import torch_encoder

    for name in ("step", "since", "start"):
        if getattr(args, name) is not None:
            raise UserError(f"--{name} is about runs: leave it out with --hf")
    if args.data is None:
        raise UserError("--hf needs --data: the encoder was not trained on a data set here")
    return torch_encoder(args.hf), RunConfig(data=DataConfig(path=str(places(args.data, args.suite)[0])))


def places(data: str | None, suite: str | None) -> list[pathlib.Path | None]:
    """The data sets to evaluate on: ``data``, or all that lie in it with ``suite`` paper; None for the run's own.

    Raises:
      UserError: ``data`` is no data set and holds none.
    """
    from alp_jax.core.errors import UserError
    from alp_jax.data.store.dataset import INFO

    if data is None:
        return [None]
    folder = pathlib.Path(data)
    if suite != "paper" or (folder / INFO).exists():
        return [folder]
    found = sorted(path.parent for path in folder.glob(f"*/{INFO}"))
    if not found:
        raise UserError(f"--data {data} is no data set and holds none; 'alp data build' makes one")
    return found


def _follow(args: argparse.Namespace) -> dict:
    """A line for every result of every checkpoint."""
    from alp_jax.core.errors import UserError
    from alp_jax.train.build import read_config
    from alp_jax.train.evaluate import open_suite
    from alp_jax.train.follow import CURVE, follow

    for name in ("model", "hf", "step", "since", "data", "start"):
        if getattr(args, name) is not None:
            raise UserError(f"--follow evaluates all checkpoints of --run with its own data: leave out --{name}")
    config = read_config(args.run)
    suite = open_suite(args.run, config, args.suite)
    _require_tasks(str(suite.dataset.path), suite)
    if not args.json and suite.shortages:
        print(*too_small(suite), sep="\n", flush=True)
    out = args.out or args.run / "eval" / "steps"
    floors = args.floors or args.run / "floors.json"
    found = []
    for step, results in follow(args.run, suite, out, floors):
        found += [{"step": step, **result} for result in results]
        if not args.json:
            print(f"step {step}", table(results, {}), sep="\n", flush=True)
    return {"out": str(out), "curve": str(out / CURVE), "results": found}


def table(results: list[dict], baselines: dict[str, list[dict]]) -> str:
    """A line per (task, pooling): value and interval beside chance, floor, baselines and the paper's encoders."""
    others = {name: {(r["task"], r["pooling"]): r for r in found} for name, found in baselines.items()}
    heads = ["chance", "floor", *others]
    rows = [["task", "pooling", "metric", "value", "95% interval", *heads, "paper"]]
    for r in results:
        if "failed" in r:
            rows.append([r["task"], r["pooling"], f"failed: {r['failed']}", *[""] * (len(heads) + 3)])
            continue
        beside = [found.get((r["task"], r["pooling"]), {}).get("value") for found in others.values()]
        values, paper = [r["chance"], r["floor"], *beside], r["published"].values()
        rows.append(
            [r["task"], r["pooling"], r["metric"], _number(r["value"]), _interval(r["interval"])]
            + [_number(value) for value in values]
            + [f"{min(paper):.3f} to {max(paper):.3f}" if paper else "-"]
        )
    widths = [max(len(row[k]) for row in rows if not row[2].startswith("failed")) for k in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(interval: list[float] | None) -> str:
    return "-" if interval is None else f"[{interval[0]:.3f}, {interval[1]:.3f}]"


def notes(results: list[dict]) -> list[str]:
    """A line for every task whose test clips are not all there, or whose headline metric is not computable."""
    from alp_jax.core.metrics import is_headline, title

    found = {r["task"]: r["missing"] for r in results if r.get("missing", {}).get("missing")}
    lines = []
    for task, m in found.items():
        reasons = ", ".join(f"{count} {reason}" for reason, count in m["reasons"].items())
        mark = "INCOMPLETE, " if m["incomplete"] else ""
        lines.append(f"{task}: {mark}{m['missing']} of {m['expected']} clips of its sources are not stored ({reasons})")
    skipped = {(r["task"], name, why) for r in results for name, why in r.get("skipped", {}).items()}
    return lines + [f"{task}: no {title(name)}: {why}" for task, name, why in sorted(skipped) if is_headline(name)]


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
