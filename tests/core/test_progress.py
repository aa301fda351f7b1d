"""Progress tells how far, how long, and when it ends: on terminals of any width, in log files, and never falsely."""

import contextlib
import fcntl
import io
import os
import re
import struct
import sys
import termios
import time

import pytest
from tqdm.utils import disp_len

from alp_jax.core import progress as module
from alp_jax.core.progress import Progress, say, stage


@pytest.fixture
def now(monkeypatch):
    """A clock that the test moves: ``now[0]`` is in seconds."""
    seconds = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    return seconds


STEPS, SAVE_EVERY, EVALUATED = 1000, 50, (60, 90)


def planted(now, first=0):
    """Steps of two costs, a compilation of six minutes before the first, saves of 5 s, two evaluations of 40 s."""
    for step in range(first, STEPS):
        if step > first and step % SAVE_EVERY == 0:
            with stage("saving", quiet=True, every=SAVE_EVERY):
                now[0] += 5.0
        if step in EVALUATED:
            with stage("evaluating", quiet=True):
                now[0] += 40.0
        if step == first:
            with stage("compiling the step", "for 32 clips of 10 s"):
                now[0] += 351.0
            now[0] += 3.0
        now[0] += 0.7 if step % 3 else 1.6
        yield step + 1
    with stage("saving", quiet=True, every=SAVE_EVERY):
        now[0] += 5.0


def told_and_true(now, first=0):
    """done -> (the ETA that was told, the seconds it took from there)."""
    told, stream = {}, io.StringIO()
    with Progress("train", STEPS, "steps", initial=first, stream=stream) as progress:
        for done in planted(now, first):
            progress.update()
            told[done] = (progress.eta_s(), now[0])
    return {done: (eta, now[0] - at) for done, (eta, at) in told.items()}


@pytest.mark.parametrize(
    ("done", "factor"), [(2, 2.0), (3, 2.0), (10, 1.3), (70, 1.15), (101, 1.15), (400, 1.1), (950, 1.1), (990, 1.3)]
)
def test_eta_is_that_of_recent_steps_without_compiling_and_with_the_saves_to_come(now, done, factor):
    eta, truth = told_and_true(now)[done]
    assert truth / factor <= eta <= truth * factor


def test_units_that_the_loop_counts_itself_are_as_those_it_tells(now):
    """It sets ``done``, and the thread that shows progress looks now and then."""
    seen = []
    for tells in (True, False):
        stream = io.StringIO()
        with contextlib.suppress(KeyError), Progress("train", STEPS, "steps", stream=stream) as progress:
            for done in planted(now):
                if tells:
                    progress.update()
                else:
                    progress.done = done
                    if done % 3 == 1:
                        progress.look()
                if done == 150:
                    break
            eta_s = progress.eta_s()
            raise KeyError
        seen.append((eta_s, stream.getvalue().splitlines()[-1]))
    (told_s, told), (set_s, last) = seen
    assert set_s == pytest.approx(told_s, rel=0.02)
    assert last == told
    assert last.startswith("train: 150/1000 steps  stopped after")
    one = io.StringIO()
    with contextlib.suppress(KeyError), Progress("train", STEPS, "steps", stream=one) as progress:
        progress.done = 1  # and nobody has looked yet
        raise KeyError
    assert one.getvalue().startswith("train: 1/1000 steps  stopped after")


def test_an_eta_that_is_not_known_is_not_told(now):
    found = told_and_true(now)
    assert found[1][0] is None
    assert found[2][0] is not None
    stream = io.StringIO()
    with Progress("export", 4, "stages", alike=False, stream=stream) as progress:
        for _ in range(3):
            now[0] += 100.0
            progress.update(note="computed")
    assert "ETA" not in stream.getvalue()
    with Progress("read metadata", None, "rows", stream=stream) as progress:
        for _ in range(3):
            now[0] += 100.0
            progress.update()
        assert progress.eta_s() is None


def test_a_first_step_that_nobody_named_as_compiling_does_not_count_either(now):
    with Progress("train adapter", 100, "steps", stream=io.StringIO()) as progress:
        now[0] += 351.0
        progress.update()
        assert progress.eta_s() is None
        now[0] += 1.0
        progress.update()
        assert progress.eta_s() == pytest.approx(98.0)


def test_what_was_done_before_tells_nothing_about_the_speed(now):
    found = told_and_true(now, first=900)
    for done in (905, 950):
        eta, truth = found[done]
        assert truth / 1.35 <= eta <= truth * 1.35
    with Progress("encode", 10_000_000, "clips", stream=io.StringIO()) as progress:
        for part in range(6):
            if part % 2:
                progress.skip(3_000_000)  # in between, as parts that an earlier process has written
            now[0] += 1.0
            progress.update(100)
        assert progress.eta_s() == pytest.approx(9994.0)


