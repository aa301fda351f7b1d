"""``alp qa``: questions about sounds, answered by a frozen language model behind an adapter to a frozen encoder."""

import argparse
import dataclasses
from collections.abc import Callable

from alp_jax.cli.parsers import add_action
from alp_jax.core.errors import UserError
from alp_jax.core.storage import local_path, location

EXAMPLE = """alp qa questions --data data/mini --split train --out qa/train.jsonl
  alp qa questions --data data/mini --split test --out qa/test.jsonl
  alp qa train --run runs/demo --qa_model models/Qwen2.5-7B-Instruct --questions qa/train.jsonl --out qa/adapter
  alp qa answer --run runs/demo --qa_model models/Qwen2.5-7B-Instruct --adapter qa/adapter \\
      --questions qa/test.jsonl --out qa/answers.jsonl
  alp qa score qa/answers.jsonl --out qa/results
  ALP_JUDGE_URL=https://HOST/v1 ALP_JUDGE_MODEL=NAME ALP_JUDGE_KEY=... \\
      alp qa judge qa/answers.jsonl --out qa/judged.jsonl"""
_KINDS = "name,yes_no,choice"
_SIDES = "alp qa {} --run runs/demo --qa_model models/Qwen2.5-0.5B-Instruct --questions qa/{}.jsonl "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    example = "alp qa questions --data data/mini --split train --out qa/train.jsonl"
    ask = add_action(actions, "questions", "write template questions about a data set's clips", example)
    ask.add_argument("--data", required=True, metavar="DIR", help="built data set with labels, tags or captions")
    ask.add_argument("--split", choices=("train", "test"), required=True)
    ask.add_argument("--kinds", default=_KINDS, help=f"of name, yes_no, choice and describe (default {_KINDS})")
    ask.add_argument("--tasks", default="", metavar="TASK,...", help="labels to ask about; all by default")
    ask.add_argument("--limit", type=int, default=0, metavar="N", help="clips per task; 0 takes all")
    ask.add_argument("--out", type=local_path, required=True, metavar="FILE", help="JSON lines to write")
    example = _SIDES.format("train", "train") + "--out qa/adapter"
    _add_train(add_action(actions, "train", "train an adapter; nothing else learns", example))
    example = _SIDES.format("answer", "test") + "\\\n      --adapter qa/adapter --out qa/answers.jsonl"
    _add_answer(add_action(actions, "answer", "answer questions through a trained adapter", example))
    score = add_action(
        actions, "score", "score answers without a judge", "alp qa score qa/answers.jsonl --out qa/results"
    )
    score.add_argument("answers", type=local_path, metavar="FILE", help="answers as JSON lines")
    score.add_argument("--out", type=local_path, required=True, metavar="DIR", help="folder for a JSON per task")
    text = "have a language model rate answers; ALP_JUDGE_URL, ALP_JUDGE_MODEL and ALP_JUDGE_KEY say which"
    judge = add_action(actions, "judge", text, "alp qa judge qa/answers.jsonl --out qa/judged.jsonl")
    judge.add_argument("answers", type=local_path, metavar="FILE", help="answers as JSON lines")
    judge.add_argument("--out", type=local_path, required=True, metavar="FILE", help="ratings; results go beside it")
    judge.add_argument(
        "--no_swap", action="store_true", help="ask once, not in both orders: half the price, biased by the order"
    )
    judge.add_argument("--workers", type=int, default=4, metavar="N", help="answers rated at a time (default 4)")
    judge.add_argument("--timeout", type=float, default=60.0, metavar="S", help="seconds for one reply (default 60)")


def _add_model(parser: argparse.ArgumentParser) -> None:
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--run", type=location, metavar="DIR", help="folder of a trained run: the frozen encoder")
    model.add_argument("--model", type=location, metavar="DIR", help="folder that 'alp import' made")
    parser.add_argument("--step", type=int, help="checkpoint of the run; the last one by default")
    parser.add_argument(
        "--qa_model", type=local_path, required=True, metavar="DIR",
        help="Qwen2.5 as published: config.json, tokenizer.json, model*.safetensors",
    )  # fmt: skip
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16", help="of the language model")
    parser.add_argument("--questions", type=local_path, required=True, metavar="FILE", help="JSON, or a folder of it")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--data", metavar="DIR", help="data set with the clips; by default the encoder's own")
    where.add_argument("--audio", type=local_path, metavar="DIR", help="AIR-Bench's Chat or Foundation folder")
    parser.add_argument("--max_seconds", type=float, default=30.0, help="longer sounds are cut (default 30)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes that decode files (default 2)")
    parser.add_argument("--batch", type=int, default=16, metavar="N", help="questions at a time (default 16)")


