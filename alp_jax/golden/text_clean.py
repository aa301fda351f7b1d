"""Cases of kind ``text_clean``: captions and what each of the reference's recipes makes of them."""

import math
from collections.abc import Iterator

from alp_jax.data.text.normalise import CLEAN_UPS, clean
from alp_jax.golden.case import Case
from alp_jax.golden.compare import Line

INPUT = "in"


def check(case: Case) -> Iterator[Line]:
    """A line per caption and recipe; texts are equal or infinitely apart."""
    for row in case.config["cases"]:
        for recipe, expected in row.items():
            if recipe != INPUT:
                same = recipe in CLEAN_UPS and clean(row[INPUT], recipe) == expected
                yield Line(case.name, f"{recipe}: {row[INPUT]!r}", 0.0 if same else math.inf, 0.0)
