"""YIN finds the pitch of signals whose pitch is known, and none where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from kokoro_coreml.parity.pitch import (
    HOP_SECONDS,
    PitchContour,
    pitch_contour,
    pitch_difference,
)

RATE = 24_000
TIME = np.arange(RATE) / RATE


def voice(hz: np.ndarray | float, harmonics: range = range(1, 16)) -> np.ndarray:
    """A buzz whose harmonics fall off as 1/k, at a pitch that may move."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hz, TIME.shape)) / RATE
    return np.asarray(sum(np.cos(k * phase + k) / k for k in harmonics))


def contour(*hz: float) -> PitchContour:
    return PitchContour(np.array(hz, dtype=np.float64))


@pytest.mark.parametrize("hz", [62.0, 80.0, 121.7, 200.0, 333.3, 490.0])
def test_a_steady_voice_is_found_within_a_thousandth(hz: float) -> None:
    found = pitch_contour(voice(hz), RATE)
    assert np.all(found.voiced)
    np.testing.assert_allclose(found.hz, hz, rtol=1e-3)


def test_a_missing_fundamental_is_heard() -> None:
    found = pitch_contour(voice(110.0, range(3, 12)), RATE)
    np.testing.assert_allclose(found.hz, 110.0, rtol=1e-3)


@pytest.mark.parametrize(("start", "end"), [(90.0, 220.0), (400.0, 150.0)])
def test_a_glide_is_followed(start: float, end: float) -> None:
    hz = np.linspace(start, end, RATE)
    found = pitch_contour(voice(hz), RATE)
    # a frame compares two spans one period apart, so it stands for their middle
    middle = 0.0125 + 0.5 / found.hz
    at = np.arange(found.hz.size) * HOP_SECONDS + middle
    expected = np.interp(at, TIME, hz)
    assert np.all(found.voiced)
    np.testing.assert_allclose(found.hz, expected, rtol=5e-3)


@pytest.mark.parametrize(("gain", "offset"), [(1e-4, 0.0), (100.0, 0.0), (1.0, 3.0)])
def test_the_pitch_depends_neither_on_level_nor_on_an_offset(gain: float, offset: float) -> None:
    found = pitch_contour(gain * voice(150.0) + offset, RATE)
    np.testing.assert_allclose(found.hz, pitch_contour(voice(150.0), RATE).hz)


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_other_sample_rates(rate: int) -> None:
    time = np.arange(rate) / rate
    tone = sum(np.cos(2 * np.pi * 140.0 * k * time) / k for k in range(1, 8))
    np.testing.assert_allclose(pitch_contour(np.asarray(tone), rate).hz, 140.0, rtol=2e-3)


def test_noise_and_silence_have_no_pitch() -> None:
    noise = np.random.default_rng(0).standard_normal(RATE)
    assert np.mean(pitch_contour(noise, RATE).voiced) < 0.01
    assert not np.any(pitch_contour(np.zeros(RATE), RATE).voiced)


def test_a_tone_outside_the_range_has_no_pitch_of_its_own() -> None:
    low, high = (pitch_contour(np.sin(2 * np.pi * hz * TIME), RATE) for hz in (30.0, 900.0))
    assert not np.any(low.voiced)
    np.testing.assert_allclose(high.hz, 450.0, rtol=1e-3)  # two of its periods


def test_a_voice_far_below_the_loudest_part_is_unvoiced() -> None:
    audio = np.concatenate([voice(150.0), 1e-3 * voice(150.0)])
    found = pitch_contour(audio, RATE).voiced
    assert np.all(found[:90])
    assert not np.any(found[105:])


def test_voice_and_noise_take_turns() -> None:
    noise = 0.3 * np.random.default_rng(1).standard_normal(RATE)
    found = pitch_contour(np.concatenate([voice(150.0), noise]), RATE).voiced
    assert np.all(found[:95])
    assert np.mean(found[105:]) < 0.02


@pytest.mark.parametrize("samples", [0, 1, 240, 1_001])
def test_audio_shorter_than_a_frame_is_one_frame(samples: int) -> None:
    assert pitch_contour(np.ones(samples), RATE).hz.size == 1


def test_the_error_is_the_mean_magnitude() -> None:
    found = pitch_difference(
        reference=contour(100.0, 200.0, 150.0), candidate=contour(103.0, 196.0, 150.0)
    )
    assert found.error_hz == pytest.approx(7.0 / 3.0)
    assert (found.gross_errors_percent, found.voicing_errors_percent) == (0.0, 0.0)


def test_one_frame_of_another_dip_does_not_decide_the_error() -> None:
    steady = np.full(500, 167.0)
    other = steady + 0.05
    other[250] = 174.3
    found = pitch_difference(reference=contour(*steady), candidate=contour(*other))
    assert found.error_hz == pytest.approx(0.065, abs=0.001)


def test_an_octave_error_is_gross_and_stays_out_of_the_hertz() -> None:
    found = pitch_difference(
        reference=contour(100.0, 100.0, 100.0, 100.0), candidate=contour(101.0, 101.0, 200.0, 101.0)
    )
    assert found.error_hz == pytest.approx(1.0)
    assert found.gross_errors_percent == 25.0


def test_frames_voiced_in_one_alone_are_voicing_errors() -> None:
    nan = np.nan
    found = pitch_difference(
        reference=contour(100.0, nan, 100.0, nan), candidate=contour(nan, 100.0, 100.0, nan)
    )
    assert found.voicing_errors_percent == 50.0
    assert found.error_hz == 0.0


def test_nothing_voiced_is_no_error_in_hertz() -> None:
    found = pitch_difference(reference=contour(np.nan), candidate=contour(np.nan))
    assert (found.error_hz, found.gross_errors_percent, found.voicing_errors_percent) == (0, 0, 0)


def test_contours_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="frames differ: 2 and 1"):
        pitch_difference(reference=contour(1.0, 2.0), candidate=contour(1.0))


def test_a_voice_one_percent_higher_is_one_percent_off() -> None:
    reference, candidate = (pitch_contour(voice(hz), RATE) for hz in (150.0, 151.5))
    found = pitch_difference(reference=reference, candidate=candidate)
    assert found.error_hz == pytest.approx(1.5, abs=0.02)
