"""A pipeline's stages in PyTorch or with something changed, and what crosses between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kokoro_coreml.config import F0_PER_FRAME, ModelConfig
from kokoro_coreml.errors import ParityError
from kokoro_coreml.modules.folded.halos import foldings
from kokoro_coreml.modules.folded.upsample import widths
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.parity.modules import Eager
from kokoro_coreml.recipe import TOKEN_STAGES, Bucket
from kokoro_coreml.stages import Stage, pipeline_stage
from kokoro_coreml.synthesis import Backend, Utterance
from kokoro_coreml.synthesis.pipeline import OnStage, Pipeline, Stages
from kokoro_coreml.synthesis.stages import PackagedStages

Arrays = Mapping[str, np.ndarray]

COMPARED = {
    "Encoder": ("encoded",),
    "Duration": ("d", "text", "pred_dur"),
    "Prosody": ("f0", "f0_frames", "energy_frames", "asr"),
    "Decoder": ("features",),
    "Source": ("har",),
    "Generator": ("hidden",),
    "Tail": ("audio",),
}
"""Values of each stage that have a valid length and a counterpart upstream."""


@dataclass
class EagerStages:
    """The modules the packages were traced from, as a source of stages."""

    network: PipelineNetwork
    tokens: Sequence[int]
    frames: Sequence[int]
    seconds: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    """Run times by stage and size."""

    def at(self, name: str, size: int) -> Stage:
        """A stage bound to a bucket."""
        return pipeline_stage(self.network, name, size)

    def inputs(self, name: str, size: int) -> tuple[str, ...]:
        """Names of a stage's inputs."""
        return tuple(port.name for port in self.at(name, size).inputs)

    def stage(self, name: str, size: int) -> Backend:
        """What runs a stage at a bucket."""
        return Eager(self.at(name, size), self.seconds.setdefault((name, size), []))


