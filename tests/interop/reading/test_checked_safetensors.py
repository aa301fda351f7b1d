"""Files that lie about themselves: every damage is one line that names the file, never a crash or a big allocation."""

import json
import re
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

from alp_jax.core.errors import UserError
from alp_jax.interop.reading.checked_safetensors import read_safetensors

ANY_FILE = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def tensors():
    rng = np.random.default_rng(0)
    shapes = {"a.weight": (3, 4), "a.bias": (4,), "scale": (), "conv": (2, 1, 3, 3)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


GOOD = save(tensors(), {"format": "pt"})
HEADER = json.loads(GOOD[8 : 8 + struct.unpack("<Q", GOOD[:8])[0]])


def pack(header, data_bytes=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = max((e["data_offsets"][1] for e in HEADER.values() if "dtype" in e), default=0)
    return struct.pack("<Q", len(text)) + text + bytes(size if data_bytes is None else data_bytes)


def read(tmp_path, data):
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    return read_safetensors(path)


def refused(tmp_path, data, words):
    with pytest.raises(UserError, match=words) as caught:
        read(tmp_path, data)
    assert "\n" not in str(caught.value)
    assert "w.safetensors" in str(caught.value)
    assert len(str(caught.value)) < 1500


def elements_or_line(tmp_path, data):
    """How many numbers the file holds; 0 for a file that is refused, which must take one line that names it."""
    try:
        return sum(value.size for value in read(tmp_path, data).tensors.values())
    except UserError as error:
        line = str(error)
    assert re.fullmatch(r"[^\n]*w\.safetensors[^\n]*", line)
    return 0


def changed(name, **values):
    return pack({**HEADER, name: {**HEADER[name], **values}})


def test_a_good_file_arrives_bit_by_bit(tmp_path):
    stored = read(tmp_path, GOOD)
    assert stored.converted == {}
    assert stored.tensors.keys() == tensors().keys()
    for name, value in tensors().items():
        np.testing.assert_array_equal(stored.tensors[name], value, strict=True)


def test_other_floating_types_become_float32_and_are_told(tmp_path):
    path = tmp_path / "w.safetensors"
    half, double = np.array([1.5, -2.0, 6e-8], np.float16), np.array([0.1, np.inf, -1e-60])
    save_file({"half": half, "double": double, "single": np.zeros(2, np.float32), "ids": np.arange(3)}, path)
    stored = read_safetensors(path)
    assert stored.converted == {"half": "F16", "double": "F64"}
    np.testing.assert_array_equal(stored.tensors["half"], half.astype(np.float32), strict=True)
    np.testing.assert_array_equal(stored.tensors["double"], double.astype(np.float32), strict=True)
    assert stored.tensors["ids"].dtype == np.int64
    bfloat = np.array([1.0, -2.5, 2.0**127], np.float32)
    data = (bfloat.view(np.uint32) >> 16).astype("<u2").tobytes()
    text = json.dumps({"b": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}).encode()
    stored = read(tmp_path, struct.pack("<Q", len(text)) + text + data)
    np.testing.assert_array_equal(stored.tensors["b"], bfloat, strict=True)


def test_float64_beyond_float32_is_named(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"fine": np.ones(2), "big": np.array([1e39])}, path)
    with pytest.raises(UserError, match="tensor big holds float64 numbers beyond float32"):
        read_safetensors(path)


def test_absent_and_short_files(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_safetensors(tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_safetensors(tmp_path)
    for length in range(8):
        refused(tmp_path, GOOD[:length], f"has {length} bytes: too short")
    for length in range(8, len(GOOD)):
        refused(tmp_path, GOOD[:length], "cut off")
    refused(tmp_path, GOOD + b"\0", "1 bytes after the last tensor")


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**40, 10**8 + 1, len(GOOD)])
def test_a_header_longer_than_the_file_reserves_nothing(tmp_path, length):
    tracemalloc.start()
    refused(tmp_path, struct.pack("<Q", length) + GOOD[8:], f"claims a header of {length} bytes")
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"dtype": "F8_E4M3"}, "tensor a.weight has type 'F8_E4M3'; known are F64"),
        ({"dtype": 4}, "has type '4'"),
        ({"dtype": ["F32"]}, "has type"),
        ({"shape": [2**62, 2**62]}, r"tensor a.weight of F32 \[4611686018427387904, .* needs"),
        ({"shape": [10**9] * 3}, "needs 4000000000000000000000000000 bytes but has 48"),
        ({"shape": [1] * 17}, "shape .*, which no weight can have"),
        ({"shape": [0, 2**62]}, "which no weight can have"),
        ({"shape": [-3, -4]}, "which no weight can have"),
        ({"shape": [3.0, 4]}, "which no weight can have"),
        ({"shape": [True, 12]}, "which no weight can have"),
        ({"shape": 12}, "which no weight can have"),
        ({"shape": [12, 2]}, "needs 96 bytes but has 48"),
        ({"data_offsets": [0]}, "not two byte positions"),
        ({"data_offsets": "0-48"}, "not two byte positions"),
        ({"data_offsets": [-48, 0]}, "not two byte positions"),
        ({"data_offsets": [48, 0]}, "needs 48 bytes but has -48"),
        ({"data_offsets": [10**15, 10**15 + 48]}, "begins at byte|leaves a hole|overlaps"),
        ({"extra": 1}, "not described by dtype, shape and data_offsets"),
    ],
)
def test_every_lie_about_a_tensor_is_named(tmp_path, values, words):
    refused(tmp_path, changed("a.weight", **values), words)


