"""Every metric: its name, unit and range, which end is better, and what guessing reaches.

Whatever ranks, normalises, colours, fits or prints a number looks it up here. A metric not in ``METRICS`` belongs to
another tool: its numbers are shown unchanged and never called better or worse unless a user states its best value.
"""

import dataclasses
import math
from collections.abc import Iterable

from alp_jax.core.errors import UserError

SHARE, SCORE, RANK, NATS = "share of 1", "score", "rank", "nats"  # units
VARIES = None  # chance that depends on the test clips: results say it, where it is known


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
      name: its name in results and ledgers.
      title: its name in tables and reports.
      unit: SHARE, which is printed in percent, SCORE, RANK or NATS.
      low, high: ends of its range; infinite where there is none.
      direction: 1 where higher is better, -1 where lower is.
      perfect: the value of a perfect result; None stands for the better end of the range.
      chance: what guessing reaches on any test clips, or VARIES.
      headline: whether tasks are plotted, fitted and ranked by it.
    """

    name: str
    title: str
    unit: str = SHARE
    low: float = 0.0
    high: float = 1.0
    direction: int = 1
    perfect: float | None = None
    chance: float | None = VARIES
    headline: bool = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.best):
            raise ValueError(f"metric {self.name}: its best value is not finite")

    @property
    def best(self) -> float:
        """The value of a perfect result."""
        if self.perfect is not None:
            return self.perfect
        return self.high if self.direction > 0 else self.low

    @property
    def bounds(self) -> tuple[float, float]:
        """(low, high) of its range; infinite where there is no end."""
        return self.low, self.high

    @property
    def formula(self) -> str:
        """The formula for the error in terms of the value."""
        if self.direction > 0:
            return f"{self.best:g} - value"
        return f"value - {self.best:g}" if self.best else "value"

    def error(self, value: float) -> float:
        """Distance from a perfect result in the metric's unit; below 0 where ``value`` is better than that."""
        return self.direction * (self.best - value)

    def value(self, error: float) -> float:
        """The value of which ``error`` is the error."""
        return self.best - self.direction * error

    def gain(self, value: float, over: float) -> float:
        """How much better ``value`` is than ``over``, in the metric's unit; above 0 is better."""
        return self.direction * (value - over)

    def normalised(self, value: float, chance: float | None = None) -> float | None:
        """Scaled to 0 at chance and 1 at best; None where chance is unknown or equals the best.

        Args:
          chance: of the result; None takes the metric's own.
        """
        chance = self.chance if chance is None else chance
        if chance is None or self.error(chance) <= 0:
            return None
        return 1 - self.error(value) / self.error(chance)

    @property
    def scale(self) -> float:
        """The factor on printed values: 100 for percent."""
        return 100.0 if self.unit == SHARE else 1.0

    @property
    def symbol(self) -> str:
        """The unit's symbol after a number or beside a title."""
        return "%" if self.unit == SHARE else self.unit


def _shares(chance: float | None = VARIES, **titles: str) -> list[Metric]:
    return [Metric(name, title, chance=chance) for name, title in titles.items()]


def _losses(**titles: str) -> list[Metric]:
    return [Metric(name, title, NATS, high=math.inf, direction=-1) for name, title in titles.items()]


_REFERENCE_MOST = sum(n / (11 - n) for n in range(1, 11)) / 10  # ten hits, numbered in the worst order

METRICS = {
    metric.name: metric
    for metric in (
        # probes and prompts
        Metric("accuracy", "accuracy", headline=True),
        *_shares(balanced_accuracy="balanced accuracy", accuracy_ensemble="accuracy, mean of prompts"),
        *_shares(accuracy_best_prompt="accuracy, prompt chosen on validation"),
        Metric("map", "mAP", headline=True),
        *_shares(map_ensemble="mAP, mean of prompts", map_best_prompt="mAP, prompt chosen on validation"),
        # retrieval
        Metric("recall_at_10", "R@10", headline=True),
        *_shares(recall_at_5="R@5", recall_at_1="R@1", map_at_10="mAP@10"),
        Metric("map_at_10_reference", "mAP@10 (reference)", high=_REFERENCE_MOST, perfect=1.0),
        Metric("median_rank", "median rank", RANK, low=1.0, high=math.inf, direction=-1),
        # sound event detection
        Metric("psds1", "PSDS1", chance=0.0, headline=True),
        *_shares(0.0, psds_mean="PSDS1 without class deviation"),
        *_shares(frame_map="mAP of frames"),
        # captioning
        Metric("rouge_l", "ROUGE-L", headline=True),
        Metric("cider_d", "CIDEr-D", SCORE, high=10.0, chance=0.0, headline=True),
        *_shares(bleu_1="BLEU-1", bleu_2="BLEU-2", bleu_3="BLEU-3", bleu_4="BLEU-4"),
        *_shares(meteor_nltk="METEOR (nltk)", spice="SPICE"),
        Metric("fense", "FENSE", low=-1.0),
        # questions about sounds
        Metric("exact_match", "exact match", headline=True),
        *_shares(readable="readable answers", win_rate="answers above the reference"),
        Metric("score", "judge's score", SCORE, low=1.0, high=10.0, headline=True),
        Metric("reference_score", "judge's score of the reference", SCORE, low=1.0, high=10.0),
        # training
        *_losses(loss="loss", loss_autoregressive="loss, word by word", loss_parallel="loss, all words at once"),
        *_losses(embedding_penalty="penalty on embeddings"),
    )
}


def is_headline(name: str) -> bool:
    """Whether tasks are plotted, fitted and ranked by the metric ``name``; False for one that is not known."""
    return name in METRICS and METRICS[name].headline


def title(name: str) -> str:
    """The metric's name in tables and reports; for one that is not known, ``name`` with spaces."""
    return METRICS[name].title if name in METRICS else name.replace("_", " ")


def sort_key(name: str) -> tuple[int, str]:
    """Puts metrics in the order of ``METRICS``, others after them."""
    return (list(METRICS).index(name) if name in METRICS else len(METRICS)), name


def number(name: str, value: float | None, digits: int = 1) -> str:
    """A value for people: percent of a share, anything else to three digits; a dash for none."""
    if value is None:
        return "\u2013"
    shown = METRICS.get(name)
    return f"{100 * value:.{digits}f}" if shown and shown.unit == SHARE else f"{value:.3g}"


def foreign(name: str, best: float, values: Iterable[float]) -> Metric:
    """A metric whose perfect value a user states; the values show from which side it is approached.

    Raises:
      UserError: there are values on both sides, or ``name`` is one of our metrics.
    """
    if name in METRICS:
        raise UserError(f"--best {name}={best:g}: {name} is a known metric, whose best value is {METRICS[name].best:g}")
    values = list(values)
    below, above = any(value < best for value in values), any(value > best for value in values)
    if below and above:
        raise UserError(f"--best {name}={best:g}: some values of {name} lie below it and others above it")
    return Metric(name, name.replace("_", " "), SCORE, -math.inf, math.inf, -1 if above else 1, float(best))
