"""Questions that a ledger answers, by their names on the command line; a new one is a file and a line here."""

import pathlib
from typing import Any, Protocol

from alp_jax.core.names import choose
from alp_jax.scaling.laws.curves import keep_rows
from alp_jax.scaling.laws.read_table import read_table
from alp_jax.scaling.questions.budget import ask_budget
from alp_jax.scaling.questions.crossover import ask_crossover
from alp_jax.scaling.questions.equivalent import ask_equivalent
from alp_jax.scaling.questions.next_run import ask_next_run
from alp_jax.scaling.questions.sources import add_sources, ask_sources

ASK = {
    "crossover": ask_crossover,
    "equivalent": ask_equivalent,
    "sources": ask_sources,
    "budget": ask_budget,
    "plan": ask_next_run,
}


class Answer(Protocol):
    """A frozen dataclass, of which files keep the fields."""

    def lines(self) -> list[str]:
        """Lines to print: what it is about, then what was found, then ``warning: ...``."""


def ask(
    question: str, ledger: str | pathlib.Path, *, where: dict[str, str], best: dict[str, float], **settings: Any
) -> tuple[list[Answer], list[str]]:
    """The answers to a question about a ledger or CSV, and the problems met on reading it.

    Args:
      where: column -> value; other rows are ignored. best: metrics of other tools, see ``state_best``.
      settings: arguments of the question's function in ``ASK``.

    Raises:
      UserError: no such table, or the question has no answer.
    """
    rows, problems = read_table(ledger, best)
    rows = keep_rows(rows, where)
    if question == "sources":
        rows = add_sources(rows, ledger)  # a ledger does not hold them: the runs' configurations do
    return ASK[choose(question, ASK, "question")](rows, **settings), problems
