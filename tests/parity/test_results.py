from __future__ import annotations

import dataclasses
import json
import math

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kokoro_coreml.errors import ParityError
from kokoro_coreml.parity.results import (
    CAP,
    SCHEMA_VERSION,
    Threshold,
    finite,
    load_report,
    report_schema,
)
from kokoro_coreml.resources import data_file
from tests.support.reports import device_report, empty_report, failed_report, passed_report

REPORTS = {
    "passed": lambda: passed_report()[0],
    "failed": lambda: failed_report()[0],
    "empty": empty_report,
    "device": lambda: device_report()[0],
}


@pytest.fixture(params=REPORTS)
def report(request):
    return REPORTS[request.param]()


def test_the_schema_file_is_the_one_generated_from_the_classes():
    stored = data_file("parity.schema.json").read_text(encoding="utf-8")
    assert stored == json.dumps(report_schema(), indent=2, ensure_ascii=False) + "\n"
    jsonschema.Draft202012Validator.check_schema(json.loads(stored))


def test_a_report_is_read_back_as_it_was_and_fits_its_schema(report, tmp_path):
    path = tmp_path / "parity.json"
    path.write_text(report.to_json(), encoding="utf-8")
    assert load_report(path) == report
    assert load_report(path).to_json() == report.to_json()
    jsonschema.validate(json.loads(report.to_json()), report_schema())


def test_the_schema_refuses_what_the_classes_refuse():
    raw = passed_report()[0].to_dict()
    for change in ({"verdict": "perhaps"}, {"surprise": 1}, {"cases": None}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(raw | change, report_schema())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": SCHEMA_VERSION + 1}, ["schema 2", "reads 1"]),
        ({"verdict": "maybe"}, ["verdict", "'passed', 'failed'"]),
        ({"verdicts": "passed"}, ["unknown key 'verdicts'", "did you mean 'verdict'"]),
        ({"suite": ""}, ["suite", "at least 1"]),
    ],
)
def test_a_wrong_report_is_refused_with_the_place_named(change, said, tmp_path):
    path = tmp_path / "parity.json"
    path.write_text(json.dumps(passed_report()[0].to_dict() | change), encoding="utf-8")
    with pytest.raises(ParityError) as caught:
        load_report(path)
    assert all(text in str(caught.value) for text in said), str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"\xff\xfe", b'"text"'])
def test_what_is_no_report_at_all_is_refused(content, tmp_path):
    path = tmp_path / "parity.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ParityError, match=r"parity\.json"):
        load_report(path)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_json_cannot_hold_is_refused_before_it_is_written(value):
    report, _ = passed_report()
    case = dataclasses.replace(report.cases[0], metrics={"audio_snr_db": value})
    with pytest.raises(ParityError, match="finite number"):
        dataclasses.replace(report, cases=(case,)).to_json()


@given(st.floats(-CAP, CAP), st.sampled_from(["higher", "lower"]))
def test_nan_made_finite_holds_no_bound_a_measurement_could_have(bound, better):
    threshold = Threshold("metric", "leg", bound, better, "reason")
    assert not threshold.holds(math.nan)
    made = finite(math.nan, better)
    assert math.isfinite(made)
    assert made == bound or not threshold.holds(made)


@pytest.mark.parametrize(
    ("value", "better", "expected"),
    [
        (math.inf, "higher", CAP),
        (-math.inf, "higher", -CAP),
        (math.nan, "higher", -CAP),
        (math.nan, "lower", CAP),
        (-math.inf, "lower", -CAP),
        (41.5, "higher", 41.5),
        (-0.25, "lower", -0.25),
    ],
)
def test_only_what_json_lacks_is_capped(value, better, expected):
    assert finite(value, better) == expected


@pytest.mark.parametrize(("better", "inside", "outside"), [("higher", 36, 34), ("lower", 34, 36)])
def test_a_bound_holds_on_its_own_value_and_on_one_side(better, inside, outside):
    threshold = Threshold("metric", "leg", 35.0, better, "reason")
    assert threshold.holds(35.0)
    assert threshold.holds(inside)
    assert not threshold.holds(outside)
