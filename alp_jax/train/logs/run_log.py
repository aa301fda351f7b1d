"""What a run reports: numbers to its sinks, one line at a time to the terminal and to ``log.txt``."""

import pathlib

from alp_jax.config import RunConfig
from alp_jax.core.progress import clock
from alp_jax.train.logs.rates import Rates, Work
from alp_jax.train.logs.sinks import open_sinks
from alp_jax.train.logs.terminal import Terminal


class RunLog:
    """Writes to the sinks of ``config.train.logs``; says loss, speed, share of time spent waiting for data and an ETA.

    ``first`` is the first step that will be counted. Between two results a terminal shows the step and the ETA.
    """

    def __init__(self, run_dir: pathlib.Path, config: RunConfig, first: int, rates: Rates, stream=None):
        self._total, self._rates = config.train.steps, rates
        self._done, self._result = first, ""
        self._sinks = open_sinks(run_dir, config, first)
        self._text = (run_dir / "log.txt").open("a", encoding="utf-8")
        self._text.write(rates.sources() + "\n")
        self._terminal = Terminal(stream)

    def count(self, work: Work) -> None:
        """Adds one step."""
        self._rates.count(work)
        self._done += 1
        if self._terminal.due():
            self._terminal.show(self._line(self._rates.eta_s(self._done - 1)))

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Writes the metrics of ``step`` (0-based), the last one counted, with the rates since the last call."""
        rates = self._rates.take(step)
        for sink in self._sinks:
            sink.write(step, {**metrics, **rates})
        self._result = (
            f"loss {metrics['loss']:.4f}  {rates['audio_seconds_per_second']:.0f} audio-s/s  "
            f"data wait {100 * rates['data_wait_share']:.0f}%  "
        )
        if "mfu" in rates:
            self._result += f"MFU {100 * rates['mfu']:.1f}%  "
        line = self._line(rates["eta_seconds"])
        self._terminal.say(line)
        self._text.write(line + "\n")
        self._text.flush()

    def _line(self, eta_s: float) -> str:
        return f"step {self._done}/{self._total}  {self._result}ETA {clock(eta_s)}"

    def close(self) -> None:
        """Closes all sinks and leaves the terminal's line."""
        self._terminal.close()
        for sink in self._sinks:
            sink.close()
        self._text.close()
