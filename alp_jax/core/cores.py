"""Which CPU cores this process may use."""

import os
import sys


def usable_cores() -> list[int]:
    """Numbers of the cores; fewer than the machine has where a scheduler, container or parent process limits them."""
    return sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else list(range(os.cpu_count() or 1))
