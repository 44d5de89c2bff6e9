"""A package in naive half precision: what the modes `declared` and `stress` make of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kokoro_coreml.parity.request import EVERY_LEG, Request
from kokoro_coreml.parity.results import Report
from kokoro_coreml.parity.thresholds import thresholds_for
from kokoro_coreml.parity.verification import verify

LEGS = ("inputs = upstream", "package = rewrite", "package = upstream", "range")


@pytest.fixture(scope="module")
def half(bench):
    return bench.lowered_anew("half", precision="float16")


def judged(bench, bundle, precision: str) -> Report:
    """The leg in float32 is given what half-precision weights leave of it."""
    loose = {"rewrite_snr_db": 10.0, "opening_snr_db": 0.0, "tail_snr_db": 0.0}
    found = thresholds_for("float16")
    request = Request(
        bundle,
        precision=precision,
        suite=str(bench.folder / "suite.toml"),
        checkpoint=str(bench.folder / "weights"),
        thresholds=tuple(replace(t, bound=loose.get(t.metric, t.bound)) for t in found),
        waive=tuple(name for name in EVERY_LEG if name not in LEGS),
    )
    return verify(request).report


def test_declared_precision_shows_where_it_starts_to_hurt(bench, half):
    report = judged(bench, half, "declared")
    assert "at declared precision beside itself in float32" in report.operations_title
    halves = [o for o in report.operations if o.declared.startswith("fp16")]
    assert len(halves) > 1000
    assert max(o.local_snr_db for o in halves if o.local_snr_db < 999) < 120
    assert min(o.snr_db for o in halves) < 40
    assert all(o.module for o in halves)
    assert {c.metric for leg in report.legs for c in leg.checks} >= {
        "suite_duration_errors_percent",
        "audio_snr_db",
    }
    assert report.verdict == "failed", "the phases of the source do not survive half precision"


def test_stress_names_values_a_device_may_not_hold(bench, half):
    report = judged(bench, half, "stress")
    kinds = {finding.kind for finding in report.findings}
    assert "subnormal" in kinds
    (leg,) = [leg for leg in report.legs if leg.name == "range"]
    wrong = [f for f in report.findings if f.kind != "subnormal"]
    assert (leg.verdict == "failed") == bool(wrong)
    assert all(0 < f.count <= f.elements for f in report.findings)
    assert any(f.module for f in report.findings)
