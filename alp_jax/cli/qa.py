"""``alp qa``: questions about sounds, answered by a frozen language model behind an adapter to a frozen encoder."""

import argparse
import pathlib
import shutil

from alp_jax.cli.parsers import add_action
from alp_jax.core.errors import UserError

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
    ask.add_argument("--out", type=pathlib.Path, required=True, metavar="FILE", help="JSON lines to write")
    example = _SIDES.format("train", "train") + "--out qa/adapter"
    _add_train(add_action(actions, "train", "train an adapter; nothing else learns", example))
    example = _SIDES.format("answer", "test") + "\\\n      --adapter qa/adapter --out qa/answers.jsonl"
    _add_answer(add_action(actions, "answer", "answer questions through a trained adapter", example))
    score = add_action(
        actions, "score", "score answers without a judge", "alp qa score qa/answers.jsonl --out qa/results"
    )
    score.add_argument("answers", type=pathlib.Path, metavar="FILE", help="answers as JSON lines")
    score.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR", help="folder for a JSON per task")
    text = "have a language model rate answers; ALP_JUDGE_URL, ALP_JUDGE_MODEL and ALP_JUDGE_KEY say which"
    judge = add_action(actions, "judge", text, "alp qa judge qa/answers.jsonl --out qa/judged.jsonl")
    judge.add_argument("answers", type=pathlib.Path, metavar="FILE", help="answers as JSON lines")
    judge.add_argument("--out", type=pathlib.Path, required=True, metavar="FILE", help="ratings; results go beside it")
    judge.add_argument(
        "--no_swap", action="store_true", help="ask once, not in both orders: half the price, a biased place"
    )
    judge.add_argument("--workers", type=int, default=4, metavar="N", help="answers rated at a time (default 4)")
    judge.add_argument("--timeout", type=float, default=60.0, metavar="S", help="seconds for one reply (default 60)")


def _add_model(parser: argparse.ArgumentParser) -> None:
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--run", type=pathlib.Path, metavar="DIR", help="folder of a trained run: the frozen encoder")
    model.add_argument("--model", type=pathlib.Path, metavar="DIR", help="folder that 'alp import' made")
    parser.add_argument("--step", type=int, help="checkpoint of the run; the last one by default")
    parser.add_argument(
        "--qa_model", type=pathlib.Path, required=True, metavar="DIR",
        help="Qwen2.5 as published: config.json, tokenizer.json, model*.safetensors",
    )  # fmt: skip
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16", help="of the language model")
    parser.add_argument("--questions", type=pathlib.Path, required=True, metavar="FILE", help="JSON or JSON lines")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--data", metavar="DIR", help="data set with the clips; by default the encoder's own")
    where.add_argument("--audio", type=pathlib.Path, metavar="DIR", help="AIR-Bench's Chat or Foundation folder")
    parser.add_argument("--max_seconds", type=float, default=30.0, help="longer sounds are cut (default 30)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes that decode files (default 2)")
    parser.add_argument("--batch", type=int, default=16, metavar="N", help="questions at a time (default 16)")


def _add_train(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--steps", type=int, default=1000, help="(default 1000)")
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate (default 0.001)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stack", type=int, default=5, help="frames that become one position (default 5)")
    parser.add_argument("--hidden", type=int, default=2048, help="width of the adapter (default 2048)")
    parser.add_argument("--max_frames", type=int, default=500, help="longer sounds are averaged down (default 500)")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="DIR", help="folder for the adapter")


def _add_answer(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--adapter", type=pathlib.Path, required=True, metavar="DIR", help="folder of 'alp qa train'")
    parser.add_argument("--max_tokens", type=int, default=64, help="longest answer (default 64)")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="FILE", help="answers as JSON lines")


def run(args: argparse.Namespace) -> dict:
    """Runs the action; answers and ratings that were there already are kept."""
    actions = {"questions": _questions, "train": _train, "answer": _answer, "score": _score, "judge": _judge}
    for name in ("batch", "workers", "steps", "max_tokens", "max_seconds", "timeout"):
        if getattr(args, name, 1) <= 0:
            raise UserError(f"--{name} = {getattr(args, name)} must be above 0")
    return actions[args.action](args)


