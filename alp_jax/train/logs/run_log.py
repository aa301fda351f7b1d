"""What a run reports: numbers to its sinks, a line for people to the terminal and to ``log.txt``."""

import pathlib

from alp_jax.config import RunConfig
from alp_jax.core.progress import Progress
from alp_jax.train.logs.rates import Rates, Work
from alp_jax.train.logs.sinks import open_sinks

# value -> how a line shows it, where the run has it; a terminal shows as many, from the first, as it is wide
CONSOLE = {
    "loss": "loss {:.4f}",
    "audio_seconds_per_second": "{:.0f} audio-s/s",
    "data_wait_share": "data wait {:.0%}",
    "mfu": "MFU {:.1%}",
}


class RunLog:
    """Writes to the sinks of ``config.train.logs``; says how far the run is, its ETA and the values of ``CONSOLE``.

    ``first`` is the first step that will be counted. ``log.txt`` has a line for each ``write``.
    """

    def __init__(self, run_dir: pathlib.Path, config: RunConfig, first: int, rates: Rates, stream=None):
        self._rates = rates
        self._sinks = open_sinks(run_dir, config, first)
        self._text = (run_dir / "log.txt").open("a", encoding="utf-8")
        self._text.write(rates.sources() + "\n")
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
        for sink in self._sinks:
            sink.write(step, values)
        self._progress.values = [text.format(values[name]) for name, text in CONSOLE.items() if name in values]
        self._text.write(self._progress.line() + "\n")
        self._text.flush()

    def close(self) -> None:
        """Closes all sinks and shows the last line."""
        self._progress.close(failed=self._progress.done < self._progress.total)
        for sink in self._sinks:
            sink.close()
        self._text.close()
