"""The gate fails closed: what is not proven equal does not pass."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from kokoro_coreml.errors import ParityError
from kokoro_coreml.manifest import LegRecord
from kokoro_coreml.parity import gate
from kokoro_coreml.parity.gate import (
    Case,
    leg,
    looser_than_usual,
    package_against_upstream,
    summarise,
)
from kokoro_coreml.parity.reference import ReferenceSpeech
from kokoro_coreml.recipe import Thresholds, load_recipe, recipe_names
from kokoro_coreml.synthesis import Spoken, Utterance

THRESHOLDS = Thresholds(
    module_snr_db=90.0,
    bucket_snr_db=90.0,
    rewrite_snr_db=90.0,
    audio_snr_db=35.0,
    log_spectral_distance_db=0.3,
)
AUDIO = np.random.default_rng(0).standard_normal(4800).astype(np.float32)
DURATIONS = np.array([1, 5, 2], dtype=np.int32)
CASE = Case(
    "case",
    Utterance((0, 43, 0), np.zeros((1, 256), dtype=np.float32)),
    ReferenceSpeech(AUDIO, DURATIONS.astype(np.int64)),
)
SILENCE = np.zeros(600, dtype=np.float32)
SPOKEN = Spoken(audio=AUDIO.copy(), durations=DURATIONS, padding=SILENCE)


def judge(**changes: np.ndarray) -> LegRecord:
    spoken = dataclasses.replace(SPOKEN, **changes)
    return package_against_upstream("leg", spoken, CASE, THRESHOLDS)


@pytest.mark.parametrize(
    ("metric", "value", "bound", "verdict"),
    [
        ("audio_snr_db", 35.0, 35.0, "passed"),
        ("audio_snr_db", 34.9, 35.0, "failed"),
        ("audio_snr_db", math.inf, 35.0, "passed"),
        ("audio_snr_db", -math.inf, 35.0, "failed"),
        ("rewrite_snr_db", 80.0, 90.0, "failed"),
        ("log_spectral_distance_db", 0.3, 0.3, "passed"),
        ("log_spectral_distance_db", 0.31, 0.3, "failed"),
        ("level_difference_db", 0.11, 0.1, "failed"),
        ("duration_errors", 0.0, 0.0, "passed"),
        ("duration_errors", 1.0, 0.0, "failed"),
        ("padding_peak", 1e-9, 0.0, "failed"),
    ],
)
def test_a_bound_holds_in_its_own_direction(
    metric: str, value: float, bound: float, verdict: str
) -> None:
    record = leg("leg", {metric: value}, {metric: bound})
    assert record.verdict == verdict
    assert record.detail == (None if verdict == "passed" else f"out of bounds: {metric}")


@pytest.mark.parametrize("metric", ["audio_snr_db", *gate.AT_MOST])
def test_nan_fails_in_either_direction(metric: str) -> None:
    assert leg("leg", {metric: math.nan}, {metric: 0.0}).verdict == "failed"


@pytest.mark.parametrize("metric", ["audio_snr_db", *gate.AT_MOST])
def test_a_threshold_without_its_metric_fails(metric: str) -> None:
    assert leg("leg", {}, {metric: 0.0}).verdict == "failed"
    assert leg("leg", {"other": 100.0}, {metric: 0.0}).verdict == "failed"


def test_one_failure_among_many_fails_and_is_named() -> None:
    metrics = {"audio_snr_db": 50.0, "duration_errors": 2.0, "padding_peak": math.nan}
    record = leg("leg", metrics, {"audio_snr_db": 35.0, "duration_errors": 0, "padding_peak": 0})
    assert record.verdict == "failed"
    assert record.detail == "out of bounds: duration_errors, padding_peak"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_record_can_be_written_as_strict_json(value: float) -> None:
    record = leg("leg", {"audio_snr_db": value}, {"audio_snr_db": 35.0})
    json.dumps(dict(record.metrics), allow_nan=False)
    assert abs(record.metrics["audio_snr_db"]) == gate.SNR_CAP_DB


def test_equal_speech_passes() -> None:
    record = judge()
    assert record.verdict == "passed", record.detail
    assert record.metrics["audio_snr_db"] == gate.SNR_CAP_DB


@pytest.mark.parametrize(
    ("changes", "metric"),
    [
        ({"audio": AUDIO + np.float32(0.03) * AUDIO[::-1]}, "audio_snr_db"),
        ({"audio": np.float32(1.5) * AUDIO}, "level_difference_db"),
        ({"audio": np.float32(1.5) * AUDIO}, "log_spectral_distance_db"),
        ({"audio": AUDIO[:-1]}, "audio_snr_db"),
        ({"audio": AUDIO[:-1]}, "log_spectral_distance_db"),
        ({"audio": AUDIO[:-1]}, "level_difference_db"),
        ({"audio": np.full_like(AUDIO, np.nan)}, "audio_snr_db"),
        ({"durations": np.array([1, 4, 3], dtype=np.int32)}, "duration_errors"),
        ({"durations": np.array([1, 5], dtype=np.int32)}, "duration_errors"),
        ({"padding": np.array([0, 1e-6], dtype=np.float32)}, "padding_peak"),
        ({"padding": np.array([0, np.nan], dtype=np.float32)}, "padding_peak"),
    ],
)
def test_wrong_speech_fails_by_the_metric_meant_for_it(
    changes: dict[str, np.ndarray], metric: str
) -> None:
    record = judge(**changes)
    assert record.verdict == "failed"
    assert metric in (record.detail or "")


def test_wrong_durations_are_counted() -> None:
    record = judge(durations=np.array([1, 4, 3], dtype=np.int32))
    assert record.metrics["duration_errors"] == 2.0


def test_a_summary_of_passed_legs_holds_them_all() -> None:
    legs = [judge(), leg("other", {}, {})]
    record = summarise(legs, runtime="executor")
    assert record.verdict == "passed"
    assert record.runtime == "executor"
    assert record.legs == tuple(legs)


def test_a_summary_names_every_failed_leg_with_its_numbers() -> None:
    legs = [
        judge(),
        leg("first bad", {"audio_snr_db": 12.5}, {"audio_snr_db": 35.0}),
        leg("second bad", {"duration_errors": 3.0}, {"duration_errors": 0.0}),
    ]
    with pytest.raises(ParityError) as caught:
        summarise(legs, runtime="executor")
    message = str(caught.value)
    assert "first bad: out of bounds: audio_snr_db audio_snr_db 12.5" in message
    assert "second bad: out of bounds: duration_errors duration_errors 3" in message
    assert "no bundle was written" in message


def test_a_leg_that_was_not_run_is_not_a_pass() -> None:
    skipped = LegRecord("core ml", "not run", {}, {}, "no Mac")
    with pytest.raises(ParityError, match="core ml: no Mac"):
        summarise([judge(), skipped], runtime="executor")


def test_nothing_compared_is_a_failure() -> None:
    with pytest.raises(ParityError, match="nothing was compared"):
        summarise([], runtime="executor")


def test_no_recipe_of_this_project_lets_more_pass_than_is_usual() -> None:
    assert {name: looser_than_usual(load_recipe(name)) for name in recipe_names()} == dict.fromkeys(
        recipe_names(), ""
    )


@pytest.mark.parametrize(
    ("key", "loose", "strict"),
    [("audio_snr_db", 29.9, 60.0), ("log_spectral_distance_db", 0.31, 0.1)],
)
def test_a_bound_that_lets_more_pass_is_told(key: str, loose: float, strict: float) -> None:
    recipe = load_recipe("kokoro-82m")

    def told(bound: float) -> str:
        asked = dataclasses.replace(recipe.parity, **{key: bound})
        return looser_than_usual(dataclasses.replace(recipe, parity=asked))

    usual = getattr(gate.USUAL, key)
    assert told(loose) == f"{key} {loose:g} instead of {usual:g}"
    assert told(strict) == told(usual) == ""