def test_units_that_differ_in_cost_are_weighed(now):
    sizes = [5, 1, 1, 8, 100, 100]
    with Progress("embed", len(sizes), "files", work=sum(sizes), stream=io.StringIO()) as progress:
        for size in sizes[:4]:
            now[0] += size
            progress.update(work=size)
        assert progress.eta_s() == pytest.approx(200.0)


def test_a_log_file_gets_a_line_a_minute(now):
    stream = io.StringIO()
    with Progress("train", 7201, "steps", stream=stream) as progress:
        for step in range(7200):
            now[0] += 0.5
            progress.values = [f"loss {step}"]
            progress.update()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "train: 2/7201 steps  ETA 1 h  1.0 s so far  loss 1"
    assert lines[1] == "train: 122/7201 steps  ETA 59 min  1 min 1 s so far  loss 121"
    assert lines[-1] == "train: 7200/7201 steps  done in 1 h  loss 7199"
    assert 60 <= len(lines) <= 62


def test_a_log_file_gets_a_line_a_minute_while_nothing_can_be_counted_and_from_nested_work_too(now):
    stream = io.StringIO()
    with Progress("evaluate", 2, "results", stream=stream) as outer:
        with stage("compiling the step", "for 32 clips of 10 s"):
            for _ in range(600):
                now[0] += 1.0
                outer.look()  # as the heartbeat does
        for _ in range(2):
            with Progress("frame probe", 1500, "steps", stream=stream) as inner:
                for _ in range(1500):
                    now[0] += 1.0
                    inner.update()
                    outer.look()
            outer.update()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "evaluate: 0/2 results  compiling the step for 32 clips of 10 s: 1.0 s so far"
    assert lines[2] == lines[0].replace("1.0 s", "2 min 1 s")
    assert lines[10] == "evaluate: compiling the step for 32 clips of 10 s took 10 min"
    assert lines[11].endswith("11 min so far; frame probe: 60/1500 steps  ETA 24 min  1 min so far")
    assert lines[-1] == "evaluate: 2/2 results  done in 1 h  (compiling the step 10 min)"
    assert 60 <= len(lines) <= 64


def test_the_heartbeat_looks_by_itself(monkeypatch):
    monkeypatch.setattr(module, "_BEAT_S", 0.01)
    monkeypatch.setattr(module, "LINE_S", 0.03)
    monkeypatch.setattr(module, "_FIRST_S", 0.03)
    stream = io.StringIO()
    with Progress("restoring step 3", stream=stream):
        end = time.monotonic() + 10
        while stream.getvalue().count("\n") < 4 and time.monotonic() < end:
            time.sleep(0.01)
    assert stream.getvalue().startswith("restoring step 3 ...\nrestoring step 3")
    assert stream.getvalue().count("\n") >= 4


