"""The distances give the known answer on known signals, and never a good one on broken ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kokoro_coreml.parity.metrics import level_difference_db, log_spectral_distance_db, snr_db

SECOND = 24_000
TONE = np.sin(2 * np.pi * 440 * np.arange(SECOND) / SECOND).astype(np.float32)
NOISE = np.random.default_rng(0).standard_normal(SECOND).astype(np.float32)
METRICS = [snr_db, log_spectral_distance_db, level_difference_db]

Metric = Callable[..., float]


def with_value(value: float) -> np.ndarray:
    broken = NOISE.copy()
    broken[SECOND // 2] = value
    return broken


@pytest.mark.parametrize(("gain", "expected"), [(1.1, 20.0), (1.01, 40.0), (2.0, 0.0), (0.0, 0.0)])
def test_snr_of_a_gain_error_is_its_size(gain: float, expected: float) -> None:
    reference = NOISE.astype(np.float64)
    assert snr_db(reference=reference, candidate=gain * reference) == pytest.approx(expected)


def test_snr_of_added_noise_is_the_ratio_of_powers() -> None:
    noise = TONE[::-1] * np.float32(0.01)
    assert snr_db(reference=TONE, candidate=TONE + noise) == pytest.approx(40.0, abs=1e-3)


def test_snr_is_measured_against_the_reference_not_the_candidate() -> None:
    quiet, loud = TONE, 3 * TONE
    assert snr_db(reference=quiet, candidate=loud) == pytest.approx(-6.02, abs=0.01)
    assert snr_db(reference=loud, candidate=quiet) == pytest.approx(3.52, abs=0.01)


def test_snr_is_infinite_for_equal_signals_and_minus_infinite_for_a_silent_reference() -> None:
    assert snr_db(reference=NOISE, candidate=NOISE.copy()) == np.inf
    assert snr_db(reference=0 * NOISE, candidate=NOISE) == -np.inf


def test_snr_sums_in_double_precision() -> None:
    reference = np.full(4 * SECOND, 1e25, dtype=np.float32)
    assert snr_db(reference=reference, candidate=np.float32(0.9) * reference) == pytest.approx(
        20.0, abs=1e-3
    )


@pytest.mark.parametrize("metric", [snr_db, log_spectral_distance_db])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_candidate_that_is_not_finite_is_never_good(metric: Metric, value: float) -> None:
    with np.errstate(invalid="ignore"):
        found = metric(reference=NOISE, candidate=with_value(value))
    assert np.isnan(found) or found == -np.inf


@pytest.mark.parametrize("metric", METRICS)
def test_nan_in_either_signal_gives_nan(metric: Metric) -> None:
    assert np.isnan(metric(reference=NOISE, candidate=with_value(np.nan)))
    assert np.isnan(metric(reference=with_value(np.nan), candidate=NOISE))


@pytest.mark.parametrize("metric", [snr_db, log_spectral_distance_db])
def test_different_shapes_are_refused(metric: Metric) -> None:
    with pytest.raises(ValueError, match=r"reference \(24000,\), candidate \(23999,\)"):
        metric(reference=NOISE, candidate=NOISE[:-1])
    with pytest.raises(ValueError, match="shapes differ"):
        metric(reference=NOISE, candidate=NOISE.reshape(1, -1))


@pytest.mark.parametrize("metric", METRICS)
def test_reference_and_candidate_are_named(metric: Metric) -> None:
    with pytest.raises(TypeError):
        metric(NOISE, NOISE)


def test_log_spectral_distance_is_zero_for_equal_signals() -> None:
    assert log_spectral_distance_db(reference=NOISE, candidate=NOISE.copy()) == 0.0


@pytest.mark.parametrize("gain", [2.0, 0.5])
def test_log_spectral_distance_of_a_factor_two_is_six_decibels(gain: float) -> None:
    candidate = np.float32(gain) * NOISE
    found = log_spectral_distance_db(reference=NOISE, candidate=candidate)
    assert found == pytest.approx(20 * np.log10(2), abs=0.01)


def test_log_spectral_distance_does_not_hear_what_lies_below_its_floor() -> None:
    hiss = np.float32(1e-7) * NOISE
    assert log_spectral_distance_db(reference=TONE, candidate=TONE + hiss) < 0.01
    assert log_spectral_distance_db(reference=TONE, candidate=TONE + 1e5 * hiss) > 10.0


def test_log_spectral_distance_hears_the_end_of_the_signal() -> None:
    cut = NOISE.copy()
    cut[-100:] = 0
    assert log_spectral_distance_db(reference=NOISE, candidate=cut) > 0.01


@pytest.mark.parametrize(("gain", "expected"), [(2.0, 6.02), (0.5, -6.02), (1.0, 0.0), (-1.0, 0.0)])
def test_level_difference_is_the_gain_with_its_sign(gain: float, expected: float) -> None:
    found = level_difference_db(reference=NOISE, candidate=np.float32(gain) * NOISE)
    assert found == pytest.approx(expected, abs=0.01)


def test_level_of_silence_is_equal_only_to_silence() -> None:
    silence = 0 * NOISE
    assert level_difference_db(reference=silence, candidate=silence) == 0.0
    assert level_difference_db(reference=silence, candidate=NOISE) == np.inf
    assert abs(level_difference_db(reference=NOISE, candidate=silence)) == np.inf
