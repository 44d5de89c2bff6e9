"""Players and pictures of one case, laid out for the template."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from kokoro_coreml.parity.report import figures, numbers
from kokoro_coreml.parity.report.audio import (
    DIFFERENCE_BITS,
    PCM_BITS,
    Listening,
    flac_uri,
    invalid_samples,
)


@dataclass(frozen=True)
class Side:
    """One column: what one hears and sees of the reference, the candidate or the difference."""

    key: str
    title: str
    note: str
    audio: str | None
    """Address of the sound; None where there is nothing to hear."""
    waveform: Markup
    spectrogram: str
    alternative: str
    """Text in place of the spectrogram."""
    problem: str | None


@dataclass(frozen=True)
class ListeningView:
    """The three columns and what they share."""

    sides: tuple[Side, ...]
    seconds: float
    peak: float
    """Value at the upper and lower edge of the waveforms."""
    hertz: int
    """Frequency at the upper edge of the spectrograms."""
    lengths: str | None
    """Said where the two sides are not equally long."""


def listening_view(listening: Listening) -> ListeningView:
    """Draw and encode one case; all pictures share scales and the time axis."""
    rate, total = listening.sample_rate, listening.samples
    seconds = total / rate
    # a candidate that blows up must not flatten the reference
    peak = max(_peak(listening.reference), min(_peak(listening.candidate), 1.0)) or 1.0
    loudest = float(figures.power(listening.reference).max(initial=0.0))
    gain = listening.gain
    louder = f"amplified {gain:,} times" if gain > 1 else "not amplified"
    equal = total > 0 and not np.any(listening.difference)
    changed = "none: every sample is equal" if equal else f"{louder} (spectrogram: as it is)"
    columns: list[tuple[str, str, NDArray[np.floating], int]] = [
        ("reference", "upstream's PyTorch", listening.reference, 1),
        ("candidate", "the saved package", listening.candidate, 1),
        ("difference", changed, listening.difference, gain),
    ]
    scale = _Scale(rate, total, peak, loudest, listening.case)
    sides = tuple(_side(*column, scale) for column in columns)
    return ListeningView(sides, seconds, peak, rate // 2, _lengths(listening))


@dataclass(frozen=True)
class _Scale:
    rate: int
    total: int
    peak: float
    loudest: float
    case: str


def _side(key: str, note: str, samples: NDArray[np.floating], gain: int, scale: _Scale) -> Side:
    title = key.capitalize()
    broken = invalid_samples(samples)
    heard = samples * gain
    bits = DIFFERENCE_BITS if key == "difference" else PCM_BITS
    audible = samples.size > 0 and bool(np.any(samples) or key != "difference")
    spectra = np.pad(figures.power(samples), ((0, 0), (0, _missing(samples.size, scale.total))))
    what = f"{title} of {scale.case}"
    length = numbers.duration(samples.size / scale.rate)
    return Side(
        key=key,
        title=title,
        note=f"{note}, {length}",
        audio=flac_uri(heard, scale.rate, bits=bits) if audible else None,
        waveform=figures.waveform_svg(
            heard,
            total=max(scale.total, 1),
            peak=scale.peak,
            description=f"Waveform: {what}, {note}, {length}, peak {_peak(heard):.3f}",
        ),
        spectrogram=figures.spectrogram_uri(spectra, loudest=scale.loudest),
        alternative=(
            f"Spectrogram: {what}, 0 to {scale.rate // 2} Hz; "
            f"loudest bin {_below(spectra, scale.loudest)} the reference's"
        ),
        problem=f"{numbers.plural(broken, 'sample')} NaN or infinite" if broken else None,
    )


def _missing(samples: int, total: int) -> int:
    """Frames of `figures.power` by which a shorter signal falls short of the whole."""
    return total // figures.HOP - samples // figures.HOP


def _below(spectra: NDArray[np.float64], loudest: float) -> str:
    mine = float(spectra.max(initial=0.0))
    if mine <= 0.0 or loudest <= 0.0:
        return "silent beside"
    ratio = 10.0 * np.log10(mine / loudest)
    return f"{abs(ratio):.0f} dB {'above' if ratio > 0 else 'below'}"


def _peak(samples: NDArray[np.floating]) -> float:
    valid = np.abs(samples[np.isfinite(samples)])
    return float(valid.max(initial=0.0))


def _lengths(listening: Listening) -> str | None:
    short = listening.candidate.size - listening.reference.size
    if short == 0:
        return None
    milliseconds = 1000.0 * abs(short) / listening.sample_rate
    return (
        f"The candidate is {abs(short):,} samples ({milliseconds:.1f} ms) "
        f"{'longer' if short > 0 else 'shorter'} than the reference; "
        "the difference counts what is missing as silence."
    )
