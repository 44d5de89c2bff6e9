"""What is said, and what comes of it: utterances, speech, timestamps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kokoro_coreml.errors import ParityError, PhonemeError
from kokoro_coreml.modules.source import HARMONICS
from kokoro_coreml.recipe import Bucket
from kokoro_coreml.vocabulary import pad

FloatArray = NDArray[np.float32]


class Backend(Protocol):
    """Anything that runs the `complete` interface: an `executor.Program`, for one."""

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Named arrays in, named arrays out."""
        ...


@dataclass(frozen=True)
class Utterance:
    """One thing to say."""

    ids: tuple[int, ...]
    """Token ids from `Vocabulary.encode`, the boundary zeros included."""
    ref_s: FloatArray
    """One voice row, [1, 2 * style_dim]."""
    speed: float = 1.0
    phases: tuple[float, ...] = (0.0,) * HARMONICS
    """Start of each harmonic in cycles; zeros are upstream."""

    def inputs(self, tokens: int) -> dict[str, np.ndarray]:
        """Inputs of the `complete` cut for a bucket of `tokens`.

        Raises:
            PhonemeError: there are more ids than tokens.
        """
        input_ids, attention_mask = pad(self.ids, tokens)
        return {
            "input_ids": input_ids,
            "ref_s": np.asarray(self.ref_s, dtype=np.float32),
            "random_phases": np.array([self.phases], dtype=np.float32),
            "attention_mask": attention_mask,
            "speed": np.array([self.speed], dtype=np.float32),
        }


@dataclass(frozen=True)
class Spoken:
    """What a converted network said."""

    audio: FloatArray
    """[samples], its padding cut off."""
    durations: NDArray[np.int32]
    """Frames per token, boundary tokens included."""
    padding: FloatArray
    """What stood behind the audio; must be silence."""


class FrameOverflowError(PhonemeError):
    """The speech is longer than the bucket's frames."""

    def __init__(self, needed: int, held: int) -> None:
        """Both in samples."""
        super().__init__(
            f"the speech needs {needed} samples, but the bucket holds {held}; "
            "use a bucket with more frames or split the text"
        )
        self.needed = needed


def speak(backend: Backend, utterance: Utterance, tokens: int) -> Spoken:
    """Say something with the `complete` cut.

    Args:
        backend: runs the network.
        utterance: what to say.
        tokens: the bucket's tokens.

    Raises:
        PhonemeError: it does not fit the bucket; `FrameOverflowError` where it is the frames.
        ParityError: the audio holds NaN or infinity, or its length cannot be.
    """
    outputs = backend(utterance.inputs(tokens))
    audio = outputs["audio"].reshape(-1)
    length = int(outputs["audio_length_samples"][0])
    if length > audio.size:
        raise FrameOverflowError(length, audio.size)
    if length <= 0:
        raise ParityError(f"the network gave {length} samples of speech")
    if not np.all(np.isfinite(audio)):
        raise ParityError("the network gave NaN or infinite samples")
    durations = outputs["pred_dur"].reshape(-1)
    used = len(utterance.ids)
    if np.any(durations[used:] != 0):
        raise ParityError("the network gave durations to padding")
    return Spoken(audio[:length], durations[:used], audio[length:])


@dataclass(frozen=True)
class Part:
    """A stretch of a text that was said at once."""

    phonemes: str
    spoken: Spoken
    bucket: Bucket
    """The shape it was said at."""


@dataclass(frozen=True)
class Timestamp:
    """When one token is heard."""

    phoneme: str | None
    """None for the silence of a boundary token, in front of and behind the phonemes."""
    start: float
    """Seconds from the beginning of the audio."""
    end: float


@dataclass(frozen=True)
class Speech:
    """What a bundle said."""

    audio: FloatArray = field(repr=False)
    """[samples], 1.0 being full scale."""
    sample_rate: int
    """Hz."""
    timestamps: tuple[Timestamp, ...]
    """One per token, without gaps."""
    voice: str
    speed: float
    parts: tuple[Part, ...] = field(repr=False)
    """One, unless the text or its speech fitted no bucket."""

    @property
    def bucket(self) -> Bucket:
        """The largest shape that was used."""
        return max((part.bucket for part in self.parts), key=lambda b: (b.frames, b.tokens))

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return len(self.audio) / self.sample_rate

    def to_dict(self) -> dict[str, Any]:
        """Everything but the audio, in plain JSON types; times in seconds."""
        return {
            "seconds": round(self.seconds, 6),
            "sample_rate": self.sample_rate,
            "voice": self.voice,
            "speed": self.speed,
            "bucket": {"tokens": self.bucket.tokens, "frames": self.bucket.frames},
            "parts": [part.phonemes for part in self.parts],
            "timestamps": [
                {"phoneme": t.phoneme, "start": round(t.start, 6), "end": round(t.end, 6)}
                for t in self.timestamps
            ],
        }


def timestamps(
    phonemes: str, durations: Sequence[int] | NDArray[np.int32], seconds_per_frame: float
) -> tuple[Timestamp, ...]:
    """When each token is heard.

    Args:
        phonemes: what was said.
        durations: frames per token, boundary tokens included: two more than phonemes.
        seconds_per_frame: length of a frame.

    Raises:
        ValueError: the numbers of phonemes and durations do not match.
    """
    ends = np.cumsum(np.asarray(durations, dtype=np.int64))
    marks = [0.0, *(int(end) * seconds_per_frame for end in ends)]
    tokens = [None, *phonemes, None]
    return tuple(
        Timestamp(phoneme, start, end)
        for phoneme, start, end in zip(tokens, marks[:-1], marks[1:], strict=True)
    )


def joined(
    parts: Sequence[Part],
    *,
    sample_rate: int,
    samples_per_frame: int,
    voice: str,
    speed: float,
) -> Speech:
    """One speech from its parts, one behind the other; each begins and ends in silence.

    Args:
        parts: in the order they are heard, at least one.
        sample_rate: Hz.
        samples_per_frame: length of a frame.
        voice: that spoke.
        speed: at which it spoke.
    """
    marks: list[Timestamp] = []
    start = 0.0
    for part in parts:
        own = timestamps(part.phonemes, part.spoken.durations, samples_per_frame / sample_rate)
        marks += [Timestamp(t.phoneme, start + t.start, start + t.end) for t in own]
        start += len(part.spoken.audio) / sample_rate
    audio = np.concatenate([part.spoken.audio for part in parts])
    return Speech(audio, sample_rate, tuple(marks), voice, speed, tuple(parts))
