"""A small cut of the default recipe, of the real weights, says what upstream says (slow)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kokoro_coreml.parity.request import EVERY_LEG, Request
from kokoro_coreml.parity.results import Report
from kokoro_coreml.parity.summary import summary
from kokoro_coreml.parity.thresholds import PACKAGE_UPSTREAM
from kokoro_coreml.parity.verification import verify
from kokoro_coreml.resources import suites_folder

pytestmark = pytest.mark.slow

CASES = ("en-one-phoneme", "ja-short")
"""Of the suite `smoke`: one for each token bucket, without speech recognition."""


@pytest.fixture(scope="module")
def report(recorded_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    text = (suites_folder() / "smoke.toml").read_text(encoding="utf-8")
    head, *tables = re.split(r"(?m)^(?=\[\[cases\]\])", text)
    chosen = [table for table in tables if any(f'id = "{name}"' in table for name in CASES)]
    path = tmp_path_factory.mktemp("suite") / "short.toml"
    path.write_text(head + "".join(chosen), encoding="utf-8")
    waived = tuple(name for name in EVERY_LEG if name != PACKAGE_UPSTREAM)
    return verify(Request(recorded_bundle, suite=str(path), waive=waived)).report


def test_packages_say_what_upstream_says(report: Report) -> None:
    """With the recipe's own bounds, every operation rounded as it declares."""
    assert report.verdict == "passed", summary(report)
    assert report.precision == "declared"
    assert tuple(case.name for case in report.cases) == CASES
    (leg,) = [leg for leg in report.legs if leg.name == PACKAGE_UPSTREAM]
    assert leg.verdict == "passed"
