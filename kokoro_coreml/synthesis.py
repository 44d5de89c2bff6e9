"""Phonemes and a voice in, speech out, by a converted network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kokoro_coreml.errors import ParityError, PhonemeError
from kokoro_coreml.modules.source import HARMONICS
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

    def inputs(self, tokens: int) -> dict[str, np.ndarray]:
        """Inputs of the `complete` cut for a bucket of `tokens`.

        Raises:
            PhonemeError: there are more ids than tokens.
        """
        input_ids, attention_mask = pad(self.ids, tokens)
        return {
            "input_ids": input_ids,
            "ref_s": np.asarray(self.ref_s, dtype=np.float32),
            "random_phases": np.zeros((1, HARMONICS), dtype=np.float32),
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


def speak(backend: Backend, utterance: Utterance, tokens: int) -> Spoken:
    """Say something with the `complete` cut.

    Args:
        backend: runs the network.
        utterance: what to say.
        tokens: the bucket's tokens.

    Raises:
        PhonemeError: it does not fit the bucket, in tokens or in frames.
        ParityError: the audio holds NaN or infinity.
    """
    outputs = backend(utterance.inputs(tokens))
    audio = outputs["audio"].reshape(-1)
    length = int(outputs["audio_length_samples"][0])
    if length > audio.size:
        raise PhonemeError(
            f"the speech needs {length} samples, but the bucket holds {audio.size}; "
            "use a bucket with more frames or split the text"
        )
    if not np.all(np.isfinite(audio)):
        raise ParityError("the network gave NaN or infinite samples")
    durations = outputs["pred_dur"].reshape(-1)[: len(utterance.ids)]
    return Spoken(audio[:length], durations, audio[length:])
