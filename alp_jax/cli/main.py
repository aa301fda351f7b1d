"""Parses the verb, runs it, and turns every failure a user can cause into one line and an exit code.

None of our modules is loaded before the verb is known, so that ``alp --help`` costs no more than starting Python.
"""

import argparse
import importlib
import json
import os
import sys

# verb -> (module under alp_jax.cli, one line of help)
VERBS = {
    "quickstart": ("quickstart", "real audio to scaling report and PyTorch export, end to end on one CPU"),
    "data": ("data_verbs.actions", "fetch, build, verify and describe data sets"),
    "tokenizer": ("tokenizer", "train a sentencepiece vocabulary on a data set's captions"),
    "tags": ("tags", "choose the tags that a tagging run learns"),
    "train": ("train", "train one model"),
    "ckpt": ("ckpt", "list, inspect and verify the checkpoints of a run"),
    "plan": ("plan", "compile a run for devices that are not there: memory, bytes, collectives, days"),
    "launch": ("launch", "start a run in several processes here, under SLURM, on GKE or on TPU VMs"),
    "sweep": ("sweep", "train and evaluate a grid of runs, here or under a scheduler, resumable"),
    "eval": ("eval", "evaluate the frozen encoder of a run"),
    "qa": ("qa", "questions about sounds, answered by a frozen language model behind a small adapter"),
    "embed": ("embed", "one vector per audio file of a folder, from a frozen encoder"),
    "scaling": ("scaling", "fit scaling curves and write the report"),
    "export": ("export", "hand a trained model to PyTorch and its toolboxes, with proof of parity"),
    "import": ("import_", "take an encoder or a text tower from another toolbox as a start"),
    "golden": ("golden", "check the models against a folder of reference vectors"),
    "bench": ("bench", "measure the step, the loss, reading and indexes on this machine"),
    "models": ("models", "list the model presets with their sizes and costs"),
    "doctor": (
        "doctor",
        "show hosts, devices, versions, bandwidth, disk space; fail where a configuration does not fit",
    ),
}


def verb_parser(verb: str) -> tuple[argparse.ArgumentParser, object]:
    """The parser of one verb and its module, which has ``add_arguments(parser)``, ``run(args)`` and ``EXAMPLE``."""
    from alp_jax.cli.parsers import JSON_HELP, Parser, help_options

    name, help_text = VERBS[verb]
    module = importlib.import_module(f"alp_jax.cli.{name}")
    parser = Parser(prog=f"alp {verb}", **help_options(help_text, module.EXAMPLE))
    parser.add_argument("--json", action="store_true", help=JSON_HELP)
    module.add_arguments(parser)
    return parser, module


def overview() -> str:
    lines = [f"  {verb:<12} {text}" for verb, (_, text) in VERBS.items()]
    return "usage: alp VERB ...\n\nverbs:\n" + "\n".join(lines) + "\n\n'alp VERB --help' shows options and an example."


def main(argv: list[str] | None = None) -> int:
    """Runs ``argv`` and returns the exit status; the processes of a run of several end together."""
    _take_closed_streams()
    code, line = _run(sys.argv[1:] if argv is None else argv)
    hosts = sys.modules.get("alp_jax.parallel.hosts")  # loaded by the commands that run on several hosts
    if hosts is not None:
        hosts.leave(code, line)
    return code


def _take_closed_streams() -> None:
    """Puts the null device in place of standard streams that are closed, here and for child processes.

    Otherwise the next file opened would get their descriptor, and receive whatever libraries print.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def _run(argv: list[str]) -> tuple[int, str]:
    """The exit status of ``argv``, and the line that explains a failure."""
    if not argv or argv[0] in ("-h", "--help"):
        print(overview())
        return (0 if argv else 2), ""
    from alp_jax.config import ConfigError, hints
    from alp_jax.core.errors import PATH_PROBLEMS, AlpError, UserError

    try:
        if argv[0] not in VERBS:
            import difflib

            close = difflib.get_close_matches(argv[0], VERBS, n=1)
            hint = f"did you mean 'alp {close[0]}'?" if close else "'alp --help' lists the verbs"
            raise UserError(f"unknown verb {argv[0]!r}: {hint}")
        parser, module = verb_parser(argv[0])
        args, rest = parser.parse_known_args(argv[1:])
        if rest and not (hasattr(args, "config") and rest[0].startswith("--config.")):
            meant = hints.of_name(rest[0]) if hasattr(args, "config") else ""
            parser.error(f"unknown argument {rest[0]!r}{meant}")
        if hasattr(args, "config"):
            args.overrides = rest
        result = module.run(args)
        hosts = sys.modules.get("alp_jax.parallel.hosts")
        if args.json and (hosts is None or hosts.is_primary()):
            print(json.dumps(result, sort_keys=True, allow_nan=False))
        return 0, ""
    except (UserError, ConfigError) as error:
        return _fail(error, 2)
    except AlpError as error:
        return _fail(error, error.exit_code)
    except tuple(PATH_PROBLEMS) as error:
        return _fail(f"{error.filename2 or error.filename} {PATH_PROBLEMS[type(error)]}", 2)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command resumes where it stopped", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1, ""


def _fail(error: object, code: int) -> tuple[int, str]:
    from alp_jax.core.progress_bar import show

    line = " ".join(str(error).split())
    show(f"alp: {line}\n", sys.stderr)
    return code, line
