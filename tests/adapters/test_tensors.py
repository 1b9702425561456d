"""Headers of safetensors files that lie: refused in words before any library opens them, and soon."""

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from medcot.adapters.tensors import header
from medcot.errors import BadInput
from tests.adapters import hostile
from tests.adapters.test_verify import DAMAGE, JSON, damaged

ONE = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
TWO = {**ONE, "data_offsets": [16, 32]}
MANY_DIGITS = b"9" * 4000


def refused(tmp_path, raw: bytes) -> None:
    file = tmp_path / "adapter_model.safetensors"
    file.write_bytes(raw)
    with pytest.raises(BadInput, match="is not a whole safetensors file"):
        header(file)


@pytest.mark.parametrize(
    "tensors",
    [
        {"a": {**ONE, "shape": [-2, -2]}},
        {"a": {**ONE, "shape": [2.0, 2]}},
        {"a": {**ONE, "shape": [True, 4]}},
        {"a": {**ONE, "shape": [1, 1, 1, 1, 1, 4]}},
        {"a": {**ONE, "shape": [2**31, 2**31]}},
        {"a": {**ONE, "shape": "22"}},
        {"a": {**ONE, "shape": None}},
        {"a": {**ONE, "dtype": ["F32"]}},
        {"a": {**ONE, "dtype": "I64"}},
        {"a": {**ONE, "data_offsets": [0, 16.0]}},
        {"a": {**ONE, "data_offsets": [0, 16, 32]}},
        {"a": {**ONE, "data_offsets": [-16, 0]}},
        {"a": ONE, "b": ONE},
        {"a": ONE, "b": {**ONE, "data_offsets": [8, 24]}},
        {"a": ONE, "b": {**ONE, "data_offsets": [20, 36]}},
        {"a": []},
        {},
        {"__metadata__": {}},
    ],
    ids=str,
)
def test_a_header_that_lies_is_refused(tmp_path, tensors):
    for size in (16, 32, 36):
        refused(tmp_path, hostile.weights(tensors, size))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"[" * 1_000_000,
        b'{"a":' * 100_000,
        b'{"a": {"dtype": "F32", "shape": [' + b",".join([MANY_DIGITS] * 2000) + b'], "data_offsets": [0, 16]}}',
        b'{"a": ' + json.dumps(ONE).encode() + b', "a": ' + json.dumps(ONE).encode() + b"}",
        b'{"a": {"dtype": "F32", "dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}',
        b" " * 10_000_001,
        b"{" + b",".join(b'"%d":{}' % i for i in range(700_000)) + b"}",
        b'{"a": [' + b"[]," * 400_000 + b"[]]}",
        b"\xff" * 100,
    ],
    ids=[
        "nothing",
        "list",
        "deep",
        "deep objects",
        "digits",
        "twice",
        "field twice",
        "long",
        "many",
        "many lists",
        "no text",
    ],
)
def test_a_header_that_costs_is_refused(tmp_path, raw):
    refused(tmp_path, hostile.weights(raw, 16))


def test_lengths_that_are_none_are_refused(tmp_path):
    for raw in (b"", b"\0" * 7, b"\xff" * 8, struct.pack("<Q", 2**40), struct.pack("<Q", 50) + b"{}"):
        refused(tmp_path, raw)


def agree(file, raw: bytes) -> None:
    """What is taken here the library takes too, with the same shapes."""
    file.write_bytes(raw)
    try:
        found = header(file)
    except BadInput:
        return
    with safe_open(file, "np") as tensors:
        assert {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()} == found  # noqa: SIM118


def headers(count):
    @settings(max_examples=count, derandomize=True, deadline=None, database=None)
    @given(st.sampled_from(["dtype", "shape", "data_offsets", "x"]), JSON, *DAMAGE)
    def check(file, field, value, place, kind, new):
        raw = json.dumps({"a": {**ONE, field: value}, "b": TWO}).encode()
        agree(file, hostile.weights(raw, 32))
        agree(file, hostile.weights(damaged(raw, place, kind, new), 32))
        agree(file, damaged(hostile.weights({"a": ONE, "b": TWO}, 32), place, kind, new))

    return check


def test_any_header_is_taken_or_refused_in_words(tmp_path):
    headers(100)(tmp_path / "adapter_model.safetensors")


@pytest.mark.thorough
def test_thousands_of_headers_are_taken_or_refused_in_words(tmp_path):
    headers(5000)(tmp_path / "adapter_model.safetensors")
