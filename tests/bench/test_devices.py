"""Core ML, by a stand-in whose predictions come from the executor, in real processes."""

from __future__ import annotations

import pytest

from kokoro_coreml.bench import BenchRequest, bench
from kokoro_coreml.bench.run import ON_DEVICE, failures
from kokoro_coreml.coreml import CoreMLUnavailableError
from tests.support.tiny_bundle import PACKAGE


def on_a_mac(small, *units):
    request = BenchRequest(
        small.bundle,
        runtime="coreml",
        suite=small.suite,
        cases=("quick",),
        repeat=2,
        compute_units=units,
    )
    return bench(request)


def test_each_choice_of_units_is_loaded_twice_and_run(small, mac_children):
    report = on_a_mac(small, "bundle", "CPU_AND_NE")
    own, engine = report.devices
    assert [device.compute_units for device in report.devices] == ["bundle", "CPU_AND_NE"]
    assert own.functions[0].compute_units == report.bundle.packages[0].compute_units
    assert engine.functions[0].compute_units == "CPU_AND_NE"
    for device in report.devices:
        assert (device.verdict, device.reason) == ("measured", None)
        (function,) = device.functions
        assert (function.package, function.function) == (PACKAGE, "main")
        assert function.cold_load_seconds > 0
        assert function.warm_load_seconds > 0
        assert function.first_seconds > 0
        assert len(function.run_seconds.values) == 2
        (case,) = device.cases
        assert len(case.seconds.values) == 2
        assert case.audio_seconds > 0
        assert case.real_time_factor == device.real_time_factor > 0
    assert own.functions[0].compile_seconds > 0
    assert engine.functions[0].compile_seconds is None, "compiled once, for all"
    assert report.utterances is None
    assert {one.what: one.reason for one in report.not_measured}["utterances"] == ON_DEVICE
    assert failures(report) == []


def test_an_abort_on_one_choice_is_reported_and_the_others_are_measured(small, mac_children):
    mac_children(abort_running=["CPU_AND_NE"], refuse_loading=["ALL"])
    crashed, refused, sound = on_a_mac(small, "CPU_AND_NE", "ALL", "CPU_ONLY").devices
    assert crashed.verdict == refused.verdict == "failed"
    assert "SIGABRT" in crashed.reason
    assert "NSLocalizedDescription" in refused.reason
    (function,) = crashed.functions
    assert function.cold_load_seconds > 0
    assert (function.first_seconds, function.run_seconds) == (None, None)
    assert crashed.cases[0].reason == crashed.reason
    assert refused.functions == ()
    assert sound.verdict == "measured"


def test_elsewhere_it_is_the_error_of_verify(small, monkeypatch):
    monkeypatch.setattr("kokoro_coreml.coreml.mac.platform.system", lambda: "Linux")
    with pytest.raises(CoreMLUnavailableError, match="--runtime coreml needs macOS 14"):
        on_a_mac(small)