@dataclass
class Around:
    """Stages with something done around each call."""

    stages: Stages

    @property
    def tokens(self) -> Sequence[int]:
        """Token buckets, rising."""
        return self.stages.tokens

    @property
    def frames(self) -> Sequence[int]:
        """Frame buckets, rising."""
        return self.stages.frames

    def inputs(self, name: str, size: int) -> Sequence[str]:
        """Names of a stage's inputs."""
        return self.stages.inputs(name, size)

    def stage(self, name: str, size: int) -> Backend:
        """What runs a stage at a bucket."""
        backend = self.stages.stage(name, size)
        return lambda inputs: self.call(name, size, backend, inputs)

    def call(self, name: str, size: int, backend: Backend, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run one stage."""
        return backend(inputs)


@dataclass
class ForcedDurations(Around):
    """Stages whose `Duration` gives upstream's durations, so that the audio can be compared."""

    durations: np.ndarray

    def call(self, name: str, size: int, backend: Backend, inputs: Arrays) -> dict[str, np.ndarray]:
        """Run one stage, and replace what `Duration` found."""
        outputs = backend(inputs)
        if name != "Duration":
            return outputs
        found = np.zeros_like(outputs["pred_dur"])
        found[0, : self.durations.size] = self.durations
        return outputs | {"pred_dur": found}


@dataclass
class Replayed:
    """Stages that give what they once gave elsewhere, and take nothing."""

    stages: PackagedStages
    """Know the buckets, and the outputs of each stage."""
    values: Arrays
    """What was given, by name."""

    @property
    def tokens(self) -> Sequence[int]:
        """Token buckets, rising."""
        return self.stages.tokens

    @property
    def frames(self) -> Sequence[int]:
        """Frame buckets, rising."""
        return self.stages.frames

    def inputs(self, _name: str, _size: int) -> Sequence[str]:
        """None."""
        return ()

    def stage(self, name: str, size: int) -> Backend:
        """What gives the outputs of a stage, as far as they were kept."""
        return lambda _inputs: self._given(name, size)

    def _given(self, name: str, size: int) -> dict[str, np.ndarray]:
        """Raises `ParityError` where a value is not of the declared type and shape."""
        _, function = self.stages.function(name, size)
        found = {}
        for port in function.outputs:
            value = self.values.get(port.name)
            if value is None:
                continue
            if (value.dtype.name, value.shape) != (port.dtype, tuple(port.shape)):
                raise ParityError(
                    f"'{port.name}' of {name} is {value.dtype}{list(value.shape)}, expected "
                    f"{port.dtype}{list(port.shape)}"
                )
            found[port.name] = value
        return found


class _ReachedError(Exception):
    """Ends a run of the pipeline behind the stage that was asked for."""


@dataclass(frozen=True)
class Step:
    """One stage as it ran."""

    inputs: Arrays
    outputs: Arrays


def steps_until(
    pipeline: Pipeline, utterance: Utterance, last: str, *, bucket: Bucket | None = None
) -> dict[str, Step]:
    """Run the stages up to and with `last`; raises as `Pipeline.speak` does."""
    steps: dict[str, Step] = {}

    def keep(name: str, inputs: Arrays, outputs: Arrays) -> None:
        steps[name] = Step(inputs, outputs)
        if name == last:
            raise _ReachedError

    stop: OnStage = keep
    with suppress(_ReachedError):
        pipeline.speak(utterance, bucket=bucket, on_stage=stop)
    return steps


@dataclass
class _Stopping(Around):
    """Stages that are run up to one, which is told its inputs and left out."""

    last: str
    reached: tuple[int, Arrays] | None = None

    def stage(self, name: str, size: int) -> Backend:
        """What runs a stage; the last one is not even loaded."""
        if name != self.last:
            return super().stage(name, size)

        def stop(inputs: Arrays) -> dict[str, np.ndarray]:
            self.reached = (size, dict(inputs))
            raise _ReachedError

        return stop


def inputs_of(
    pipeline: Pipeline, utterance: Utterance, stage: str, *, bucket: Bucket | None = None
) -> tuple[int, Arrays]:
    """Size and inputs of a stage, by running those in front of it; raises as `Pipeline.speak`."""
    stopping = _Stopping(pipeline.stages, stage)
    until = Pipeline(stopping, pipeline.config, noise_seed=pipeline.noise_seed)
    with suppress(_ReachedError):
        until.speak(utterance, bucket=bucket)
    assert stopping.reached is not None  # every stage is run, unless one raises
    return stopping.reached


def values_of(steps: Mapping[str, Step]) -> dict[str, np.ndarray]:
    """Everything the stages gave, by name."""
    return {name: value for step in steps.values() for name, value in step.outputs.items()}


@dataclass(frozen=True)
class Lengths:
    """How much of every axis is speech."""

    config: ModelConfig
    tokens: int
    frames: int

    def exact(self, values: Arrays, frames: int) -> dict[str, Tensor]:
        """What crosses, unfolded and cut to its valid length, by the names of `COMPARED`.

        Args:
            values: of the pipeline, those that are there.
            frames: the bucket they stand in.
        """
        found = dict(values)
        if "curves" in found:
            levels = found["levels"].astype(np.float32)
            f0, energy = np.split((found.pop("curves") + levels)[:, :, 0], 2, axis=1)
            found |= {"f0_frames": f0[:, 0], "energy_frames": energy[:, 0]}
        return {
            name: self._cut(name, _tensor(found[name]), frames)
            for name in self._sizes()
            if name in found
        }

    def placed(self, exact: Mapping[str, Tensor], frames: int) -> dict[str, np.ndarray]:
        """The other way: what crosses the edge of frame stages, in another bucket, padding 0."""
        positions = F0_PER_FRAME * frames
        found = {
            "f0": _padded(exact["f0"], positions),
            "asr": _padded(exact["asr"], frames).unsqueeze(2),
            "curves": _padded(frames_of(exact) - exact["levels"], frames),
            "levels": exact["levels"],
            "frame_mask": _padded(torch.ones(1, 1, 1, self.frames), frames),
        }
        rows = foldings(frames, self.config.istftnet)
        for name, (which, rate, extra) in self._folded().items():
            long = _padded(exact[name], positions * rate + extra).unsqueeze(2)
            found[name] = rows[which].fold(long, rate, extra=extra)
        return {name: value.numpy() for name, value in found.items()}

    def _folded(self) -> dict[str, tuple[int, int, int]]:
        """Which folding, values per position, and how many stand in front of the first."""
        last = widths(self.config.istftnet.upsample_rates)[-1]
        return {"features": (0, 1, 0), "har": (-1, last, 1), "hidden": (-1, last, 1)}

    def _sizes(self) -> dict[str, tuple[int, int]]:
        """Axis and valid length, folded values unfolded."""
        positions = F0_PER_FRAME * self.frames
        columns = self.config.columns_per_frame * self.frames + 1
        return {
            "encoded": (2, self.tokens),
            "d": (1, self.tokens),
            "text": (2, self.tokens),
            "pred_dur": (1, self.tokens),
            "f0": (1, positions),
            "f0_frames": (1, self.frames),
            "energy_frames": (1, self.frames),
            "levels": (2, 1),
            "asr": (2, self.frames),
            "features": (2, positions),
            "har": (2, columns),
            "hidden": (2, columns),
            "audio": (1, self.config.samples_per_frame * self.frames),
        }

    def _cut(self, name: str, value: Tensor, frames: int) -> Tensor:
        if name in ("encoded", "asr"):
            value = value.squeeze(2)
        if name in self._folded():
            which, rate, extra = self._folded()[name]
            folding = foldings(frames, self.config.istftnet)[which]
            value = folding.unfold(value, rate, extra=extra)
        axis, length = self._sizes()[name]
        return value.narrow(axis, 0, length)


def frames_of(exact: Mapping[str, Tensor]) -> Tensor:
    """F0 and energy as `F0_conv` and `N_conv` give them, [1, 2, 1, F]."""
    return torch.stack([exact["f0_frames"], exact["energy_frames"]], dim=1).unsqueeze(2)


def size_of(name: str, bucket: Bucket) -> int:
    """The axis of a bucket that a stage has."""
    return bucket.tokens if name in TOKEN_STAGES else bucket.frames


def _tensor(array: np.ndarray) -> Tensor:
    value = torch.from_numpy(np.ascontiguousarray(array))
    return value.to(torch.float32)


def _padded(x: Tensor, length: int) -> Tensor:
    return F.pad(x, (0, length - x.shape[-1]))
