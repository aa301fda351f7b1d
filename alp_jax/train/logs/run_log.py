"""What a run reports: numbers to its sinks, one line at a time to the terminal and to ``log.txt``."""

import pathlib
import sys

from alp_jax.config import RunConfig
from alp_jax.core.progress import clock
from alp_jax.train.logs.rates import Rates, Work
from alp_jax.train.logs.sinks import open_sinks


class RunLog:
    """Writes to the sinks of ``config.train.logs`` and prints progress with the share of time spent waiting for data.

    ``first`` is the first step that will be counted.
    """

    def __init__(self, run_dir: pathlib.Path, config: RunConfig, first: int, rates: Rates, stream=None):
        self._total, self._rates = config.train.steps, rates
        self._stream = stream or sys.stderr
        self._sinks = open_sinks(run_dir, config, first)
        self._text = (run_dir / "log.txt").open("a", encoding="utf-8")
        self._text.write(rates.sources() + "\n")

    def count(self, work: Work) -> None:
        """Adds one step."""
        self._rates.count(work)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Writes the metrics of ``step`` (0-based) with the rates since the last call."""
        rates = self._rates.take(step)
        for sink in self._sinks:
            sink.write(step, {**metrics, **rates})
        line = (
            f"step {step + 1}/{self._total}  loss {metrics['loss']:.4f}  {rates['audio_seconds_per_second']:.0f} "
            f"audio-s/s  data wait {100 * rates['data_wait_share']:.0f}%  ETA {clock(rates['eta_seconds'])}\n"
        )
        for stream in (self._stream, self._text):
            stream.write(line)
            stream.flush()

    def close(self) -> None:
        """Closes all sinks."""
        for sink in self._sinks:
            sink.close()
        self._text.close()
