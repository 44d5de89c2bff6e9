"""Fundamental frequency of audio by YIN, and how far two contours are apart.

Source: de Cheveigné and Kawahara 2002, "YIN, a fundamental frequency estimator for speech and
music", steps 1 to 5 (difference function, cumulative mean normalisation, absolute threshold,
parabolic interpolation). The network's own F0 is no witness here: it is what is on trial.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

LOWEST_HZ, HIGHEST_HZ = 60.0, 500.0
"""Range of a speaking voice."""

HOP_SECONDS = 0.01
WINDOW_SECONDS = 0.025
"""Span over which a frame is compared with its shifted self; longer than the longest period."""

VOICED_BELOW = 0.15
"""Aperiodic share of the power below which a frame is voiced; the paper uses 0.1 to 0.15."""

QUIET_DB = -50.0
"""Frames this far below the loudest one are unvoiced whatever their period."""

GROSS_ERROR = 0.2
"""Share of the reference beyond which an estimate is another period, not another pitch."""


@dataclass(frozen=True)
class PitchContour:
    """Fundamental frequency over time, one value per `HOP_SECONDS`."""

    hz: FloatArray
    """[frames], NaN where unvoiced."""

    @property
    def voiced(self) -> NDArray[np.bool_]:
        """[frames], whether there is a pitch."""
        return np.isfinite(self.hz)


@dataclass(frozen=True)
class PitchDifference:
    """How far one contour is from another."""

    error_hz: float
    """Mean magnitude over frames voiced in both, gross errors left out; 0 where there are none.

    Not the root of the mean square: one frame of a hundred in which the tracker takes another dip
    would decide it.
    """
    gross_errors_percent: float
    """Share of frames voiced in both whose pitch differs by more than `GROSS_ERROR`."""
    voicing_errors_percent: float
    """Share of all frames that are voiced in one contour and not in the other."""


def pitch_contour(audio: NDArray[np.floating], sample_rate: int) -> PitchContour:
    """Estimate the fundamental frequency between 60 and 500 Hz every 10 ms.

    Args:
        audio: [samples]; what is shorter than one frame is padded with silence.
        sample_rate: Hz.
    """
    longest = round(sample_rate / LOWEST_HZ)
    window = round(sample_rate * WINDOW_SECONDS)
    frames = _frames(np.asarray(audio, dtype=np.float64).reshape(-1), sample_rate, longest, window)
    normalised = _cumulative_mean_normalised(_difference(frames, longest, window))
    shortest = max(2, round(sample_rate / HIGHEST_HZ))
    lag, voiced = _first_dip(normalised, shortest)
    hz = sample_rate / _interpolated(normalised, lag)
    power = np.mean(frames**2, axis=1)
    loud = power > max(float(power.max()) * 10.0 ** (QUIET_DB / 10.0), 1e-20)
    return PitchContour(np.where(voiced & loud, hz, np.nan))


def pitch_difference(*, reference: PitchContour, candidate: PitchContour) -> PitchDifference:
    """Compare two contours of equal length.

    Raises:
        ValueError: the lengths differ.
    """
    if reference.hz.shape != candidate.hz.shape:
        raise ValueError(f"frames differ: {reference.hz.size} and {candidate.hz.size}")
    both = reference.voiced & candidate.voiced
    ref, cand = reference.hz[both], candidate.hz[both]
    gross = np.abs(cand - ref) > GROSS_ERROR * ref
    fine = (cand - ref)[~gross]
    return PitchDifference(
        error_hz=float(np.mean(np.abs(fine))) if fine.size else 0.0,
        gross_errors_percent=100.0 * float(np.mean(gross)) if gross.size else 0.0,
        voicing_errors_percent=100.0 * float(np.mean(reference.voiced != candidate.voiced)),
    )


def _frames(signal: FloatArray, sample_rate: int, longest: int, window: int) -> FloatArray:
    """Overlapping frames, [frames, window + longest + 1]."""
    size = window + longest + 1
    padded = np.pad(signal, (0, max(0, size - signal.size)))
    hop = max(1, round(sample_rate * HOP_SECONDS))
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]


def _difference(frames: FloatArray, longest: int, window: int) -> FloatArray:
    """Equation 6 for lags 0 to `longest` + 1: [frames, longest + 2].

    The sum of squared differences is the power of both spans less twice their product, and the
    products of all lags are one correlation.
    """
    lags = longest + 2
    size = 1 << (frames.shape[1] + window - 1).bit_length()
    spectrum = np.fft.rfft(frames, size) * np.conj(np.fft.rfft(frames[:, :window], size))
    product = np.fft.irfft(spectrum, size)[:, :lags]
    total = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), axis=1)
    shifted = total[:, window : window + lags] - total[:, :lags]
    return np.maximum(shifted[:, :1] + shifted - 2.0 * product, 0.0)


def _cumulative_mean_normalised(difference: FloatArray) -> FloatArray:
    """Equation 8: each lag against the mean of those before it; 1 at lag 0 and in silence."""
    lag = np.arange(1, difference.shape[1])
    mean = np.cumsum(difference[:, 1:], axis=1) / lag
    result = np.ones_like(difference)
    np.divide(difference[:, 1:], mean, out=result[:, 1:], where=mean > 0.0)
    return result


def _first_dip(normalised: FloatArray, shortest: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The first local minimum below the threshold per frame, and whether there is one."""
    inner = normalised[:, 1:-1]
    dip = (inner < VOICED_BELOW) & (inner < normalised[:, :-2]) & (inner <= normalised[:, 2:])
    dip[:, : shortest - 1] = False
    return np.argmax(dip, axis=1) + 1, np.any(dip, axis=1)


def _interpolated(normalised: FloatArray, lag: NDArray[np.intp]) -> FloatArray:
    """Vertex of the parabola through a minimum and its neighbours, in samples."""
    row = np.arange(lag.size)
    before, at, after = (normalised[row, lag + step] for step in (-1, 0, 1))
    bend = before - 2.0 * at + after
    shift = np.zeros_like(at)
    np.divide(before - after, 2.0 * bend, out=shift, where=bend > 0.0)
    return np.asarray(lag + np.clip(shift, -1.0, 1.0), dtype=np.float64)
