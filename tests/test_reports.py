"""The reports of the default recipe that are committed."""

from __future__ import annotations

from pathlib import Path

import pytest

from kokoro_coreml.parity.results import load_report
from kokoro_coreml.parity.suite import load_suite
from kokoro_coreml.recipe import load_recipe

REPORTS = Path(__file__).parent.parent / "artifacts" / "reports"


@pytest.mark.parametrize("precision", ["float32", "declared"])
def test_the_committed_report_is_of_the_default_recipe_and_passed(precision):
    report = load_report(REPORTS / f"kokoro-82m.{precision}.json")
    assert report.verdict == "passed"
    assert report.precision == precision
    assert report.bundle.recipe == load_recipe("complete").name
    assert {case.name for case in report.cases} == {c.id for c in load_suite("smoke").cases}
    verdicts = {leg.name: leg.verdict for leg in report.legs}
    assert verdicts.pop("coreml = upstream") == "not run"
    assert set(verdicts.values()) == {"passed"}
    assert len(report.operations) > 2000


def test_the_committed_page_is_whole():
    page = (REPORTS / "kokoro-82m.float32.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.count("<audio") == 3 * len(load_suite("smoke").cases)
    assert page.rstrip().endswith("</html>")
