"""Speech recognition for tests, by the package's own recogniser."""

from __future__ import annotations

import numpy as np

from kokoro_coreml.parity.recognition import Recogniser, words

__all__ = ["transcribe", "words"]


def transcribe(audio: np.ndarray) -> str:
    """Text of English speech, float32 [samples] at 24 kHz."""
    return Recogniser().transcribe(audio)
