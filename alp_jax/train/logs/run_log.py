"""What a run reports: numbers to its sinks, one line at a time to the terminal and to ``log.txt``."""

import pathlib
import sys
import time

from alp_jax.config import RunConfig
from alp_jax.core.progress import clock
from alp_jax.train.logs.sinks import open_sinks


class RunLog:
    """Writes to the sinks of ``config.train.logs`` and prints progress with the share of time spent waiting for data.

    ``first`` is the first step that will be counted.
    """

    def __init__(self, run_dir: pathlib.Path, config: RunConfig, first: int, stream=None):
        self._total, self._start_step = config.train.steps, first
        self._stream = stream or sys.stderr
        self._begin = self._last = time.monotonic()
        self._wait_s = self._audio_s = self._padded_s = 0.0
        self._steps = self._clips = self._cut = 0
        self._sinks = open_sinks(run_dir, config, first)
        self._text = (run_dir / "log.txt").open("a", encoding="utf-8")

    def count(self, wait_s: float, clips: int, audio_s: float, padded_s: float, cut: int) -> None:
        """Adds one step: seconds waited for data, clips, seconds of real and of padded audio, captions cut short."""
        self._wait_s += wait_s
        self._clips += clips
        self._audio_s += audio_s
        self._padded_s += padded_s
        self._cut += cut
        self._steps += 1

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Writes the metrics of ``step`` (0-based) with the rates since the last call."""
        now = time.monotonic()
        seconds = max(now - self._last, 1e-9)
        rates = {
            "seconds_per_step": seconds / max(self._steps, 1),
            "audio_seconds_per_second": self._audio_s / seconds,
            "clips_per_second": self._clips / seconds,
            "data_wait_share": min(1.0, self._wait_s / seconds),
            "padding_share": 1 - self._audio_s / max(self._padded_s, 1e-9),
            "truncated_caption_share": self._cut / max(self._clips, 1),
        }
        for sink in self._sinks:
            sink.write(step, {**metrics, **rates})
        remaining = (now - self._begin) / max(step + 1 - self._start_step, 1) * (self._total - step - 1)
        line = (
            f"step {step + 1}/{self._total}  loss {metrics['loss']:.4f}  {rates['audio_seconds_per_second']:.0f} "
            f"audio-s/s  data wait {100 * rates['data_wait_share']:.0f}%  ETA {clock(remaining)}\n"
        )
        for stream in (self._stream, self._text):
            stream.write(line)
            stream.flush()
        self._last, self._wait_s, self._audio_s, self._padded_s = now, 0.0, 0.0, 0.0
        self._steps = self._clips = self._cut = 0

    def close(self) -> None:
        """Closes all sinks."""
        for sink in self._sinks:
            sink.close()
        self._text.close()
