"""Distances between a reference and a candidate; every function takes both by keyword."""

from __future__ import annotations

import numpy as np

FFT_SIZE = 1024
HOP = 256
FLOOR_DB = -100.0
"""Spectral values this far below the reference's peak are equal to silence."""


def snr_db(*, reference: np.ndarray, candidate: np.ndarray) -> float:
    """Signal-to-noise ratio in dB; infinite when equal, NaN when either holds a NaN.

    Raises:
        ValueError: the shapes differ.
    """
    _same_shape(reference, candidate)
    ref = reference.astype(np.float64)
    noise = float(np.sum((ref - candidate.astype(np.float64)) ** 2))
    signal = float(np.sum(ref**2))
    if np.isnan(noise) or np.isnan(signal):
        return float("nan")
    if noise == 0.0:
        return float("inf")
    return float(10.0 * np.log10(signal / noise)) if signal > 0.0 else float("-inf")


def log_spectral_distance_db(*, reference: np.ndarray, candidate: np.ndarray) -> float:
    """RMS over bins of the difference of log power spectra, averaged over frames, in dB.

    Source: Gray and Markel 1976. Hann window of 1024 samples, hop 256, power floored 100 dB below
    the reference's peak.
    """
    _same_shape(reference, candidate)
    ref, cand = _power(reference), _power(candidate)
    if not (np.all(np.isfinite(ref)) and np.all(np.isfinite(cand))):
        return float("nan")
    floor = max(float(ref.max()), 1e-20) * 10.0 ** (FLOOR_DB / 10.0)
    difference = 10.0 * np.log10(np.maximum(ref, floor) / np.maximum(cand, floor))
    return float(np.mean(np.sqrt(np.mean(difference**2, axis=1))))


def level_difference_db(*, reference: np.ndarray, candidate: np.ndarray) -> float:
    """Level of the candidate above the reference (RMS), in dB."""
    ref = float(np.mean(reference.astype(np.float64) ** 2))
    cand = float(np.mean(candidate.astype(np.float64) ** 2))
    if ref == 0.0 or cand == 0.0:
        return 0.0 if ref == cand else float("inf")
    return float(10.0 * np.log10(cand / ref))


def _power(x: np.ndarray) -> np.ndarray:
    signal = np.pad(x.astype(np.float64).reshape(-1), (0, FFT_SIZE))
    frames = np.lib.stride_tricks.sliding_window_view(signal, FFT_SIZE)[::HOP]
    return np.asarray(np.abs(np.fft.rfft(frames * np.hanning(FFT_SIZE + 1)[:-1])) ** 2)


def _same_shape(reference: np.ndarray, candidate: np.ndarray) -> None:
    if reference.shape != candidate.shape:
        raise ValueError(f"shapes differ: reference {reference.shape}, candidate {candidate.shape}")