def test_holes_overlaps_and_doubles(tmp_path):
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    other = {**entry, "data_offsets": [12, 20]}
    refused(tmp_path, pack({"a": entry, "b": other}, 20), "tensor b begins at byte 12, not 8: it leaves a hole")
    other = {**entry, "data_offsets": [4, 12]}
    refused(tmp_path, pack({"a": entry, "b": other}, 12), "tensor b begins at byte 4, not 8: it overlaps")
    other = {**entry, "data_offsets": [8, 16]}
    refused(tmp_path, pack({"a": entry, "b": other}, 15), "tensor b ends at byte .* cut off")
    double = b'{"a":' + json.dumps(entry).encode() + b',"a":' + json.dumps(entry).encode() + b"}"
    refused(tmp_path, pack(double, 8), "'a' appears twice")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"", "damaged safetensors header"),
        (b"[]", "not a JSON object"),
        (b"\xff\xfe{}", "damaged safetensors header"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b"[" * 100_000, "damaged safetensors header"),
        (b'{"a":' * 50_000, "damaged safetensors header"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "damaged safetensors header"),
        (b'{"a": null}', "tensor a is not described"),
        (b'{"a\\nb": null}', r"'a\\nb' is not a valid tensor name"),
        (b'{"' + b"a" * 2000 + b'": null}', "is not a valid tensor name"),
    ],
)
def test_headers_that_are_none(tmp_path, header, words):
    refused(tmp_path, pack(header, 0), words)


@ANY_FILE
@given(place=st.integers(0, 8 * len(GOOD) - 1))
@example(place=7 * 8 + 7)
def test_a_flipped_bit_is_refused_or_changes_numbers_only(tmp_path, place):
    data = bytearray(GOOD)
    data[place // 8] ^= 1 << place % 8
    assert elements_or_line(tmp_path, bytes(data)) <= len(GOOD)


@ANY_FILE
@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused_in_one_line(tmp_path, data):
    refused(tmp_path, data, "w.safetensors")


LEAF = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5))
JSON = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))
SIZE = st.one_of(st.integers(-2, 12), st.sampled_from([2**31, 2**62, 2**63, 2**64, 10**30]))
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "F64", "I64", "BOOL", "F8_E4M3", ""]) | LEAF,
        "shape": st.lists(SIZE, max_size=3) | JSON,
        "data_offsets": st.lists(SIZE, min_size=2, max_size=2) | JSON,
    }
)


@ANY_FILE
@given(header=st.dictionaries(st.text(max_size=4), ENTRY | JSON, max_size=4), size=st.integers(0, 64))
def test_any_header_is_refused_or_fits_the_file(tmp_path, header, size):
    assert elements_or_line(tmp_path, pack(header, size)) <= size
