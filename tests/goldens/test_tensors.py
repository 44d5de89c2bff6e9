"""Arrays of recordings: what is written comes back, and nothing else passes for it."""

from __future__ import annotations

import base64
import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kokoro_coreml.goldens import GoldensError
from kokoro_coreml.goldens.tensors import MOST_SAMPLES, tensor, values_of

SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, max_side=9)
FINITE = st.floats(width=16, allow_nan=False, allow_infinity=False)


@given(
    st.sampled_from(["float32", "float16"]).flatmap(
        lambda dtype: arrays.arrays(dtype, SHAPES, elements=FINITE)
    )
    | arrays.arrays(np.int32, SHAPES)
)
def test_an_array_comes_back_bit_for_bit(values):
    record = json.loads(json.dumps(tensor("x", values, whole=True)))
    again = values_of(record)
    assert again.dtype == values.dtype
    assert again.shape == values.shape
    assert again.tobytes() == values.tobytes()
    assert record["sha256"] == hashlib.sha256(values.tobytes()).hexdigest()
    sample = record["sample"]
    assert 0 < len(sample["values"]) <= MOST_SAMPLES
    assert sample["values"] == values.reshape(-1)[:: sample["stride"]].tolist()


def test_the_zeros_at_the_end_are_left_out():
    values = np.array([[1.0, 0.5, 0.0, 0.0]], dtype=np.float32)
    record = tensor("x", values, whole=True)
    assert base64.b64decode(record["data"]) == values.tobytes()[:8].rstrip(b"\0")
    assert np.array_equal(values_of(record), values)
    nothing = tensor("x", np.zeros((2, 3), dtype=np.int32), whole=True)
    assert nothing["data"] == ""
    assert np.array_equal(values_of(nothing), np.zeros((2, 3)))


def test_an_array_of_any_layout_is_written_row_by_row():
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert tensor("x", values.T, whole=True) == tensor("x", values.T.copy(), whole=True)
    assert values_of(tensor("x", values[:, ::2], whole=True)).tolist() == values[:, ::2].tolist()


def test_a_large_array_is_known_by_its_digest():
    values = np.arange(100, dtype=np.float32)
    record = tensor("x", values, whole=False)
    assert record == tensor("x", values, whole=True) | {"data": None}
    assert values_of(record) is None
    assert record["sample"] == {"stride": 4, "values": values[::4].tolist()}


@pytest.mark.parametrize("dtype", ["float64", "int64", "bool"])
def test_other_types_are_refused(dtype):
    with pytest.raises(GoldensError, match=rf"'x' is {dtype}; a recording holds float32, float16"):
        tensor("x", np.zeros(3, dtype=dtype), whole=True)


def _longer(record):
    return record | {"data": base64.b64encode(b"\1" * 20).decode()}


def _other(record):
    return record | {"data": base64.b64encode(b"\1\2").decode()}


def _shape(record):
    return record | {"shape": [5]}


@pytest.mark.parametrize("change", [_longer, _other, _shape])
def test_bytes_that_are_not_those_of_the_digest_are_refused(change):
    record = tensor("x", np.ones(4, dtype=np.float32), whole=True)
    with pytest.raises(GoldensError, match="'x': its bytes are not those of its digest"):
        values_of(change(record))
