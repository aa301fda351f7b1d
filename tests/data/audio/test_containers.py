"""Audio inside parquet files, as the HF datasets library writes them."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alp_jax.data.audio.containers import MemberReader
from alp_jax.data.audio.errors import BadAudio


@pytest.fixture
def table(tmp_path):
    rows = [{"bytes": b"ID3" + bytes([n]) * 2000, "path": f"{n}.MP3" if n % 2 else None} for n in range(20)]
    rows[7] = None
    rows[8] = {"bytes": None, "path": "8.mp3"}
    rows[9] = {"bytes": b"", "path": "9.mp3"}
    rows[10] = {"bytes": b"text", "path": "10.txt"}
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": list(range(20)), "audio": rows}), path, row_group_size=6)
    return path


def test_rows_in_any_order(table):
    reader = MemberReader()
    for row in (0, 1, 5, 6, 2, 19, 19, 11, 0):
        data, extension = reader.read(str(table), str(row), 4000)
        assert data == b"ID3" + bytes([row]) * 2000
        assert extension == ".mp3"


def test_going_forward_reads_a_row_group_once(table, monkeypatch):
    started = []
    iterate = pq.ParquetFile.iter_batches

    def count(*args, **settings):
        started.append(settings["row_groups"])
        return iterate(*args, **settings)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", count)
    reader = MemberReader()
    for row in (0, 2, 3, 11, 12, 17):
        reader.read(str(table), str(row), 4000)
    assert started == [[0], [1], [2]]


@pytest.mark.parametrize(
    ("member", "reason"),
    [("7", "missing"), ("8", "missing"), ("9", "empty"), ("10", "unsupported"), ("20", "missing"), ("-1", "missing")],
)
def test_rows_without_audio(table, member, reason):
    reader = MemberReader()
    with pytest.raises(BadAudio) as caught:
        reader.read(str(table), member, 4000)
    assert caught.value.reason == reason
    assert reader.read(str(table), "11", 4000)[0][3] == 11  # the next one is not affected


def test_limits_and_damaged_files(table, tmp_path):
    reader = MemberReader()
    with pytest.raises(BadAudio, match="too_large"):
        reader.read(str(table), "0", 100)
    with pytest.raises(BadAudio, match="missing"):
        reader.read(str(tmp_path / "none.parquet"), "0", 100)
    table.write_bytes(table.read_bytes()[:-20])  # replaced while open: noticed
    with pytest.raises(BadAudio, match="corrupt"):
        reader.read(str(table), "0", 4000)
    pq.write_table(pa.table({"id": [1]}), table)
    with pytest.raises(BadAudio, match="corrupt"):
        reader.read(str(table), "0", 4000)
