"""The pipeline: seven stages in turn, each at its own bucket.

The text chooses the token bucket, the predicted durations choose the frame bucket, so nothing
overflows and nothing is padded twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kokoro_coreml.config import F0_PER_FRAME, ModelConfig
from kokoro_coreml.errors import ParityError, PhonemeError
from kokoro_coreml.noise import gaussian
from kokoro_coreml.recipe import FRAME_STAGES, TOKEN_STAGES, Bucket
from kokoro_coreml.synthesis.speech import Backend, FrameOverflowError, Spoken, Utterance
from kokoro_coreml.vocabulary import pad

OnStage = Callable[[str, Mapping[str, np.ndarray], Mapping[str, np.ndarray]], None]
"""Told the stage with its inputs and outputs once it has run."""


class Stages(Protocol):
    """Where the stages of a pipeline come from."""

    @property
    def tokens(self) -> Sequence[int]:
        """Token buckets, rising."""
        ...

    @property
    def frames(self) -> Sequence[int]:
        """Frame buckets, rising."""
        ...

    def stage(self, name: str, size: int) -> Backend:
        """What runs a stage at a bucket."""
        ...

    def inputs(self, name: str, size: int) -> Sequence[str]:
        """Names of the stage's inputs."""
        ...


@dataclass(frozen=True)
class Flow:
    """One utterance's way through the pipeline."""

    spoken: Spoken
    bucket: Bucket
    values: Mapping[str, np.ndarray]
    """Everything that crossed from one stage to the next, by name."""


class Pipeline:
    """Runs utterances through stages."""

    def __init__(self, stages: Stages, config: ModelConfig, *, noise_seed: int) -> None:
        """Bind.

        Args:
            stages: what to run.
            config: of the network.
            noise_seed: of the source's noise, `noise.gaussian`; the same for every utterance.
        """
        self.stages, self.config, self.noise_seed = stages, config, noise_seed

    def speak(
        self,
        utterance: Utterance,
        *,
        bucket: Bucket | None = None,
        on_stage: OnStage | None = None,
    ) -> Flow:
        """Say something at the smallest buckets that hold it.

        Args:
            utterance: what to say.
            bucket: to use instead of the smallest.
            on_stage: told of every stage.

        Raises:
            PhonemeError: no token bucket holds it; `FrameOverflowError` where no frame bucket does.
            ParityError: a stage gives NaN, or durations to padding.
        """
        tokens = bucket.tokens if bucket else self._tokens(len(utterance.ids))
        values = self._given(utterance, tokens)
        for name in TOKEN_STAGES:
            self._run(name, tokens, values, on_stage)
        durations = values["pred_dur"].reshape(-1)
        if np.any(durations[len(utterance.ids) :] != 0):
            raise ParityError("the network gave durations to padding")
        count = int(durations.sum())
        frames = self._frames(count, bucket)
        values |= self._excitation(utterance, count, frames)
        for name in FRAME_STAGES:
            self._run(name, frames, values, on_stage)
        spoken = self._spoken(values["audio"].reshape(-1), durations[: len(utterance.ids)], count)
        return Flow(spoken, Bucket(tokens, frames), values)

    def _tokens(self, needed: int) -> int:
        found = next((size for size in self.stages.tokens if size >= needed), None)
        if found is None:
            raise PhonemeError(
                f"the text needs {needed} tokens, more than the largest bucket "
                f"({max(self.stages.tokens)}) holds; split the text"
            )
        return found

    def _frames(self, count: int, bucket: Bucket | None) -> int:
        if count <= 0:
            raise ParityError(f"the network gave {count} frames of speech")
        sizes = [bucket.frames] if bucket else self.stages.frames
        found = next((size for size in sizes if size >= count), None)
        if found is None:
            samples = self.config.samples_per_frame
            raise FrameOverflowError(count * samples, max(sizes) * samples)
        return found

    def _given(self, utterance: Utterance, tokens: int) -> dict[str, np.ndarray]:
        input_ids, attention_mask = pad(utterance.ids, tokens)
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "ref_s": np.asarray(utterance.ref_s, dtype=np.float32),
            "speed": np.array([utterance.speed], dtype=np.float32),
            "random_phases": np.array([utterance.phases], dtype=np.float32),
        }

    def _excitation(self, utterance: Utterance, count: int, frames: int) -> dict[str, np.ndarray]:
        positions = F0_PER_FRAME * frames
        noise = gaussian(self.noise_seed, frames * self.config.samples_per_frame)
        return {
            "frames": np.array([count], dtype=np.int32),
            "noise": noise.reshape(1, positions, -1),
        }

    def _run(
        self, name: str, size: int, values: dict[str, np.ndarray], on_stage: OnStage | None
    ) -> None:
        inputs = {n: _shaped(name, n, values[n]) for n in self.stages.inputs(name, size)}
        outputs = self.stages.stage(name, size)(inputs)
        for output, value in outputs.items():
            if value.dtype.kind == "f" and not np.all(np.isfinite(value)):
                raise ParityError(f"the stage {name} gave NaN or infinity in '{output}'")
        values.update(outputs)
        if on_stage is not None:
            on_stage(name, inputs, outputs)

    def _spoken(self, audio: np.ndarray, durations: np.ndarray, count: int) -> Spoken:
        length = count * self.config.samples_per_frame
        return Spoken(audio[:length], durations, audio[length:])


def _shaped(stage: str, name: str, value: np.ndarray) -> np.ndarray:
    """`Encoder` takes ids and mask as floating point, in the layout of its channels."""
    if stage == "Encoder" and value.ndim == 2:
        return value.astype(np.float32)[:, None, None, :]
    return value
