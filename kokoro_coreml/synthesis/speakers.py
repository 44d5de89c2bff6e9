"""Both cuts behind one interface: an utterance in, speech and the bucket it was said at out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kokoro_coreml.config import BOUNDARY_TOKENS
from kokoro_coreml.errors import PhonemeError
from kokoro_coreml.recipe import Bucket
from kokoro_coreml.synthesis.pipeline import Pipeline
from kokoro_coreml.synthesis.shapes import Shape
from kokoro_coreml.synthesis.speech import Backend, FrameOverflowError, Spoken, Utterance, speak
from kokoro_coreml.synthesis.stages import Load


class Speaker(Protocol):
    """Says one utterance."""

    @property
    def longest(self) -> int:
        """Phonemes that the largest bucket holds."""
        ...

    def speak(self, utterance: Utterance) -> tuple[Spoken, Bucket]:
        """Say it at the smallest bucket that holds it.

        Raises:
            PhonemeError: no bucket does; `FrameOverflowError` where it is the speech.
        """
        ...


class CompleteSpeaker:
    """The packages of the cut `complete`."""

    def __init__(
        self, shapes: Sequence[Shape], load: Load, max_phonemes: int, samples_per_frame: int
    ) -> None:
        self._shapes, self._load, self._samples = shapes, load, samples_per_frame
        largest = max(shape.bucket.tokens for shape in shapes)
        self._longest = min(max_phonemes, largest - BOUNDARY_TOKENS)
        self._programs: dict[Shape, Backend] = {}

    @property
    def longest(self) -> int:
        """Phonemes that the largest bucket holds."""
        return self._longest

    def speak(self, utterance: Utterance) -> tuple[Spoken, Bucket]:
        """Go through the buckets from small to large until the speech is held."""
        needed = 0
        for shape in self._shapes:
            bucket = shape.bucket
            samples = bucket.frames * self._samples
            if bucket.tokens < len(utterance.ids) or samples < needed:
                continue
            try:
                return speak(self._program(shape), utterance, bucket.tokens), bucket
            except FrameOverflowError as error:
                needed = error.needed
        if not needed:
            raise PhonemeError(
                f"the text needs {len(utterance.ids)} tokens, more than the largest bucket "
                f"({self._longest + BOUNDARY_TOKENS}) holds; split the text"
            )
        held = max(s.bucket.frames for s in self._shapes if s.bucket.tokens >= len(utterance.ids))
        raise FrameOverflowError(needed, held * self._samples)

    def _program(self, shape: Shape) -> Backend:
        if shape not in self._programs:
            self._programs[shape] = self._load(shape.package, shape.function, shape.compute_units)
        return self._programs[shape]


class PipelineSpeaker:
    """The packages of the cut `pipeline`."""

    def __init__(self, pipeline: Pipeline, max_phonemes: int) -> None:
        self._pipeline = pipeline
        self._longest = min(max_phonemes, pipeline.stages.tokens[-1] - BOUNDARY_TOKENS)

    @property
    def longest(self) -> int:
        """Phonemes that the largest bucket holds."""
        return self._longest

    def speak(self, utterance: Utterance) -> tuple[Spoken, Bucket]:
        """Each stage at its own smallest bucket."""
        flow = self._pipeline.speak(utterance)
        return flow.spoken, flow.bucket
