"""Waveforms as SVG, spectrograms as PNG; both stretch to the width they are given."""

from __future__ import annotations

import functools
import itertools
import struct
import zlib

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from kokoro_coreml.parity.report.audio import data_uri

COLUMNS = 400
"""Points in time of a picture."""

ROWS = 128
"""Frequencies of a spectrogram, 0 Hz to half the sample rate."""

FFT_SIZE = 1024
HOP = 256

RANGE_DB = 90.0
"""Span of the colour scale, downwards from the reference's loudest bin."""

LEVELS = 31
"""Colours of a spectrogram: steps of 3 dB."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def waveform_svg(
    samples: NDArray[np.floating], *, total: int, peak: float, description: str
) -> Markup:
    """Envelope of the samples: least and largest value per column.

    Args:
        samples: [N]; columns that hold NaN or infinity are marked as such.
        total: samples the whole width stands for, at least N.
        peak: value at the upper and lower edge.
        description: for those who cannot see it.
    """
    edges = np.linspace(0, total, COLUMNS + 1).astype(int)
    high, low, broken = [], [], []
    for column, (start, end) in enumerate(itertools.pairwise(edges)):
        part = samples[start : max(end, start + 1)]
        valid = part[np.isfinite(part)]
        if valid.size < part.size:
            broken.append(f"M{column} 0v100")
        if valid.size:
            high.append(f"{column} {_height(float(valid.max()), peak)}")
            low.append(f"{column} {_height(float(valid.min()), peak)}")
    outline = f"M{'L'.join(high + low[::-1])}Z" if high else ""
    return Markup(
        '<svg class="wave" viewBox="0 0 {columns} 100" preserveAspectRatio="none" role="img" '
        'aria-label="{description}"><path class="zero" d="M0 50h{columns}"/>'
        '<path class="env" d="{outline}"/><path class="bad" d="{broken}"/></svg>'
    ).format(columns=COLUMNS, description=description, outline=outline, broken="".join(broken))


def power(samples: NDArray[np.floating]) -> NDArray[np.float64]:
    """Power spectra, [ROWS, frames]: Hann window of 1024 samples, hop 256, bins averaged."""
    clean = np.where(np.isfinite(samples), samples, 0.0).astype(np.float64)
    padded = np.pad(clean, (FFT_SIZE // 2, FFT_SIZE))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT_SIZE)[::HOP]
    spectra = np.abs(np.fft.rfft(frames * np.hanning(FFT_SIZE + 1)[:-1])[:, :-1]) ** 2
    return np.asarray(spectra.reshape(len(frames), ROWS, -1).mean(axis=2).T)


def spectrogram_uri(spectra: NDArray[np.float64], *, loudest: float) -> str:
    """Picture of power spectra, high frequencies on top.

    Args:
        spectra: [ROWS, frames] of `power`.
        loudest: power of the brightest colour; the darkest is `RANGE_DB` below.
    """
    pooled = _pool(spectra)
    floor = loudest * 10.0 ** (-RANGE_DB / 10.0)
    level = 10.0 * np.log10(np.maximum(pooled, floor) / floor) / RANGE_DB if loudest else pooled
    pixels = np.rint(np.clip(level, 0.0, 1.0) * (LEVELS - 1)).astype(np.uint8)[::-1]
    return data_uri("image/png", png(pixels, palette()))


@functools.cache
def palette() -> NDArray[np.uint8]:
    """Colour map, [LEVELS, 3]: even steps of lightness in OKLab, violet to yellow.

    Source of the colour space: Ottosson 2020, "A perceptual color space for image processing".
    """
    step = np.linspace(0.0, 1.0, LEVELS)
    lightness = 0.16 + 0.8 * step
    hue = np.deg2rad(285.0 + 175.0 * step)
    chroma = 0.05 + 0.13 * np.sin(np.pi * np.minimum(step * 1.1, 1.0)) ** 0.8
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    lms = (
        np.stack(
            [
                lightness + 0.3963377774 * a + 0.2158037573 * b,
                lightness - 0.1055613458 * a - 0.0638541728 * b,
                lightness - 0.0894841775 * a - 1.2914855480 * b,
            ]
        )
        ** 3
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(to_rgb @ lms, 0.0, 1.0)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255.0 * srgb.T).astype(np.uint8))


def colour_scale_uri() -> str:
    """The colour map as a picture, faintest at the left."""
    return data_uri("image/png", png(np.arange(LEVELS, dtype=np.uint8)[None, :], palette()))


def png(pixels: NDArray[np.uint8], colours: NDArray[np.uint8]) -> bytes:
    """Palette image, PNG 1.2 colour type 3.

    Args:
        pixels: [height, width], indices into `colours`.
        colours: [N, 3] red, green and blue, N <= 256.
    """
    height, width = pixels.shape
    rows = np.pad(pixels, ((0, 0), (1, 0))).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = ((b"IHDR", header), (b"PLTE", colours.tobytes()), (b"IDAT", zlib.compress(rows, 9)))
    return _PNG_SIGNATURE + b"".join(_chunk(*part) for part in (*parts, (b"IEND", b"")))


def _pool(spectra: NDArray[np.float64]) -> NDArray[np.float64]:
    frames = spectra.shape[1]
    if frames <= COLUMNS:
        return spectra
    starts = np.linspace(0, frames, COLUMNS, endpoint=False).astype(int)
    sums = np.add.reduceat(spectra, starts, axis=1)
    return np.asarray(sums / np.diff(np.append(starts, frames)))


def _height(value: float, peak: float) -> str:
    inside = max(-1.0, min(1.0, value / peak)) if peak else 0.0
    return f"{50.0 - 49.0 * inside:.1f}".removesuffix(".0")


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)
