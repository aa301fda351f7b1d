"""The speed of recent work, and seconds in words."""

import time

import pytest

from alp_jax.core.pace import clock, duration
from alp_jax.core.progress import Pace


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (75, "1:15"), (3700, "1:01:40"), (-5, "0:00")])
def test_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0.4, "0.4 s"),
        (9.96, "10 s"),
        (40.2, "40 s"),
        (59.7, "1 min"),
        (545, "9 min 5 s"),
        (599.6, "10 min"),
        (12.4 * 60, "12 min"),
        (3599, "1 h"),
        (3 * 3600 + 5 * 60, "3 h 5 min"),
        (86399, "1 d"),
        (76 * 3600, "3 d 4 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds, text):
    assert duration(seconds) == text


@pytest.fixture
def now(monkeypatch):
    """A clock that the test moves: ``now[0]`` is in seconds."""
    seconds = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    return seconds


def test_work_that_is_told_in_bursts_has_the_speed_of_the_bursts(now):
    pace = Pace()
    for burst in range(3):
        now[0] += 4.0  # a batch of 32 clips takes four seconds, its clips are told one by one
        for _ in range(32):
            pace.add(1)
        assert pace.seconds_for(320) == (pytest.approx(40.0) if burst else None)


def test_speed_is_that_of_the_last_minutes_and_of_at_least_twenty_pieces(now):
    pace = Pace()
    for seconds, steps in ((1.0, 1000), (3.0, 60)):  # it became slow three minutes ago
        for _ in range(steps):
            now[0] += seconds
            pace.add(1)
    assert pace.seconds_for(10) == pytest.approx(30.0)
    pace = Pace()
    for step in range(41):  # each takes longer than the window; two lengths in turns
        now[0] += (200.0, 400.0)[step % 2]
        pace.add(1)
    assert pace.seconds_for(10) == pytest.approx(3000.0)


def test_an_eta_falls_while_a_unit_is_at_work_and_rises_while_one_is_stuck(now):
    pace = Pace()
    for _ in range(4):
        now[0] += 60.0
        pace.add(1)
    for seconds, expected in ((0, 600), (20, 580), (60, 540)):
        now[0] = 340.0 + seconds
        assert pace.seconds_for(10) == pytest.approx(expected)
    now[0] = 340.0 + 240.0  # three minutes more than the usual one
    assert pace.seconds_for(10) == pytest.approx(10 * (180 + 180) / 3 - 60)
    pace.pause()
    now[0] += 1000.0  # something else is done
    assert pace.seconds_for(10) == pytest.approx(1140.0)
