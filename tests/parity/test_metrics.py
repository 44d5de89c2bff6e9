"""The distances give the known answer on known signals, and never a good one on broken ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kokoro_coreml.parity.metrics import (
    AUDIO_METRICS,
    audio_metrics,
    duration_errors,
    level_difference_db,
    log_mel_cosine,
    log_spectral_distance_db,
    opening_error_db,
    opening_snr_db,
    padding_peak,
    snr_db,
    tail_error_db,
    tail_snr_db,
    word_errors,
)

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


EDGE = 1_200
"""50 ms at 24 kHz."""
EDGES = [opening_error_db, tail_error_db]
EDGE_SNRS = [opening_snr_db, tail_snr_db]
VOICE = np.asarray(sum(np.cos(np.pi * k * 0.01 * np.arange(SECOND)) / k for k in range(1, 15)))


@pytest.mark.parametrize("metric", [log_mel_cosine, *EDGES, *EDGE_SNRS])
def test_metrics_with_a_sample_rate_refuse_different_shapes(metric: Metric) -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        metric(reference=NOISE, candidate=NOISE[:-1], sample_rate=SECOND)


@pytest.mark.parametrize("metric", [log_mel_cosine, *EDGES, *EDGE_SNRS])
def test_metrics_with_a_sample_rate_give_nan_for_nan(metric: Metric) -> None:
    broken = with_value(np.nan)
    broken[[0, -1]] = np.nan
    assert np.isnan(metric(reference=NOISE, candidate=broken, sample_rate=SECOND))
    assert np.isnan(metric(reference=broken, candidate=NOISE, sample_rate=SECOND))


def mel(reference: np.ndarray, candidate: np.ndarray) -> float:
    return log_mel_cosine(reference=reference, candidate=candidate, sample_rate=SECOND)


def test_log_mel_cosine_is_one_for_equal_signals_and_falls_with_the_error() -> None:
    found = [mel(VOICE, VOICE + gain * NOISE) for gain in (0.0, 1e-4, 1e-3, 1e-2, 1e-1)]
    assert found[0] == 1.0
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.9


def test_log_mel_cosine_tells_other_sounds_apart() -> None:
    glide = np.sin(np.pi * 4e3 * np.arange(SECOND) ** 2 / SECOND**2)
    assert mel(glide, glide[::-1].copy()) < 0.5
    assert mel(TONE, NOISE) < 0.1


def test_log_mel_cosine_of_silence_is_one_only_to_silence() -> None:
    silence = 0 * NOISE
    assert mel(silence, silence) == 1.0
    assert mel(silence, NOISE) == 0.0
    assert mel(NOISE, silence) < 0.1


@pytest.mark.parametrize(("metric", "at"), [(opening_error_db, 0), (tail_error_db, -1)])
def test_an_edge_error_is_its_power_beside_the_whole_reference(metric: Metric, at: int) -> None:
    reference = np.ones(SECOND)
    candidate = reference.copy()
    candidate[at] += 0.1 * np.sqrt(EDGE)
    found = metric(reference=reference, candidate=candidate, sample_rate=SECOND)
    assert found == pytest.approx(-20.0)
    half = metric(reference=2 * reference, candidate=2 * candidate, sample_rate=SECOND)
    assert half == pytest.approx(-20.0)


@pytest.mark.parametrize(
    ("metric", "inside", "outside"),
    [
        (opening_error_db, EDGE - 1, EDGE),
        (opening_snr_db, EDGE - 1, EDGE),
        (tail_error_db, SECOND - EDGE, SECOND - EDGE - 1),
        (tail_snr_db, SECOND - EDGE, SECOND - EDGE - 1),
    ],
)
def test_the_edges_are_fifty_milliseconds_and_no_more(
    metric: Metric, inside: int, outside: int
) -> None:
    for at, heard in ((inside, True), (outside, False)):
        candidate = VOICE.copy()
        candidate[at] += 1.0
        found = metric(reference=VOICE, candidate=candidate, sample_rate=SECOND)
        assert np.isfinite(found) == heard


@pytest.mark.parametrize(("metric", "at"), [(opening_snr_db, 0), (tail_snr_db, -1)])
def test_an_edge_snr_is_of_the_edge_alone(metric: Metric, at: int) -> None:
    reference = np.full(SECOND, 100.0)
    reference[:EDGE] = reference[-EDGE:] = 1e-6
    candidate = reference.copy()
    candidate[at] += 1e-7 * np.sqrt(EDGE)
    found = metric(reference=reference, candidate=candidate, sample_rate=SECOND)
    assert found == pytest.approx(20.0)


@pytest.mark.parametrize("metric", EDGES)
def test_a_quiet_edge_does_not_turn_a_rounding_into_an_error(metric: Metric) -> None:
    reference = VOICE.copy()
    reference[:EDGE] = reference[-EDGE:] = 1e-6
    candidate = reference + 1e-6
    assert metric(reference=reference, candidate=candidate, sample_rate=SECOND) < -110.0


@pytest.mark.parametrize("metric", EDGES)
def test_any_error_beside_a_silent_reference_is_infinite(metric: Metric) -> None:
    silence = np.zeros(SECOND)
    assert metric(reference=silence, candidate=silence, sample_rate=SECOND) == -np.inf
    assert metric(reference=silence, candidate=NOISE, sample_rate=SECOND) == np.inf


@pytest.mark.parametrize(
    ("reference", "candidate", "errors"),
    [
        ("", "", 0),
        ("a b c", "a b c", 0),
        ("a b c", "", 3),
        ("", "a b", 2),
        ("a b c", "a x c", 1),
        ("a b c", "b c", 1),
        ("a b c", "a b b c", 1),
        ("a b c d", "b a d c", 3),
        ("one two three four", "two three four five", 2),
    ],
)
def test_word_errors_are_the_fewest_edits(reference: str, candidate: str, errors: int) -> None:
    pair = reference.split(), candidate.split()
    assert word_errors(reference=pair[0], candidate=pair[1]) == errors
    assert word_errors(reference=pair[1], candidate=pair[0]) == errors


def test_duration_errors_count_tokens_and_all_of_them_when_the_numbers_differ() -> None:
    durations = np.array([1, 2, 3, 4])
    assert duration_errors(reference=durations, candidate=np.array([1, 2, 3, 4], np.int32)) == 0
    assert duration_errors(reference=durations, candidate=np.array([1, 3, 2, 4])) == 2
    assert duration_errors(reference=durations, candidate=durations[:3]) == 4
    assert duration_errors(reference=durations[:3], candidate=durations) == 4


def test_padding_peak_is_the_largest_magnitude() -> None:
    assert padding_peak(np.array([])) == 0.0
    assert padding_peak(np.array([0.0, -0.25, 0.1])) == 0.25
    assert np.isnan(padding_peak(np.array([0.0, np.nan])))


def measured(reference: np.ndarray, candidate: np.ndarray) -> dict[str, float]:
    return audio_metrics(reference=reference, candidate=candidate, sample_rate=SECOND)


PERFECT = {
    "length_difference_samples": 0.0,
    "audio_snr_db": np.inf,
    "log_spectral_distance_db": 0.0,
    "log_mel_cosine": 1.0,
    "level_difference_db": 0.0,
    "f0_error_hz": 0.0,
    "gross_pitch_errors_percent": 0.0,
    "voicing_errors_percent": 0.0,
    "opening_error_db": -np.inf,
    "tail_error_db": -np.inf,
}


@pytest.mark.parametrize("audio", [VOICE, NOISE, 0 * NOISE, VOICE[:30], VOICE[:1]])
def test_equal_audio_is_perfect_however_short_or_silent(audio: np.ndarray) -> None:
    assert measured(audio, audio.copy()) == PERFECT
    assert tuple(PERFECT) == AUDIO_METRICS


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("swapped", [False, True])
def test_audio_that_is_not_finite_is_nan_throughout(value: float, swapped: bool) -> None:
    pair = (with_value(value), NOISE) if swapped else (NOISE, with_value(value))
    found = measured(*pair)
    assert tuple(found) == AUDIO_METRICS
    assert all(np.isnan(v) for k, v in found.items() if k != "length_difference_samples")


def test_different_lengths_are_told_and_the_common_part_is_measured() -> None:
    for pair in ((VOICE, VOICE[:-600]), (VOICE[:-600], VOICE)):
        assert measured(*pair) == PERFECT | {"length_difference_samples": 600.0}


def test_no_audio_at_all_is_nan() -> None:
    found = measured(VOICE, VOICE[:0])
    assert found["length_difference_samples"] == SECOND
    assert np.isnan(found["audio_snr_db"])


@pytest.mark.parametrize("gain", [1.1, 1 / 1.1])
def test_a_level_difference_is_a_magnitude(gain: float) -> None:
    found = measured(VOICE, gain * VOICE)
    assert found["level_difference_db"] == pytest.approx(0.83, abs=0.01)


def test_each_fault_moves_its_metric() -> None:
    click, cut = VOICE.copy(), VOICE.copy()
    click[10] += 1.0
    cut[-480:] = 0.0
    higher = np.interp(np.arange(SECOND) * 1.01, np.arange(SECOND), VOICE)[: int(SECOND / 1.02)]
    assert measured(VOICE, click)["opening_error_db"] > -40.0
    assert measured(VOICE, cut)["tail_error_db"] > -10.0
    assert measured(VOICE, np.roll(VOICE, 1))["audio_snr_db"] < 25.0
    assert measured(VOICE, higher)["f0_error_hz"] == pytest.approx(1.2, abs=0.05)
    assert measured(VOICE, np.roll(NOISE, 1))["voicing_errors_percent"] > 90.0
    assert measured(VOICE, VOICE + 0.1 * NOISE)["log_mel_cosine"] < 0.9
