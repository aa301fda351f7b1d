"""Metadata tables: one bad row costs itself, a bad file is a one-line error."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alp_jax.core.clip import Rejected
from alp_jax.core.errors import UserError
from alp_jax.corpora import json_stream, tables


def csv_rows(tmp_path, data, required=("id", "caption"), optional=(), **settings):
    path = tmp_path / "t.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return split(tables.csv_rows(path, required, optional, **settings))


def split(rows):
    rows = list(rows)
    good = [row for row in rows if not isinstance(row, Rejected)]
    return good, [(bad.where.rpartition("/")[2], bad.reason) for bad in rows if isinstance(bad, Rejected)]


def fails(match, read, *args):
    with pytest.raises(UserError, match=match) as caught:
        list(read(*args))
    assert "\n" not in str(caught.value)


def test_csv_with_bom_quotes_commas_and_newlines(tmp_path):
    good, bad = csv_rows(tmp_path, '\ufeffcaption,id\r\n"A dog, ""barking""\nloudly",1\r\n\r\nplain,2\r\n')
    assert good == [(2, ("1", 'A dog, "barking"\nloudly')), (5, ("2", "plain"))]
    assert not bad


def test_columns_are_found_by_name_and_absent_ones_are_empty(tmp_path):
    assert csv_rows(tmp_path, "x, caption ,id\n0,a,1\n", optional=("tags",))[0] == [(2, ("1", "a", ""))]
    assert csv_rows(tmp_path, "caption,id\na,1\n", required=("id",))[0] == [(2, ("1",))]


def test_a_quote_that_is_never_closed_costs_one_row(tmp_path):
    text = 'id,caption\n1,good\n2,"open\n' + "".join(f"{n},fine\n" for n in range(3, 203))
    good, bad = csv_rows(tmp_path, text)
    assert [row[1][0] for row in good] == ["1", *map(str, range(3, 203))]
    assert good[-1][0] == 203
    assert bad == [("t.csv line 3", "bad_csv")]


def test_rows_of_very_many_lines_are_taken_for_open_quotes(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('id,caption\n1,"' + "\n" * 70 + '"\n2,fine\n')
    first, *_, last = tables.csv_rows(path, ("id", "caption"))
    assert "not closed within 64 lines" in first.detail
    assert last == (73, ("2", "fine"))


def test_rows_that_do_not_fit_are_counted_by_reason(tmp_path):
    good, bad = csv_rows(tmp_path, b'id,caption\n1\n2,a,b\n3,caf\xe9\n4,"a"b\n5,caf\xc3\xa9\n')
    assert good == [(6, ("5", "café"))]
    assert bad == [
        ("t.csv line 2", "wrong_columns"),
        ("t.csv line 3", "wrong_columns"),
        ("t.csv line 4", "not_utf8"),
        ("t.csv line 5", "bad_csv"),
    ]


def test_the_byte_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"id,caption\n3,caf\xe9\n")
    (bad,) = tables.csv_rows(path, ("id", "caption"))
    assert "0xE9" in bad.detail


def test_another_encoding_for_rows_that_are_not_utf8(tmp_path):
    good, bad = csv_rows(tmp_path, b"id,caption\n1,caf\xe9\n2,caf\xc3\xa9\n", fallback="latin-1")
    assert [row[1][1] for row in good] == ["café", "café"]
    assert not bad


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ("ids,caption\n1,a\n", r"no column 'id' \(did you mean 'ids'\?\); expected id, caption"),
        ("id;caption\n1;a\n", "cells seem to be separated by ';'"),
        ("", "no column 'id'; expected id, caption"),
        ('id,"cap\n', "the header cannot be read"),
        ("id,caption\n1,a\n".encode("utf-16"), "not UTF-8 .*save it as UTF-8"),
        ("id,caption\n1,a\n".encode("utf-16-le"), "not UTF-8"),
    ],
)
def test_csv_files_of_another_kind(tmp_path, data, match):
    fails(match, csv_rows, tmp_path, data)


def test_files_that_cannot_be_opened(tmp_path):
    fails("No such file", tables.csv_rows, tmp_path / "none.csv", ("id",))
    fails("Is a directory", tables.csv_rows, tmp_path, ("id",))
    (tmp_path / "t.jsonl.gz").write_bytes(b"no gzip")
    fails("cannot be read", tables.jsonl_rows, tmp_path / "t.jsonl.gz")
    whole = gzip.compress(b'{"a": 1}\n' * 100_000)
    (tmp_path / "t.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    fails("cannot be read to its end", tables.jsonl_rows, tmp_path / "t.jsonl.gz")


def test_json_lines_plain_and_gzipped(tmp_path):
    text = b'\xef\xbb\xbf{"id": 1}\n\n{"id": "\xe9"}\n[1]\n{\n{"id": 2}\n' + b'{"a": ' * 100_000 + b"\n"
    (tmp_path / "t.jsonl").write_bytes(text)
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(text))
    for name in ("t.jsonl", "t.jsonl.gz"):
        good, bad = split(tables.jsonl_rows(tmp_path / name, ("id",)))
        assert good == [(1, {"id": 1}), (6, {"id": 2})]
        assert [reason for _, reason in bad] == ["not_utf8", "bad_json", "bad_json", "bad_json"]
    fails(r"no 'ib' \(did you mean 'id'\?\); expected ib", tables.jsonl_rows, tmp_path / "t.jsonl", ("ib",))


def test_json_is_streamed_across_chunks(tmp_path, monkeypatch):
    records = [{"id": n, "caption": 'a "quoted" \u00e9 \U0001f436 {[,:'} for n in range(50)]
    text = json.dumps({"num": 12345, "note": {"a": [1]}, "data": records}, indent=1, ensure_ascii=False)
    (tmp_path / "t.json").write_text(text)
    (tmp_path / "list.json").write_text(json.dumps(records))
    for chunk in (1, 7, 64, 1 << 20):
        monkeypatch.setattr(json_stream, "_CHUNK", chunk)
        assert [row for _, row in json_stream.json_rows(tmp_path / "t.json", "data", ("id",))] == records
        assert list(json_stream.json_rows(tmp_path / "list.json")) == list(enumerate(records, 1))


def test_bad_records_in_json_are_counted(tmp_path):
    (tmp_path / "t.json").write_bytes(b'[{"a": 1}, 3, {"a": "\xff"}, {"a": 2}]')
    good, bad = split(json_stream.json_rows(tmp_path / "t.json"))
    assert good == [(1, {"a": 1}), (4, {"a": 2})]
    assert bad == [("t.json record 2", "bad_json"), ("t.json record 3", "not_utf8")]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"data": [{"id": 1}, {"id": 2', "after record 1"),
        ('{"data": [{"id": 1} {"id": 2}]}', "',' expected, found '{', after record 1"),
        ('{"rows": []}', "is not JSON of the form"),
        ('[{"id": 1}]', r"'\{' expected"),
        ('{"data": {"id": 1}}', r"'\[' expected"),
        ("", "is not JSON"),
        ('{"data": [{"ids": 1}]}', r"no 'id' \(did you mean 'ids'\?\)"),
        ('{"data": [' + "[" * 100_000, "is not JSON"),
    ],
)
def test_json_of_another_structure(tmp_path, text, match):
    (tmp_path / "t.json").write_text(text)
    fails(match, json_stream.json_rows, tmp_path / "t.json", "data", ("id",))


def test_parquet_rows_and_what_is_no_such_parquet(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"b": [["x"], None], "a": ["1", "2"], "c": [{"d": 1}, {"d": 2}]}), path)
    rows = list(tables.parquet_rows(path, ("a", "b"), ("z",), lists=("b",)))
    assert rows == [(1, ("1", ["x"], None)), (2, ("2", None, None))]
    fails("no column 'bb'", tables.parquet_rows, path, ("a", "bb"))
    fails("column 'b' is list.*not text or a number", tables.parquet_rows, path, ("a", "b"))
    fails("column 'a' is string, not a list of texts", tables.parquet_rows, path, ("a",), (), ("a",))
    fails("column 'c' is struct", tables.parquet_rows, path, ("c",))
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    fails("cannot be read as parquet", tables.parquet_rows, path, ("a",))
    path.write_bytes(b"PAR1" + bytes(200) + data[204:])
    fails("is damaged", tables.parquet_rows, path, ("a",))
