"""What a run reports: numbers to its sinks, a line for people to the terminal and to ``log.txt``."""

import pathlib

from alp_jax.config import RunConfig
from alp_jax.config.rules import clamp_note
from alp_jax.core.progress import Progress, say
from alp_jax.core.run_files import LOG
from alp_jax.train.logs.rates import Rates, Work
from alp_jax.train.logs.writers import Sinks

# value -> how a line shows it, where the run has it; a terminal shows as many, from the first, as it is wide
CONSOLE = {
    "loss": "loss {:.4f}",
    "learning_rate": "lr {:.2e}",
    "negatives": "{:.1f} negatives",
    "audio_seconds_per_second": "{:.0f} audio-s/s",
    "data_wait_share": "data wait {:.0%}",
    "truncated_caption_share": "{:.0%} captions cut",
    "mfu": "MFU {:.1%}",
}
ALONE = 0.5  # share of clips without negatives above which a warning is due


class RunLog:
    """Writes to the sinks of ``config.train.logs``; says how far the run is, its ETA and the values of ``CONSOLE``.

    ``first`` is the first step that will be counted. ``log.txt`` has a line for each ``write``.
    """

    def __init__(self, run_dir: pathlib.Path, config: RunConfig, first: int, rates: Rates, stream=None):
        self._rates, self._stream, self._told_alone = rates, stream, False
        self._text = (run_dir / LOG).open("a", encoding="utf-8")
        self._text.write(rates.sources() + "\n")
        if note := clamp_note(config):
            self._warn(note)
        self._sinks = Sinks(run_dir, config, first, self._warn)
        self._progress = Progress("train", config.train.steps, "steps", initial=first, stream=stream).open()

    def count(self, work: Work) -> None:
        """Adds one step."""
        self._rates.count(work)
        self._progress.update()

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Writes the metrics of ``step`` (0-based), the last one counted, with the rates since the last call.

        ``eta_seconds`` is among them as soon as it is known.
        """
        values = {**metrics, **self._rates.take()}
        if (eta_s := self._progress.eta_s()) is not None:
            values["eta_seconds"] = eta_s
        self._sinks.write(step, values)
        shown = values | {"negatives": _of(metrics, "negatives"), "no_negatives": _of(metrics, "no_negatives_share")}
        if (shown["no_negatives"] or 0.0) > ALONE and not self._told_alone:
            self._told_alone = True
            self._warn(
                f"at step {step} {shown['no_negatives']:.0%} of the clips have no negative in their batch: all others "
                "are of the same recording or have the same caption. A contrastive loss teaches nothing about such "
                "clips: make batches larger, or captions more varied"
            )
        self._progress.values = [
            text.format(shown[name]) for name, text in CONSOLE.items() if shown.get(name) is not None
        ]
        self._text.write(self._progress.line() + "\n")
        self._text.flush()

    def close(self) -> None:
        """Closes all sinks and shows the last line."""
        self._progress.close(failed=self._progress.done < self._progress.total)
        self._sinks.close()
        self._text.close()

    def _warn(self, line: str) -> None:
        """A line of its own, above the progress and in ``log.txt``."""
        say(f"alp: {line}", self._stream)
        self._text.write(line + "\n")


def _of(metrics: dict[str, float], name: str) -> float | None:
    """A metric of the contrastive loss; the hybrid objective has the objective's name before it."""
    return metrics.get(name, metrics.get(f"contrastive/{name}"))
