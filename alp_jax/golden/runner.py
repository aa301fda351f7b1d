"""Finds the cases of a folder, runs each with the checker of its kind and counts what failed."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterator

from alp_jax.config.errors import ConfigError
from alp_jax.core.errors import AlpError, UserError
from alp_jax.core.names import nearest
from alp_jax.core.progress import Progress
from alp_jax.golden import caption, clap, functions, modules, optimizer, recipe, schedules, start_values, zipformer
from alp_jax.golden.case import Case, find_cases
from alp_jax.golden.compare import Line

CHECKERS: dict[str, Callable[[Case], Iterator[Line]]] = {
    "audio-caption": caption.check,
    "clap": clap.check,
    "schedules": schedules.check,
    "init_stats": start_values.check,
    **functions.CHECKS,
    **modules.CHECKS,
    **optimizer.CHECKS,
    **recipe.CHECKS,
    **zipformer.CHECKS,
}


@dataclasses.dataclass(frozen=True)
class CaseResult:
    """Outcome of one case: its lines, and why it stopped when it could not be run to its end."""

    case: str
    lines: tuple[Line, ...]
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether it ran to its end and every line is within its tolerance; a case without lines is not."""
        return not self.problem and bool(self.lines) and all(line.ok for line in self.lines)


def select(root: pathlib.Path, names: list[str], skip: list[str]) -> tuple[list[Case], list[Case]]:
    """(cases to run, cases left out) of ``root``; a name stands for a case or for a folder of cases.

    Raises:
      UserError: a name of neither a case nor a folder below ``root``.
    """
    cases = find_cases(root)
    for flag, given in (("--case", names), ("--skip", skip)):
        for name in given:
            if not any(_covers(name, case) for case in cases) and not (flag == "--skip" and (root / name).is_dir()):
                raise UserError(f"{flag} {name}: no such case{nearest(name, [case.name for case in cases])}")
    wanted = [case for case in cases if not names or any(_covers(name, case) for name in names)]
    left_out = [case for case in wanted if any(_covers(name, case) for name in skip)]
    return [case for case in wanted if case not in left_out], left_out


def _covers(name: str, case: Case) -> bool:
    return case.name == name or case.name.startswith(name.rstrip("/") + "/")


def run_case(case: Case, report: Callable[[str], None] = lambda line: None) -> CaseResult:
    """Runs one case; a kind without checker or an unusable file is a problem of that case, never an exception."""
    lines: list[Line] = []
    try:
        kind = case.config["kind"]
        if kind not in CHECKERS:
            raise UserError(f"kind {kind!r} has no checker")
        for line in CHECKERS[kind](case):
            lines.append(line)
            report(str(line))
        return CaseResult(case.name, tuple(lines))
    except (AlpError, ConfigError) as error:
        problem = " ".join(str(error).split())
    except Exception as error:  # a case that breaks the checker has failed; the others still run
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
    report(f"{case.name:<28} {'(did not finish)':<44} {problem}  FAIL")
    return CaseResult(case.name, tuple(lines), problem)


def check_folder(root: pathlib.Path, names: list[str], skip: list[str], report: Callable[[str], None]) -> dict:
    """Runs the cases of ``root``; see ``select``.

    Args:
      report: is told a line per tensor.

    Returns:
      Counts, the names of what failed, and the largest finite difference of every case that was run.
    """
    cases, left_out = select(root, names, skip)
    results = []
    with Progress("golden", len(cases), "cases") as progress:
        for case in cases:
            results.append(run_case(case, report))
            progress.update(note=case.name)
    failures = [result.case for result in results if not result.ok]
    finite = {r.case: [line.difference for line in r.lines if math.isfinite(line.difference)] for r in results}
    return {
        "cases": len(results),
        "failed": len(failures),
        "failures": failures,
        "skipped": [case.name for case in left_out],
        "tensors": sum(len(result.lines) for result in results),
        "largest_difference": {name: max(differences) for name, differences in finite.items() if differences},
    }
