"""What can disturb a step on the host, under the loop's control: a trace of chosen steps, and garbage collection."""

import gc
import pathlib
import re
from typing import Any

import jax

from alp_jax.core.errors import UserError


def parse_steps(text: str) -> range:
    """``100:105`` -> steps 100 to 104; empty text -> none.

    Raises:
      UserError: the text is no such range, or an empty one.
    """
    if not text:
        return range(0)
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match:
        raise UserError(f"config.train.profile_steps={text!r} is not FIRST:END, two step numbers such as 100:105")
    first, end = int(match[1]), int(match[2])
    if end <= first:
        raise UserError(f"config.train.profile_steps={text!r} ends before step {end} and begins with {first}: no steps")
    return range(first, end)


class Profile:
    """Writes a ``jax.profiler`` trace of ``steps`` to ``folder``, for TensorBoard, XProf or Perfetto.

    The loop waits for the device where the trace begins and where it ends, so it holds these steps and no others.
    """

    def __init__(self, steps: range, folder: pathlib.Path):
        self._steps, self._folder, self._running = steps, folder, False

    def before(self, step: int, last: Any) -> None:
        """To be called before each ``step``; ``last`` are arrays of the step before it, or None."""
        if (step in self._steps) == self._running:
            return
        jax.block_until_ready(last)
        if self._running:
            self.close()
        else:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def close(self) -> None:
        """Ends a trace that is still running."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False


class Collector:
    """Collects Python's garbage every ``every`` steps and not in between; 0 leaves it to Python.

    A collection looks at every object of the process. Between steps, and on all hosts at the same step, it is short,
    because what was there when the loop began is not looked at again.
    """

    def __init__(self, every: int):
        self._every, self._before = every, gc.isenabled()

    def __enter__(self) -> "Collector":
        if self._every:
            gc.collect()
            gc.freeze()
            gc.disable()
        return self

    def after(self, step: int) -> None:
        """To be called after each ``step`` was given to the device."""
        if self._every and (step + 1) % self._every == 0:
            gc.collect()

    def __exit__(self, *exc: object) -> None:
        if self._every:
            gc.unfreeze()
            if self._before:
                gc.enable()
