"""``alp eval``: the frozen encoder of a run or an import on every task of a data set, beside its baselines."""

import argparse
from collections.abc import Callable

from alp_jax.core.errors import UserError
from alp_jax.core.storage import local_path, location

EXAMPLE = """alp eval --run runs/demo --suite mini
  alp eval --run runs/demo --suite paper --data data/benchmarks
  alp eval --hf wav2vec2-base --data data/mini --suite sound_event,speaker
  alp eval --run runs/demo --follow --suite sound_event,text_to_audio
  alp eval --model runs/imported --data data/mini --suite sound_event,text_to_audio --start runs/supervised"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--run", type=location, metavar="DIR", help="folder of a trained run")
    model.add_argument("--model", type=location, metavar="DIR", help="folder that 'alp import' made")
    model.add_argument(
        "--hf", type=local_path, metavar="DIR", help="folder of a transformers audio encoder, run by PyTorch"
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
    parser.add_argument("--out", type=location, metavar="DIR", help="where results go; by default RUN/eval")
    start = "run or import to compare with; by default the encoder that training began with, if it did"
    parser.add_argument("--start", type=location, metavar="DIR", help=start)
    none = "leave out the untrained encoder and the one training began with"
    parser.add_argument("--no_baselines", action="store_true", help=none)
    dry = "only tell what memory, disk and hours it will take, here and on an H100"
    parser.add_argument("--dry_run", action="store_true", help=dry)
    parser.add_argument(
        "--floors", type=location, metavar="FILE", help="file in which runs on the same data share floors"
    )
    parser.add_argument("--keep_features", action="store_true", help="keep the frame embeddings in OUT/cache")


def run(args: argparse.Namespace) -> dict:
    """Measures the encoder; standard output gets a table for every data set, or for every checkpoint."""
    from alp_jax.parallel.runtime import setup_runtime

    setup_runtime()
    from alp_jax.train.evaluate_sets import evaluate_sets

    def tell(lines: str) -> None:
        if not args.json:
            print(lines, flush=True)

    if args.follow:
        return _follow(args, tell)
    foreign = None
    if args.hf:
        from alp_jax.interop.reading.torch_encoder import torch_encoder

        _refuse(args, "step since start", "--{} is about runs: leave it out with --hf")
        if args.data is None:
            raise UserError("--hf needs --data: the encoder was not trained on a data set here")
        foreign = torch_encoder(args.hf)
    return evaluate_sets(
        args.run or args.model or args.hf,
        foreign=foreign,
        step=args.step,
        since=args.since,
        suite=args.suite,
        data=args.data,
        out=args.out,
        start=args.start,
        baselines=not args.no_baselines,
        floors=args.floors,
        keep_features=args.keep_features,
        dry_run=args.dry_run,
        tell=tell,
    )


def _follow(args: argparse.Namespace, tell: Callable[[str], None]) -> dict:
    from alp_jax.train.follow import follow_run

    text = "--follow evaluates all checkpoints of --run with its own data, without baselines: leave out --{}"
    _refuse(args, "model hf step since data start no_baselines", text)
    return follow_run(args.run, args.suite, args.out, args.floors, tell, keep_features=args.keep_features)


def _refuse(args: argparse.Namespace, names: str, text: str) -> None:
    for name in names.split():
        if getattr(args, name) is not None and getattr(args, name) is not False:
            raise UserError(text.format(name))
