"""Reference, candidate and their difference as sound a browser plays."""

from __future__ import annotations

import io
from base64 import b64encode
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import soundfile
from numpy.typing import NDArray

from kokoro_coreml.errors import ParityError

DIFFERENCE_PEAK = 0.9
"""Largest sample of the amplified difference, 1.0 being full scale."""

DIFFERENCE_BITS = 9
"""What the amplified difference keeps in its player: noise 59 dB below full scale, for half the
size. Reference and candidate keep all 16."""

LARGEST_GAIN = 10**6
"""The least significant bits of float32 speech would be audible from here on."""

PCM_BITS = 16


@dataclass(frozen=True, eq=False)
class Listening:
    """What one case sounds like on both sides.

    Args:
        case: name of the `CaseResult`.
        reference: upstream's audio, float32 [samples], 1.0 being full scale.
        candidate: the package's, float32 [samples]; may differ in length and hold NaN.
        sample_rate: of both, in Hz.

    Raises:
        ParityError: an array is not one-dimensional, or the rate is not positive.
    """

    case: str
    reference: NDArray[np.float32]
    candidate: NDArray[np.float32]
    sample_rate: int

    def __post_init__(self) -> None:
        for name in ("reference", "candidate"):
            shape = np.shape(getattr(self, name))
            if len(shape) != 1:
                raise ParityError(
                    f"case '{self.case}': {name} audio must be [samples], found {list(shape)}"
                )
        if self.sample_rate <= 0:
            raise ParityError(f"case '{self.case}': sample rate {self.sample_rate} Hz")

    @property
    def samples(self) -> int:
        """Length of the longer side."""
        return max(self.reference.size, self.candidate.size)

    @cached_property
    def difference(self) -> NDArray[np.float64]:
        """Candidate minus reference, the shorter one continued by silence; NaN where either is."""
        both = [
            np.pad(x.astype(np.float64), (0, self.samples - x.size))
            for x in (self.reference, self.candidate)
        ]
        with np.errstate(invalid="ignore"):
            return np.asarray(both[1] - both[0])

    @cached_property
    def gain(self) -> int:
        """Factor that makes the difference as loud as the reference without clipping.

        1, 2 or 5 times a power of ten; 1 where there is nothing to amplify.
        """
        difference, reference = _finite(self.difference), _finite(self.reference)
        peak = float(np.max(np.abs(difference), initial=0.0))
        if peak == 0.0:
            return 1
        loudness = float(np.sqrt(np.mean(difference**2)))
        target = float(np.sqrt(np.mean(reference**2))) if reference.size else 0.0
        wanted = min(DIFFERENCE_PEAK / peak, (target or loudness) / loudness, LARGEST_GAIN)
        steps = [m * 10**e for e in range(7) for m in (1, 2, 5)]
        return max([s for s in steps if s <= wanted], default=1)


def invalid_samples(samples: NDArray[np.floating]) -> int:
    """How many samples are NaN or infinite."""
    return int(np.count_nonzero(~np.isfinite(samples)))


def flac_uri(samples: NDArray[np.floating], sample_rate: int, *, bits: int = PCM_BITS) -> str:
    """16-bit FLAC as a data URI.

    NaN and infinity are silent, and what is above full scale is clipped.

    Args:
        samples: [N], 1.0 being full scale; N > 0.
        sample_rate: in Hz.
        bits: kept of the 16; FLAC does not store those that are always 0.
    """
    full = 2 ** (bits - 1)
    pcm = np.clip(np.rint(_finite(samples) * full), -full, full - 1).astype(np.int16)
    stream = io.BytesIO()
    soundfile.write(stream, pcm << (PCM_BITS - bits), sample_rate, format="FLAC", subtype="PCM_16")
    return data_uri("audio/flac", stream.getvalue())


def data_uri(media_type: str, content: bytes) -> str:
    """Content as a `data:` address."""
    return f"data:{media_type};base64,{b64encode(content).decode('ascii')}"


def _finite(samples: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.where(np.isfinite(samples), samples, 0.0).astype(np.float64)
