"""What keeps a golden file from holding what its function does not do."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kokoro_coreml.errors import PhonemeError, VoiceError
from kokoro_coreml.goldens import cases as registry
from kokoro_coreml.goldens.arrays import array, content, floats, integers, raw
from kokoro_coreml.goldens.cases import Case, Function, GoldensError, case, golden


def refusing():
    raise VoiceError("voice 'x': no such file")


def test_a_case_keeps_what_its_function_gives():
    made = case("one", {"a": 1}, lambda: {"b": 2})
    assert made.to_dict() == {"id": "one", "input": {"a": 1}, "output": {"b": 2}}


def test_a_case_keeps_what_its_function_refuses():
    made = case("one", {"a": 1}, refusing, refused=["'x'", "no such"])
    error = {"code": 6, "title": "voice", "contains": ["'x'", "no such"]}
    assert made.to_dict() == {"id": "one", "input": {"a": 1}, "error": error}


def test_a_case_that_is_accepted_against_expectation_is_a_failure():
    with pytest.raises(GoldensError, match="'one': accepted"):
        case("one", {}, dict, refused=["no"])


def test_a_case_that_is_refused_against_expectation_is_a_failure():
    with pytest.raises(GoldensError, match=r"'one': expected no error, found: voice 'x'"):
        case("one", {}, refusing)


def test_a_case_whose_error_says_something_else_is_a_failure():
    with pytest.raises(GoldensError, match=r"expected \['a folder'\]"):
        case("one", {}, refusing, refused=["no such file", "a folder"])


def test_a_defect_is_no_case():
    with pytest.raises(ZeroDivisionError):
        case("one", {}, lambda: {"a": 1 // 0}, refused=["division"])


def test_a_subclass_is_written_with_its_own_code():
    class LongError(PhonemeError):
        pass

    def long():
        raise LongError("too long")

    assert case("one", {}, long, refused=["too long"]).error.code == 7


def test_a_function_is_registered_once(monkeypatch):
    monkeypatch.setattr(registry, "_FUNCTIONS", {})
    golden("one", tolerance=0.5)(list)
    with pytest.raises(ValueError, match="'one' is registered twice"):
        golden("one")(list)
    golden("a")(list)
    assert registry.functions() == (Function("a", 0.0, list), Function("one", 0.5, list))


def test_two_cases_of_one_name_are_a_failure():
    function = Function("f", 0.0, lambda: [Case("a", {}, {}), Case("b", {}, {}), Case("a", {}, {})])
    with pytest.raises(GoldensError, match="f: two cases are called 'a'"):
        function.cases()


@given(st.lists(st.floats(width=32, allow_nan=False)))
def test_floats_come_back_bit_for_bit(values):
    made = json.loads(json.dumps(floats(values)))
    expected = struct.pack(f"<{len(values)}f", *values)
    assert array(made).tobytes() == expected
    assert array(made).dtype == np.float32


@given(st.lists(st.integers(-(2**31), 2**31 - 1)))
def test_integers_come_back(values):
    assert array(integers(values)).tolist() == values


@given(st.binary())
def test_bytes_come_back(values):
    assert content(raw(values)) == values


@pytest.mark.parametrize(
    "wrong", [{}, {"f64le": ""}, {"f32le": "", "i32le": ""}, {"f32le": "AA=="}]
)
def test_what_is_no_array_is_refused(wrong):
    with pytest.raises(ValueError, match=r"expected one of|multiple of"):
        array(wrong)
