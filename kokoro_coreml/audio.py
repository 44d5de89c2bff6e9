"""WAV files: mono, 24 kHz, 16-bit PCM without dither, so that equal audio gives equal bytes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from kokoro_coreml.config import SAMPLE_RATE
from kokoro_coreml.errors import BundleError, ParityError
from kokoro_coreml.progress import SILENT, Reporter

FULL_SCALE = 32_767
"""PCM value of 1.0; symmetric, so that -1.0 and 1.0 are equally far from 0."""


def write_wav(path: Path, samples: NDArray[np.float32], *, reporter: Reporter = SILENT) -> None:
    """Write audio as a WAV file.

    Samples outside [-1, 1] are clipped, and the reporter is warned with their number and the peak.

    Args:
        path: file to write; replaced if it exists.
        samples: float [N] at 24 kHz, 1.0 being full scale.
        reporter: receives the warning about clipping.

    Raises:
        ParityError: the audio is empty, holds NaN or infinity, or is not one-dimensional.
        OSError: the file cannot be written.
    """
    if samples.ndim != 1 or samples.size == 0:
        raise ParityError(f"audio must be [N] with N > 0, found shape {list(samples.shape)}")
    bad = np.flatnonzero(~np.isfinite(samples))
    if bad.size:
        raise ParityError(
            f"audio holds {bad.size} samples that are NaN or infinite, the first at {bad[0]}; "
            "nothing was written"
        )
    loud = int(np.count_nonzero(np.abs(samples) > 1.0))
    if loud:
        peak = float(np.max(np.abs(samples)))
        reporter.warn(
            f"{path.name}: {loud} samples above full scale were clipped (peak {peak:.3f})"
        )
    pcm = np.rint(np.clip(samples, -1.0, 1.0).astype(np.float64) * FULL_SCALE).astype(np.int16)
    stream = io.BytesIO()
    soundfile.write(stream, pcm, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    # written by Python, so that a full disk is an OSError and not one of libsndfile's own errors
    path.write_bytes(stream.getvalue())


def read_wav(path: Path) -> NDArray[np.float32]:
    """Read what `write_wav` wrote: float32 [N] at 24 kHz.

    Raises:
        BundleError: it is missing or not a mono 24 kHz 16-bit WAV file.
    """
    try:
        with soundfile.SoundFile(path) as file:
            form = (file.format, file.subtype, file.channels, file.samplerate)
            if form != ("WAV", "PCM_16", 1, SAMPLE_RATE):
                raise BundleError(
                    f"'{path}' must be a mono PCM_16 WAV at {SAMPLE_RATE} Hz, found {form}"
                )
            pcm = file.read(dtype="int16")
    except (soundfile.LibsndfileError, OSError) as error:
        raise BundleError(f"cannot read the audio '{path}': {error}") from error
    return np.asarray(pcm / np.float64(FULL_SCALE), dtype=np.float32)