def _questions(args: argparse.Namespace) -> dict:
    from alp_jax.data.store.dataset import open_dataset
    from alp_jax.evaluation.qa.format import write_questions
    from alp_jax.evaluation.qa.templates import count_kinds, template_questions

    tasks = [name for name in args.tasks.split(",") if name]
    asked = template_questions(open_dataset(args.data), args.split, args.kinds.split(","), tasks, args.limit)
    write_questions(args.out, asked)
    if not args.json:
        print(
            f"{args.out}: {len(asked)} questions: " + ", ".join(f"{n} {task}" for task, n in count_kinds(asked).items())
        )
    return {"out": str(args.out), "questions": count_kinds(asked)}


class _Side:
    """What training and answering share: the encoder, the language model, the questions and their sounds."""

    def __init__(self, args: argparse.Namespace):
        from alp_jax.parallel.runtime import setup_runtime

        setup_runtime()
        from alp_jax.evaluation.qa.chat import LanguageModel, read_chat_tokenizer
        from alp_jax.evaluation.qa.format import read_questions
        from alp_jax.interop.formats.qwen import load_qwen
        from alp_jax.train.evaluate import eval_model

        self.args, self.questions = args, read_questions(args.questions)
        self.encoder, self.config = eval_model(args.run or args.model, args.step)
        tokenizer = read_chat_tokenizer(args.qa_model)
        self.model = LanguageModel(*load_qwen(args.qa_model, args.dtype), tokenizer, args.dtype)
        self.origin = {"encoder": [self.encoder.name, self.encoder.identity]}

    def sounds(self, max_frames: int, cache: pathlib.Path):
        """Reads frames; those of a data set's clips lie in ``cache`` meanwhile."""
        import dataclasses

        from alp_jax.data.store.dataset import open_dataset
        from alp_jax.evaluation.qa.sounds import ClipSounds, FileSounds
        from alp_jax.train.build import find_data

        args, evaluation = self.args, self.config.evaluation
        if args.audio:
            return FileSounds(
                self.encoder, args.audio, max_seconds=args.max_seconds, batch_seconds=evaluation.batch_seconds,
                max_frames=max_frames, workers=args.workers,
            )  # fmt: skip
        evaluation = dataclasses.replace(evaluation, max_seconds=args.max_seconds)
        place = args.data or find_data(args.run or args.model, self.config) or self.config.data.path
        dataset = open_dataset(place)
        buckets = self.config.data.bucket_seconds
        return ClipSounds(
            self.encoder, dataset, self.questions, cache, evaluation, bucket_seconds=buckets, max_frames=max_frames
        )


def _train(args: argparse.Namespace) -> dict:
    from alp_jax.evaluation.qa.adapter import SETTINGS, AdapterConfig, save_adapter

    if (args.out / SETTINGS).exists():
        raise UserError(f"{args.out} holds an adapter already: take another --out or remove it")
    side = _Side(args)
    import numpy as np

    from alp_jax.evaluation.qa import learn

    learning = learn.LearnConfig(steps=args.steps, batch=args.batch, rate=args.rate, seed=args.seed)
    cache = args.out / "cache"
    width = side.encoder.frames(np.zeros((1, 16_000), np.int16), np.array([16_000], np.int32))[0].shape[-1]
    sizes = AdapterConfig(width, side.model.config.hidden_size, args.stack, args.hidden, args.max_frames)
    adapter = learn.train(side.questions, side.sounds(args.max_frames, cache), side.model, sizes, learning, side.origin)
    save_adapter(args.out, adapter)
    shutil.rmtree(cache, ignore_errors=True)
    told = {name: adapter.origin[name] for name in ("held_loss", "step", "history", "selection")}
    if not args.json:
        print(f"{args.out}: {len(side.questions)} questions, loss {told['held_loss']:.3f} on held {told['selection']}")
    return {"out": str(args.out), "questions": len(side.questions)} | told


