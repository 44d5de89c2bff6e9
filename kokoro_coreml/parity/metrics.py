"""Distances between a reference and a candidate; every function takes both by keyword."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from transformers.audio_utils import mel_filter_bank

from kokoro_coreml.parity.pitch import pitch_contour, pitch_difference
from kokoro_coreml.parity.results import Better

FFT_SIZE = 1024
HOP = 256
MEL_BANDS = 80
EDGE_SECONDS = 0.05
"""Length of the opening and of the tail, which are measured apart: bugs live there."""
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


def log_mel_cosine(*, reference: np.ndarray, candidate: np.ndarray, sample_rate: int) -> float:
    """Cosine between two log-mel spectrograms, each less the reference's mean; 1 when equal.

    80 Slaney mel bands up to half the sample rate, in dB, floored 100 dB below the reference's
    loudest band. Without the mean taken off, any speech is near 1 to any other.

    Raises:
        ValueError: the shapes differ.
    """
    _same_shape(reference, candidate)
    filters = _mel_filters(sample_rate)
    ref, cand = _power(reference) @ filters, _power(candidate) @ filters
    if not (np.all(np.isfinite(ref)) and np.all(np.isfinite(cand))):
        return float("nan")
    floor = max(float(ref.max()), 1e-20) * 10.0 ** (FLOOR_DB / 10.0)
    ref, cand = (10.0 * np.log10(np.maximum(x, floor)) for x in (ref, cand))
    mean = float(ref.mean())
    return _cosine(ref - mean, cand - mean)


def opening_snr_db(*, reference: np.ndarray, candidate: np.ndarray, sample_rate: int) -> float:
    """SNR of the first 50 ms alone.

    For two programs that must agree to the last bits. Against upstream it judges numbers that no
    one can hear: openings lie 130 dB below the speech, and 16-bit rounding alone leaves 0 dB.

    Raises:
        ValueError: the shapes differ.
    """
    _same_shape(reference, candidate)
    part = slice(0, _edge(reference, sample_rate))
    return snr_db(reference=reference[part], candidate=candidate[part])


def tail_snr_db(*, reference: np.ndarray, candidate: np.ndarray, sample_rate: int) -> float:
    """SNR of the last 50 ms alone; for what and why, see `opening_snr_db`."""
    _same_shape(reference, candidate)
    part = slice(reference.size - _edge(reference, sample_rate), None)
    return snr_db(reference=reference[part], candidate=candidate[part])


def opening_error_db(*, reference: np.ndarray, candidate: np.ndarray, sample_rate: int) -> float:
    """Power of the error in the first 50 ms, relative to the mean power of the whole reference.

    What counts is how loud the error is beside the speech; `opening_snr_db` says why not an SNR.
    `-inf` when equal.

    Raises:
        ValueError: the shapes differ.
    """
    edge = _edge(reference, sample_rate)
    return _error_db(reference, candidate, slice(0, edge))


def tail_error_db(*, reference: np.ndarray, candidate: np.ndarray, sample_rate: int) -> float:
    """The same in the last 50 ms; raises as `opening_error_db` does."""
    edge = _edge(reference, sample_rate)
    return _error_db(reference, candidate, slice(reference.size - edge, None))


def duration_errors(*, reference: np.ndarray, candidate: np.ndarray) -> int:
    """Tokens whose durations differ; all of them where their numbers differ."""
    if reference.shape != candidate.shape:
        return max(reference.size, candidate.size)
    return int(np.count_nonzero(reference != candidate))


def word_errors(*, reference: Sequence[str], candidate: Sequence[str]) -> int:
    """Words to insert, delete or replace to make one list the other (Levenshtein 1966)."""
    row = list(range(len(candidate) + 1))
    for i, word in enumerate(reference, start=1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(candidate, start=1):
            replaced = diagonal + (word != other)
            diagonal = row[j]
            row[j] = min(replaced, row[j] + 1, row[j - 1] + 1)
    return row[-1]


def padding_peak(padding: np.ndarray) -> float:
    """Largest magnitude behind the end, where there must be silence; NaN when it holds a NaN."""
    return float(np.max(np.abs(padding), initial=0.0))


def audio_metrics(
    *, reference: np.ndarray, candidate: np.ndarray, sample_rate: int
) -> dict[str, float]:
    """Every metric of two audios, by the name the thresholds use; differences are magnitudes.

    Where the lengths differ, the metrics are of the common part, for diagnosis: it is
    `length_difference_samples` that fails then. NaN or infinity in either audio gives NaN
    throughout, and so does an empty common part. Infinite values mean equal.

    Args:
        reference: float [samples].
        candidate: float [samples].
        sample_rate: Hz.
    """
    common = min(reference.size, candidate.size)
    pair = {
        "reference": reference.reshape(-1)[:common],
        "candidate": candidate.reshape(-1)[:common],
    }
    found = {"length_difference_samples": float(abs(reference.size - candidate.size))}
    if common == 0 or not all(np.all(np.isfinite(x)) for x in pair.values()):
        return found | dict.fromkeys(AUDIO_METRICS[1:], math.nan)
    contours = {name: pitch_contour(x, sample_rate) for name, x in pair.items()}
    pitch = pitch_difference(**contours)
    found |= {
        "audio_snr_db": snr_db(**pair),
        "log_spectral_distance_db": log_spectral_distance_db(**pair),
        "log_mel_cosine": log_mel_cosine(**pair, sample_rate=sample_rate),
        "level_difference_db": abs(level_difference_db(**pair)),
        "f0_error_hz": pitch.error_hz,
        "gross_pitch_errors_percent": pitch.gross_errors_percent,
        "voicing_errors_percent": pitch.voicing_errors_percent,
        "opening_error_db": opening_error_db(**pair, sample_rate=sample_rate),
        "tail_error_db": tail_error_db(**pair, sample_rate=sample_rate),
    }
    return found


AUDIO_METRICS = (
    "length_difference_samples",
    "audio_snr_db",
    "log_spectral_distance_db",
    "log_mel_cosine",
    "level_difference_db",
    "f0_error_hz",
    "gross_pitch_errors_percent",
    "voicing_errors_percent",
    "opening_error_db",
    "tail_error_db",
)
"""Keys of `audio_metrics`."""


def better(metric: str) -> Better:
    """Which way a metric of two audios goes, by the end of its name."""
    return "higher" if metric.endswith(("snr_db", "cosine")) else "lower"


@functools.lru_cache(maxsize=4)
def _mel_filters(sample_rate: int) -> np.ndarray:
    """Weights [bins, bands]."""
    return np.asarray(
        mel_filter_bank(
            num_frequency_bins=FFT_SIZE // 2 + 1,
            num_mel_filters=MEL_BANDS,
            min_frequency=0.0,
            max_frequency=sample_rate / 2.0,
            sampling_rate=sample_rate,
            norm="slaney",
            mel_scale="slaney",
        )
    )


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    if np.array_equal(a, b):
        return 1.0
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.sum(a * b)) / size if size > 0.0 else 0.0


def _edge(reference: np.ndarray, sample_rate: int) -> int:
    return min(reference.size, round(EDGE_SECONDS * sample_rate))


def _error_db(reference: np.ndarray, candidate: np.ndarray, part: slice) -> float:
    _same_shape(reference, candidate)
    ref, cand = reference.astype(np.float64), candidate.astype(np.float64)
    error, power = float(np.mean((ref[part] - cand[part]) ** 2)), float(np.mean(ref**2))
    if math.isnan(error) or math.isnan(power):
        return math.nan
    if error == 0.0:
        return -math.inf
    return 10.0 * math.log10(error / power) if power > 0.0 else math.inf


def _power(x: np.ndarray) -> np.ndarray:
    signal = np.pad(x.astype(np.float64).reshape(-1), (0, FFT_SIZE))
    frames = np.lib.stride_tricks.sliding_window_view(signal, FFT_SIZE)[::HOP]
    return np.asarray(np.abs(np.fft.rfft(frames * np.hanning(FFT_SIZE + 1)[:-1])) ** 2)


def _same_shape(reference: np.ndarray, candidate: np.ndarray) -> None:
    if reference.shape != candidate.shape:
        raise ValueError(f"shapes differ: reference {reference.shape}, candidate {candidate.shape}")