def _add_train(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--steps", type=int, default=1000, help="the fewest (default 1000)")
    parser.add_argument("--epochs", type=float, default=1.0, help="passes of a set that is larger (default 1)")
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate (default 0.001)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stack", type=int, default=5, help="frames that become one position (default 5)")
    parser.add_argument("--hidden", type=int, default=2048, help="width of the adapter (default 2048)")
    parser.add_argument("--max_frames", type=int, default=500, help="longer sounds are averaged down (default 500)")
    parser.add_argument("--out", type=local_path, required=True, metavar="DIR", help="folder for the adapter")


def _add_answer(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--adapter", type=local_path, required=True, metavar="DIR", help="folder of 'alp qa train'")
    parser.add_argument("--max_tokens", type=int, default=64, help="longest answer (default 64)")
    parser.add_argument("--out", type=local_path, required=True, metavar="FILE", help="answers as JSON lines")


def run(args: argparse.Namespace) -> dict:
    """Runs the action; answers and ratings that already exist are kept."""
    for name in ("batch", "workers", "steps", "epochs", "max_tokens", "max_seconds", "timeout"):
        if getattr(args, name, 1) <= 0:
            raise UserError(f"--{name} = {getattr(args, name)} must be above 0")
    actions = {"questions": _questions, "train": _train, "answer": _answer, "score": _score, "judge": _judge}
    return actions[args.action](args, print if not args.json else lambda line: None)


def _questions(args: argparse.Namespace, tell: Callable[[str], None]) -> dict:
    from alp_jax.data.store.dataset import open_dataset
    from alp_jax.evaluation.qa.format import write_questions
    from alp_jax.evaluation.qa.templates import count_kinds, template_questions

    tasks = [name for name in args.tasks.split(",") if name]
    asked = template_questions(open_dataset(args.data), args.split, args.kinds.split(","), tasks, args.limit)
    write_questions(args.out, asked)
    counts = count_kinds(asked)
    tell(f"{args.out}: {len(asked)} questions: " + ", ".join(f"{count} {task}" for task, count in counts.items()))
    return {"out": str(args.out), "questions": counts}


def _inputs(args: argparse.Namespace):
    from alp_jax.parallel.runtime import setup_runtime

    setup_runtime()
    from alp_jax.evaluation.qa.actions import QaInputs
    from alp_jax.evaluation.qa.chat import LanguageModel, read_chat_tokenizer
    from alp_jax.evaluation.qa.format import read_questions
    from alp_jax.interop.formats.qwen import load_qwen
    from alp_jax.train.build import find_data
    from alp_jax.train.evaluate import eval_model

    folder, questions = args.run or args.model, read_questions(args.questions)
    encoder, config = eval_model(folder, args.step)
    tokenizer = read_chat_tokenizer(args.qa_model)
    return QaInputs(
        encoder,
        LanguageModel(*load_qwen(args.qa_model, args.dtype), tokenizer, args.dtype),
        questions,
        dataclasses.replace(config.evaluation, max_seconds=args.max_seconds),
        config.data.bucket_seconds,
        args.data or find_data(folder, config) or config.data.path,
        args.audio,
        args.workers,
    )


def _train(args: argparse.Namespace, tell: Callable[[str], None]) -> dict:
    from alp_jax.evaluation.qa.actions import train_adapter
    from alp_jax.evaluation.qa.learn import LearnConfig

    chosen = {name: getattr(args, name) for name in ("steps", "epochs", "batch", "rate", "seed")}
    settings = LearnConfig(**chosen)
    return train_adapter(lambda: _inputs(args), settings, args.stack, args.hidden, args.max_frames, args.out, tell)


def _answer(args: argparse.Namespace, tell: Callable[[str], None]) -> dict:
    from alp_jax.evaluation.qa.actions import answer_questions

    return answer_questions(lambda: _inputs(args), args.adapter, args.max_tokens, args.batch, args.out, tell)


def _score(args: argparse.Namespace, tell: Callable[[str], None]) -> dict:
    from alp_jax.evaluation.qa.actions import score_answers

    return score_answers(args.answers, args.out, tell)


def _judge(args: argparse.Namespace, tell: Callable[[str], None]) -> dict:
    from alp_jax.evaluation.qa.actions import judge_answers

    options = {"swap": not args.no_swap, "workers": args.workers, "timeout_s": args.timeout}
    return judge_answers(args.answers, args.out, **options, tell=tell)
