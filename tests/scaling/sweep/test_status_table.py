"""The live table: redrawn in place on a terminal, lines in a log file, nothing wider than the screen."""

import io
import os

import pytest

from alp_jax.scaling.sweep import status_table as module
from alp_jax.scaling.sweep.child import latest_line
from alp_jax.scaling.sweep.forecast import Outlook
from alp_jax.scaling.sweep.status_table import StatusTable, describe, table_lines

RECORDS = [
    {"id": f"contrastive-1k-seed{i}", "status": status, "attempts": 1, "seconds": 61.0 * i, "cause": cause}
    for i, (status, cause) in enumerate(
        [("done", ""), ("waiting", ""), ("failed", "status 46: alp: no good rate"), ("running", ""), ("waiting", "")]
    )
]
NOTES = {"contrastive-1k-seed3": "step 20  loss 3.1"}
OUTLOOK = Outlook(seconds=125.0, spent_hours=0.5, hours=1.5, stored=2e9, bytes=4e9)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_rows_are_ordered_by_what_needs_a_look():
    lines = table_lines(RECORDS, NOTES, 120)
    assert [line.split()[0][-5:] for line in lines[1:]] == ["seed3", "seed2", "seed1", "seed4", "seed0"]
    assert lines[1].split()[1:] == ["running", "1", "3:03", "step", "20", "loss", "3.1"]
    assert lines[2].endswith("status 46: alp: no good rate")
    short = table_lines(RECORDS, NOTES, 30, most=4)
    assert len(short) == 4
    assert short[-1] == "and 3 more"
    assert max(map(len, short)) <= 30


def test_the_outlook_in_words_says_what_is_unknown():
    assert describe(OUTLOOK).startswith("2 min 5 s to go, until ")
    assert describe(OUTLOOK).endswith("2 device-hours (0.5 spent); 6 GB (2 there)")
    unknown = describe(Outlook(None, 0.0, None, 0.0, None))
    assert unknown == "time left unknown until a run has ended; unknown device-hours (0 spent); unknown GB (0 there)"


def test_a_terminal_is_redrawn_and_a_log_file_gets_lines(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(module, "_rows", lambda stream: 6)
    stream = Terminal()
    board = StatusTable(stream)
    board.show(RECORDS, NOTES, OUTLOOK)
    board.show(RECORDS, NOTES, OUTLOOK)  # too early
    first = stream.getvalue()
    assert first.count("\n") == 5  # two heads and the table, one line less than the screen has
    assert max(map(len, first.splitlines())) < 60
    assert "\x1b[" not in first
    board.show(RECORDS, NOTES, OUTLOOK, now=True)
    again = stream.getvalue()[len(first) :]
    assert again.startswith("\x1b[5F\x1b[J")
    assert again.count("\n") == 5

    log, seconds = io.StringIO(), [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: seconds[0])
    board = StatusTable(log)
    for _ in range(3601):
        board.show(RECORDS, NOTES, OUTLOOK)
        seconds[0] += 1.0
    assert log.getvalue().count("\n") == 61  # a line a minute
    assert "1 running, 1 failed, 2 waiting, 1 done" in log.getvalue()
    assert "step 20  loss 3.1" in log.getvalue()


def test_nobody_who_reads_is_no_error(monkeypatch):
    monkeypatch.setattr(module.sys, "stderr", None)
    StatusTable().show(RECORDS, NOTES, OUTLOOK)
    stream = Terminal()
    board = StatusTable(stream)
    stream.close()
    board.show(RECORDS, NOTES, OUTLOOK)


@pytest.mark.parametrize("columns", [1, 20])
def test_tiny_terminals_are_no_error(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(module, "_rows", lambda stream: 1)
    stream = Terminal()
    StatusTable(stream).show(RECORDS, NOTES, OUTLOOK)
    assert stream.getvalue().count("\n") == 5


def test_a_note_is_the_newest_of_output_and_log(tmp_path):
    output, log = tmp_path / "output.txt", tmp_path / "log.txt"
    assert latest_line(output, tmp_path) == ""
    output.write_text("from an attempt before\ntrain: 1/90 steps  1.0 s so far\n")
    assert latest_line(output, tmp_path) == "train: 1/90 steps  1.0 s so far"
    log.write_text("train: 20/90 steps  30 s so far\n")
    os.utime(output, (1000.0, 1000.0))
    os.utime(log, (1030.0, 1030.0))
    assert latest_line(output, tmp_path) == "train: 20/90 steps  30 s so far"
    assert latest_line(output, tmp_path, since=1031.0).startswith("train: 1/90")  # an attempt before this one's
    os.utime(output, (1031.0, 1031.0))
    assert latest_line(output, tmp_path).startswith("train: 1/90")
