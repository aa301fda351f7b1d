"""Progress lines tell how far, how long, and when it ends."""

import io

import pytest

from alp_jax.core.progress import Progress, clock


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (75, "1:15"), (3700, "1:01:40"), (-5, "0:00")])
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_lines_have_count_and_eta():
    stream = io.StringIO()
    with Progress("build", 4, "clips", stream) as progress:
        progress._interval_s = 0
        progress.update(2, "a.wav")
        progress.update(2)
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("build: 2/4 clips")
    assert "ETA" in lines[0]
    assert lines[0].endswith("a.wav")
    assert lines[-1].startswith("build: 4/4 clips")
    assert lines[-1].endswith("done")


def test_an_error_before_the_first_unit_leaves_no_line():
    stream = io.StringIO()
    with pytest.raises(KeyError), Progress("build", 4, "clips", stream):
        raise KeyError
    assert stream.getvalue() == ""