class Screen:
    """A pseudo-terminal of so many columns; ``shown`` is all that was written to it."""

    def __init__(self, columns):
        self._master, slave = os.openpty()
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        self.resize(columns)
        os.set_blocking(self._master, False)
        self._shown = b""

    def resize(self, columns):
        fcntl.ioctl(self.stream.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def shown(self):
        while True:
            try:
                self._shown += os.read(self._master, 1 << 16)
            except BlockingIOError:
                return self._shown.decode()

    def close(self):
        self.stream.close()
        os.close(self._master)


@pytest.fixture
def screen(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    made = Screen(80)
    yield made
    made.close()


def pieces(shown):
    """What lies between returns and line ends, less the moves of the cursor."""
    return re.split(r"[\r\n]+", shown.replace("\x1b[A", ""))


def test_a_terminal_is_redrawn_and_no_line_is_wider_than_it_is(now, screen):
    name = "ein sehr langer Name\nmit Zeilenende \x1b[31m und 音の名前" * 3
    with Progress("train", 1000, "steps", stream=screen.stream) as progress:
        with stage("compiling the step", "for 32 clips of 10 s " + name):
            now[0] += 40.0
            progress.look()
            assert re.search(r": 40 s so far *$", screen.shown())
        for step in range(200):
            now[0] += 1.0
            progress.values = [f"loss {step:.4f}", "512 audio-s/s", "data wait 0%", "MFU 30.1%", "negatives 255", "x"]
            progress.update()
            if step == 99:
                before = screen.shown()
                screen.resize(44)
            if step == 150:
                with Progress(name, 5, "files", stream=screen.stream) as inner:
                    inner.update(note=name)
    wide, narrow = pieces(before), pieces(screen.shown()[len(before) :])
    assert len(wide) > 100
    assert max(map(disp_len, wide)) <= 80
    assert max(map(disp_len, narrow)) <= 44
    assert before.count("\n") == 1  # what compiling took stays
    assert "\rtrain: compiling the step for 32 clips of 10 s ein sehr langer Name mit" in before
    last = wide[-1].rstrip()
    assert last.startswith("train: 100/1000 steps |█")
    assert re.search(r"\| ETA 15 min  loss 99.0000  512 audio-s/s  x$", last)  # what does not fit is left out whole
    assert narrow[-2].rstrip() == "train: 200/1000 steps  done in 4 min  x"


def test_lines_of_others_stand_alone(now, screen):
    with Progress("evaluate", 3, "results", stream=screen.stream) as progress:
        now[0] += 1.0
        progress.update()
        say("evaluate: genre-mean failed: no clips", screen.stream)
        now[0] += 1.0
        progress.update()
    assert "evaluate: genre-mean failed: no clips" in [piece.strip() for piece in pieces(screen.shown())]
    assert screen.shown().count("\n") == 2
    stream = io.StringIO()
    say("a line", stream)
    assert stream.getvalue() == "a line\n"


def test_a_terminal_that_cannot_be_redrawn_gets_lines(now, screen, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with Progress("build shards", 2, "clips", stream=screen.stream) as progress:
        now[0] += 1.0
        progress.update(2)
    assert "\r" not in screen.shown().replace("\r\n", "\n")
    assert screen.shown().split("\r\n")[1] == "build shards: 2/2 clips  done in 1.0 s"


@contextlib.contextmanager
def unread():
    """A pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    with contextlib.suppress(OSError), open(write, "w", buffering=1) as stream:
        yield stream


@pytest.mark.parametrize("how", ["closed later", "closed", "none", "unread"])
def test_a_stream_that_is_gone_does_not_end_the_work(now, monkeypatch, how):
    with unread() if how == "unread" else io.StringIO() as stream:
        monkeypatch.setattr(sys, "stderr", None if how == "none" else stream)
        if how == "closed":
            stream.close()
        with Progress("build", 2, "clips") as progress:
            say("a line")
            if how == "closed later":
                stream.close()
            say("another")
            with stage("saving"):
                now[0] += 100.0
            progress.update(2)
        say("the last")
    assert progress.done == 2
    assert now[0] == 200.0


def test_a_terminal_that_is_gone_does_not_end_the_work(now, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen(80)
    with Progress("build", 2, "clips", stream=screen.stream) as progress:
        assert progress.bar is not None
        os.close(screen._master)
        now[0] += 1.0
        say("a line", screen.stream)
        progress.update(2)
    assert progress.done == 2
    with contextlib.suppress(OSError):
        screen.stream.close()


@pytest.mark.parametrize("total", [10, None])
def test_stages_may_be_nested(now, total):
    stream = io.StringIO()
    with Progress("train", 10, "steps", stream=stream) if total else stage("opening", quiet=True):
        outer = module._open[0]
        for _ in range(3):
            now[0] += 2.0
            outer.update()
        with stage("restoring"):
            now[0] += 30.0
            with stage("reading", quiet=True):
                now[0] += 30.0
                assert outer.line().endswith("reading: 30 s so far")
            now[0] += 40.0
            assert outer.line().endswith("restoring: 1 min 40 s so far")
        assert outer.eta_s() == (14.0 if total else None)
    if total:
        assert stream.getvalue().splitlines()[-1].endswith("(reading 30 s, restoring 1 min 40 s)")


def test_progress_that_ends_before_what_it_holds_is_no_error(now):
    stream = io.StringIO()
    outer = Progress("outer", 2, "clips", stream=stream).open()
    inner = Progress("inner", 2, "clips", stream=stream).open()
    outer.close()
    inner.update()
    inner.close()
    assert stream.getvalue() == "outer: 0/2 clips  done in 0 s\n"


def test_an_error_before_the_first_unit_leaves_no_last_line(now):
    def fail(after):
        stream = io.StringIO()
        with Progress("build", 4, "clips", stream=stream) as progress:
            for _ in range(after):
                progress.update()
            told.append(stream)
            raise KeyError

    told = []
    for after in (0, 1):
        with pytest.raises(KeyError):
            fail(after)
    assert told[0].getvalue() == ""
    assert told[1].getvalue() == "build: 1/4 clips  stopped after 0 s\n"
