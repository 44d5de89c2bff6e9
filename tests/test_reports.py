"""The reports that are committed, and what the README says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kokoro_coreml.bench import load_bench
from kokoro_coreml.parity.bounds import (
    DISTANCE,
    FLOAT32_SOUND_DB,
    LOSS,
    OWN_DISTANCE,
    OWN_DISTANCE_LOST_DB,
    OWN_DISTANCE_SOUND_DB,
    RATIO,
    ROUNDING,
    SAME_SOURCE,
)
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


@pytest.fixture(scope="module")
def readme():
    return " ".join((ROOT / "README.md").read_text("utf-8").split())


@pytest.fixture(scope="module")
def pipeline():
    return load_report(REPORTS / "kokoro-82m.declared.json")


def test_every_leg_passed_on_every_bucket(pipeline):
    recipe = load_recipe("kokoro-82m")
    assert (pipeline.verdict, pipeline.precision) == ("passed", "declared")
    assert {case.name for case in pipeline.cases} == {c.id for c in load_suite("full").cases}
    spoke = {timing.function for timing in pipeline.timings if timing.run_seconds}
    wanted = {f"tokens_{size}" for size in recipe.tokens}
    assert spoke == wanted | {f"frames_{size}" for size in recipe.frames}
    passed = {leg.name for leg in pipeline.legs if leg.verdict == "passed"}
    assert passed == set(EVERY_LEG) - {"coreml = upstream", RANGE}
    heard = [c.metrics["word_errors"] for c in pipeline.cases if c.words_reference]
    assert heard == [0.0] * sum(case.recognise for case in load_suite("full").cases)


def test_the_readme_says_what_the_full_suite_measured(pipeline, readme):
    metrics = [case.metrics for case in pipeline.cases]
    sound = [m for m in metrics if m["float32_snr_db"] >= FLOAT32_SOUND_DB]
    rest = [m for m in metrics if m["float32_snr_db"] < FLOAT32_SOUND_DB]
    own = [m[OWN_DISTANCE] for m in metrics]
    lost = [OWN_DISTANCE_SOUND_DB < x <= OWN_DISTANCE_LOST_DB for x in own]
    plain = [m[DISTANCE] for m, known in zip(metrics, lost, strict=True) if not known]
    ratios = [m[RATIO] for m, known in zip(metrics, lost, strict=True) if known]
    wide = [m[DISTANCE] for m in metrics if m[DISTANCE] > 0.3]
    low = [m["audio_snr_db"] for m in metrics if m["audio_snr_db"] < 38]
    assert all(m["duration_errors"] == 0 and m["padding_peak"] == 0 for m in metrics)
    assert max(m["gross_pitch_errors_percent"] for m in metrics) < 1
    for said in (
        f"itself reaches 40 dB ({len(sound)} cases) | {_least(sound, 'audio_snr_db')} dB and more",
        f"precision elsewhere ({len(rest)} cases) | {_most(rest, LOSS)} dB and less",
        f"at the same source | {_least(metrics, SAME_SOURCE)} dB and more",
        f"half precision adds | {_most(metrics, ROUNDING, 2)} dB and less",
        f"against upstream ({len(plain)} cases) | {max(plain):.2f} dB and less",
        f"own rounding ({len(ratios)} cases) | {max(ratios):.2f} and less",
        f"| pitch | {_most(metrics, 'f0_error_hz', 2)} Hz and less",
        f"up to {max(own):.2f} dB from itself in float32",
        f"in {len(wide)} of them it is above 0.3 dB, {max(wide):.2f} dB at most",
        f"{len(low)} cases are below 38 dB against upstream ({min(low):.1f} dB at least)",
    ):
        assert said in readme


def _least(metrics, name):
    return f"{min(m[name] for m in metrics):.1f}"


def _most(metrics, name, digits=1):
    return f"{max(m[name] for m in metrics):.{digits}f}"


def test_the_table_of_times_in_the_readme_is_the_committed_one(readme):
    report = load_bench(REPORTS / "bench.json")
    assert report.bundle.recipe == "kokoro-82m"
    rows = []
    together = [r for r in report.utterances.ratios if r.case is None and r.runner == "executor"]
    ratios = {r.versus: r.times_as_fast for r in together}
    for runner in report.utterances.runners:
        peak = f"{runner.peak_bytes / 1e9:.1f} GB"
        times = "1" if runner.name == "executor" else f"{1 / ratios[runner.name].median:.2f}"
        rows.append(f"| {runner.real_time_factor:.2f} | {times} | {peak} |")
    for row in rows:
        assert row in readme


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