def _answer(args: argparse.Namespace) -> dict:
    from alp_jax.core.files import sha256
    from alp_jax.core.hashing import fingerprint
    from alp_jax.evaluation.qa.adapter import WEIGHTS, load_adapter
    from alp_jax.evaluation.qa.journal import Journal

    adapter, side = load_adapter(args.adapter), _Side(args)
    from alp_jax.evaluation.qa.answer import Answerer, answer_all

    if adapter.origin.get("encoder") != side.origin["encoder"]:
        name = (adapter.origin.get("encoder") or ["another encoder"])[0]
        raise UserError(f"the adapter {args.adapter} was trained on {name}, not on {side.encoder.name}")
    answerer = Answerer(side.model, adapter, max_tokens=args.max_tokens, batch=args.batch)
    identity = {
        "model": side.encoder.name,
        "adapter": sha256(args.adapter / WEIGHTS),
        "language_model": [side.model.identity, args.dtype],
        "questions": fingerprint([question.record() for question in side.questions]),
        "settings": [args.max_tokens, args.max_seconds],
    }
    journal, cache = Journal(args.out, identity), args.out.with_name(args.out.name + ".cache")
    records, missing = answer_all(side.questions, side.sounds(adapter.config.max_frames, cache), answerer, journal)
    shutil.rmtree(cache, ignore_errors=True)
    if not args.json:
        print(f"{args.out}: {len(records)} answers" + f", {len(missing)} sounds are not there" * bool(missing))
    return {"out": str(args.out), "answers": len(records), "missing": [question.path for question in missing]}


def _origin(path: pathlib.Path) -> dict:
    """What results say of where answers are from; those of other programs say their file alone."""
    from alp_jax.core.files import read_json, sha256

    origin = path.with_name(path.name + ".from.json")
    made = read_json(origin) if origin.exists() else {}
    return {"model": made.get("model", path.stem), "fingerprint": sha256(path), "answers": str(path)}


def _score(args: argparse.Namespace) -> dict:
    from alp_jax.evaluation.qa import score
    from alp_jax.evaluation.qa.format import read_answers

    answers = read_answers(args.answers)
    return _written(args, args.out, score.results(answers, _origin(args.answers)))


def _judge(args: argparse.Namespace) -> dict:
    import os

    from alp_jax.evaluation.qa import judge
    from alp_jax.evaluation.qa.format import read_answers
    from alp_jax.evaluation.qa.journal import Journal

    answers, there = read_answers(args.answers), judge.endpoint(os.environ)
    origin = _origin(args.answers)
    identity = {"answers": origin["fingerprint"], "url": there.url, "judge": there.model, "swap": not args.no_swap}
    options = {"swap": not args.no_swap, "workers": args.workers, "timeout_s": args.timeout}
    records = judge.rate_all(there, answers, Journal(args.out, identity), **options)
    found = judge.results([question for question, _ in answers], records, origin | {"judge": there.model})
    return _written(args, args.out.parent, found)


def _written(args: argparse.Namespace, out: pathlib.Path, results: list[dict]) -> dict:
    """Writes one JSON per result and prints a table of every metric."""
    from alp_jax.core.files import write_json

    for result in results:
        write_json(out / f"{result['task']}-{result['pooling']}.json", result)
    if not args.json:
        width = max(len(result["task"]) for result in results)
        for result in results:
            for name, found in result["metrics"].items():
                low, high = found["interval"]
                chance = "" if found["chance"] is None else f"  chance {found['chance']:.3f}"
                line = f"{name:<16}{found['value']:>7.3f} [{low:.3f}, {high:.3f}]{chance}"
                print(f"{result['task']:<{width}}  {result['n_test']:>6} answers  {line}")
            if result.get("nonsense_replies"):
                print(f"{result['task']:<{width}}  {result['nonsense_replies']} replies of the judge are no two scores")
    return {"out": str(out), "results": results}
