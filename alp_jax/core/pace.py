"""Seconds in words."""


def clock(seconds: float) -> str:
    """For a column of a table: ``75`` -> ``1:15``; ``3700`` -> ``1:01:40``."""
    seconds = max(0, round(seconds))
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def duration(seconds: float) -> str:
    """For a sentence, two units at most: ``0.4 s``, ``40 s``, ``9 min 5 s``, ``12 min``, ``3 h 5 min``, ``3 d 4 h``."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds >= 0.05 else "0 s"
    whole = round(seconds)
    minutes = whole // 60 if whole < 600 else round(seconds / 60)
    hours = round(seconds / 3600)
    if whole < 60:
        return f"{whole} s"
    if minutes < 10:
        return f"{minutes} min {whole % 60} s" if whole % 60 else f"{minutes} min"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"
