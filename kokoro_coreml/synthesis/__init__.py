"""Phonemes and a voice in, speech out, by a converted network."""

from kokoro_coreml.synthesis.files import check_writable, write_speech
from kokoro_coreml.synthesis.observing import Observer
from kokoro_coreml.synthesis.shapes import Shape, shapes_of
from kokoro_coreml.synthesis.speech import (
    Backend,
    FloatArray,
    FrameOverflowError,
    Part,
    Speech,
    Spoken,
    Timestamp,
    Utterance,
    speak,
    timestamps,
)
from kokoro_coreml.synthesis.synthesizer import BACKENDS, Synthesizer

__all__ = [
    "BACKENDS",
    "Backend",
    "FloatArray",
    "FrameOverflowError",
    "Observer",
    "Part",
    "Shape",
    "Speech",
    "Spoken",
    "Synthesizer",
    "Timestamp",
    "Utterance",
    "check_writable",
    "shapes_of",
    "speak",
    "timestamps",
    "write_speech",
]
