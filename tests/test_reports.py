"""The reports that are committed, and what the README says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kokoro_coreml.parity.request import EVERY_LEG, RANGE
from kokoro_coreml.parity.results import load_report
from kokoro_coreml.parity.suite import load_suite
from kokoro_coreml.recipe import load_recipe
from kokoro_coreml.sizes import load_sizes

ROOT = Path(__file__).parent.parent
REPORTS = ROOT / "artifacts" / "reports"


@pytest.mark.parametrize(
    ("recipe", "precision", "suite"),
    [
        ("complete", "float32", "smoke"),
        ("complete", "declared", "smoke"),
    ],
)
def test_the_committed_report_is_of_its_recipe_and_passed(recipe, precision, suite):
    report = load_report(REPORTS / f"{recipe}.{precision}.json")
    assert report.verdict == "passed"
    assert report.precision == precision
    assert report.bundle.recipe == load_recipe(recipe).name
    assert {case.name for case in report.cases} == {c.id for c in load_suite(suite).cases}
    verdicts = {leg.name: leg.verdict for leg in report.legs}
    assert verdicts.pop("coreml = upstream") == "not run"
    assert set(verdicts.values()) == {"passed"}
    assert len(report.operations) > 2000


def test_the_report_of_the_pipeline_says_what_the_readme_does():
    report, recipe = load_report(REPORTS / "kokoro-82m.declared.json"), load_recipe("kokoro-82m")
    assert report.verdict == "failed"
    assert {case.name for case in report.cases} == {c.id for c in load_suite("full").cases}
    spoke = {timing.function for timing in report.timings if timing.run_seconds}
    wanted = {f"tokens_{size}" for size in recipe.tokens}
    assert spoke == wanted | {f"frames_{size}" for size in recipe.frames}
    checks = [c for leg in report.legs if leg.name == "package = upstream" for c in leg.checks]
    wrong = [c.metric for c in checks if c.verdict == "failed"]
    assert wrong == ["f0_error_hz"], "by the root of mean squares that was bounded then"
    verdicts = {leg.name for leg in report.legs if leg.verdict == "passed"}
    assert verdicts == set(EVERY_LEG) - {"package = upstream", "coreml = upstream", RANGE}
    distances = [case.metrics["log_spectral_distance_db"] for case in report.cases]
    assert sum(value > 0.3 for value in distances) == 13
    assert max(distances) == pytest.approx(0.61, abs=0.005)
    assert min(case.metrics["same_source_snr_db"] for case in report.cases) > 46
    assert all(c.value == 0 for c in checks if c.metric == "suite_duration_errors_percent")


def test_the_committed_page_is_whole():
    page = (REPORTS / "complete.float32.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.count("<audio") == 3 * len(load_suite("smoke").cases)
    assert page.rstrip().endswith("</html>")


def test_the_table_of_sizes_in_the_readme_is_the_committed_one():
    report, readme = load_sizes(REPORTS / "sizes.json"), (ROOT / "README.md").read_text("utf-8")
    lines = [line for line in readme.splitlines() if line.startswith("| `")]
    for row in report.rows:
        size, quality = f"{row.sizes.package_bytes / 1e6:.1f} MB", row.quality
        spread = quality.spreads["log_spectral_distance_db"]
        numbers = (
            f"| {size} |",
            f"| {quality.duration_errors_percent:.1f} % |",
            f"| {spread.median:.2f} ({spread.worst:.2f}) |",
        )
        found = [line for line in lines if all(number in line for number in numbers)]
        assert len(found) == 1, row.name
        assert found[0].endswith(f"| {quality.word_errors} |")
    assert report.smallest == load_recipe("kokoro-82m").compression.default
    best = {row.name: row.sizes.package_bytes for row in report.rows}
    assert best["int8"] <= 85e6
    assert best["50MB"] <= 50e6
