"""`verify --runtime coreml` on a stand-in for a Mac, whose predictions come from the executor."""

from __future__ import annotations

from kokoro_coreml.parity.request import EVERY_LEG, Request
from kokoro_coreml.parity.summary import summary
from kokoro_coreml.parity.verification import verify
from tests.support.tiny_bundle import tiny_thresholds

UNITS = ("CPU_ONLY", "CPU_AND_NE")
LEG = "coreml = upstream"


def on_a_mac(bench):
    request = Request(
        bench.bundle,
        runtime="coreml",
        precision="float32",
        suite=str(bench.folder / "suite.toml"),
        compute_units=UNITS,
        checkpoint=str(bench.folder / "weights"),
        thresholds=tiny_thresholds(),
        waive=tuple(name for name in EVERY_LEG if name not in (LEG, "inputs = upstream")),
    )
    return verify(request).report


def test_every_compute_unit_is_judged_timed_and_planned(bench, mac_children):
    report = on_a_mac(bench)
    assert report.verdict == "passed", summary(report)
    assert report.compute_units == UNITS
    names = [f"{case} on {unit}" for unit in UNITS for case in ("hello", "quick")]
    assert [case.name for case in report.cases] == names
    (leg,) = [leg for leg in report.legs if leg.name == LEG]
    assert {check.where for check in leg.checks} >= set(names)
    assert [t.compute_units for t in report.timings] == list(UNITS)
    assert all(len(t.run_seconds) == 2 for t in report.timings)
    assert {use.compute_units for use in report.devices} == set(UNITS)
    assert sum(use.operations for use in report.devices) > 1000


def test_an_abort_of_core_ml_is_a_failed_leg_and_not_the_end(bench, mac_children):
    mac_children(abort_running=["CPU_AND_NE"])
    report = on_a_mac(bench)
    assert report.verdict == "failed"
    (leg,) = [leg for leg in report.legs if leg.name == LEG]
    assert leg.verdict == "failed"
    assert "CPU_AND_NE" in leg.detail
    assert "SIGABRT" in leg.detail
    assert "hello on CPU_ONLY" in [case.name for case in report.cases]
    assert any(suspect.leg == LEG for suspect in report.suspects)
