"""Tokens and frames: their alignment, and the buckets that hold them."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kokoro_coreml.config import BOUNDARY_TOKENS
from kokoro_coreml.goldens.arrays import integers
from kokoro_coreml.goldens.cases import Case, case, golden
from kokoro_coreml.goldens.inputs import config, seeded
from kokoro_coreml.goldens.manifest_example import example, functions_at
from kokoro_coreml.modules.alignment import create_alignment_matrix
from kokoro_coreml.modules.masks import valid_prefix
from kokoro_coreml.recipe import Bucket
from kokoro_coreml.synthesis.pipeline import Pipeline
from kokoro_coreml.synthesis.shapes import Shape, shapes_of
from kokoro_coreml.synthesis.speakers import CompleteSpeaker
from kokoro_coreml.synthesis.speech import Backend, FrameOverflowError, Utterance

TOKENS, FRAMES = (32, 64, 128, 256, 512), (128, 256, 512, 1_024, 2_048)
"""Buckets of the recipe `kokoro-82m`."""

_STYLE = np.zeros((1, 256), dtype=np.float32)


@golden("alignment")
def alignment() -> Iterator[Case]:
    """Durations to the token of every frame."""
    rng = seeded("alignment")
    for number in range(30):
        durations = [rng.choice((0, 1, 1, 2, 3, 5, 8)) for _ in range(rng.randint(1, 24))]
        frames = sum(durations) + rng.choice((0, 0, 1, 16))
        yield _aligned(f"random-{number:02}", durations, max(frames, 1))
    for number in range(6):
        durations = [rng.randint(0, 6) for _ in range(12)]
        yield _aligned(f"cut-{number}", durations, max(sum(durations) - rng.randint(1, 5), 1))
    yield _aligned("no-speech", [0, 0, 0], 8)
    yield _aligned("padded-tokens", [2, 3, 1, 0, 0, 0, 0, 0], 16)
    yield _aligned("one-token", [16], 16)
    yield _aligned("zeros-between", [1, 0, 0, 2, 0, 1], 4)
    yield _aligned("bucket", [0, *([2] * 60), 3], FRAMES[0])


def _aligned(name: str, durations: Sequence[int], frames: int) -> Case:
    def compute() -> Mapping[str, Any]:
        lasts = torch.tensor([list(durations)], dtype=torch.float32)
        matrix = create_alignment_matrix(lasts, frames)[0]
        mask = valid_prefix(lasts.sum().view(1, 1, 1), frames).mask
        token = torch.where(matrix.sum(dim=0) > 0, matrix.argmax(dim=0), -1)
        return {"alignment": integers(token), "mask": integers(mask)}

    return case(name, {"durations": list(durations), "frames": frames}, compute)


@golden("buckets")
def buckets() -> Iterator[Case]:
    """The buckets of the pipeline's stages."""
    rng = seeded("buckets")
    for ids in (3, 31, 32, 33, 64, 65, 511, 512):
        yield _piped(f"{ids}-ids", ids, 100)
    for count in (1, 127, 128, 129, 256, 257, 1_024, 1_025, 2_047, 2_048):
        yield _piped(f"{count}-frames", 40, count)
    for number in range(30):
        tokens, frames = _sizes(rng, 8, 256), _sizes(rng, 32, 640)
        ids, count = rng.randint(3, tokens[-1]), rng.randint(1, frames[-1])
        yield _piped(f"random-{number:02}", ids, count, tokens=tokens, frames=frames)
    for count in (2_049, 5_000):
        yield _piped(f"{count}-frames-overflow", 40, count)
    yield _piped("overflow-of-one", 10, 129, tokens=(32,), frames=(128,))
    for ids in (513, 600):
        said = [f"needs {ids} tokens", "(512)"]
        yield _piped(f"{ids}-ids-refused", ids, 100, refused=said)
    yield _piped("no-frames-refused", 40, 0, refused=["gave 0 frames of speech"])


def _sizes(rng: random.Random, least: int, most: int) -> tuple[int, ...]:
    return tuple(sorted(rng.sample(range(least, most), rng.randint(1, 5))))


class _Stages:
    """Stages that speak for so many frames, and keep the buckets they were asked for."""

    def __init__(self, tokens: Sequence[int], frames: Sequence[int], count: int) -> None:
        self.tokens, self.frames, self.count = tokens, frames, count
        self.asked: dict[str, int] = {}

    def inputs(self, name: str, size: int) -> Sequence[str]:
        return ()

    def stage(self, name: str, size: int) -> Backend:
        self.asked[name] = size
        return lambda _: self._outputs(name, size)

    def _outputs(self, name: str, size: int) -> dict[str, np.ndarray]:
        if name == "Duration":
            durations = np.zeros((1, size), dtype=np.int32)
            durations[0, 0] = self.count
            return {"pred_dur": durations}
        if name == "Tail":
            return {"audio": np.zeros((1, size * config().samples_per_frame), dtype=np.float32)}
        return {}


def _piped(
    name: str,
    ids: int,
    count: int,
    *,
    tokens: Sequence[int] = TOKENS,
    frames: Sequence[int] = FRAMES,
    refused: Sequence[str] = (),
) -> Case:
    def compute() -> Mapping[str, Any]:
        stages = _Stages(tokens, frames, count)
        try:
            bucket = Pipeline(stages, config(), noise_seed=0).speak(_utterance(ids)).bucket
        except FrameOverflowError as error:
            asked = stages.asked["Duration"]
            return {"token_bucket": asked, "frame_bucket": None, "needed_samples": error.needed}
        return {"token_bucket": bucket.tokens, "frame_bucket": bucket.frames}

    given = {"tokens": tokens, "frames": frames, "ids": ids, "duration_sum": count}
    return case(name, given, compute, refused=refused)


def _utterance(ids: int) -> Utterance:
    return Utterance((0, *([1] * (ids - BOUNDARY_TOKENS)), 0), _STYLE)


@golden("shapes")
def shapes() -> Iterator[Case]:
    """The packages of the cut `complete` that are tried, one after the other."""
    rng = seeded("shapes")
    yield _tried("one", [(128, 400)], 100, 240_000)
    yield _tried("short", [(128, 400), (64, 200)], 20, 600)
    yield _tried("long-speech", [(64, 200), (128, 400)], 20, 120_600)
    yield _tried("by-frames-first", [(256, 200), (64, 400), (128, 400)], 20, 150_000)
    yield _tried("one-sample-over", [(64, 200), (64, 201)], 20, 120_001)
    yield _tried("exactly-the-longest", [(64, 200), (128, 400)], 20, 240_000)
    for number in range(30):
        made = sorted({(rng.randint(16, 256), rng.randint(50, 900)) for _ in range(5)})
        rng.shuffle(made)
        widest = max(tokens for tokens, _ in made)
        ids = rng.randint(3, widest)
        longest = max(frames for tokens, frames in made if tokens >= ids)
        yield _tried(f"random-{number:02}", made, ids, rng.randint(1, longest * 600))
    said = ["needs 129 tokens", "(128)"]
    yield _tried("refused-129-ids", [(128, 400), (64, 900)], 129, 600, refused=said)
    said = ["needs 240600 samples", "holds 240000"]
    yield _tried("refused-speech", [(128, 400), (64, 900)], 100, 240_600, refused=said)


def _tried(
    name: str,
    made: Sequence[tuple[int, int]],
    ids: int,
    samples: int,
    *,
    refused: Sequence[str] = (),
) -> Case:
    tried: list[Bucket] = []

    def load(package: Path, function: str, units: str) -> Backend:
        bucket = next(s.bucket for s in found if s.function == function)
        tried.append(bucket)
        audio = np.zeros(bucket.frames * config().samples_per_frame, dtype=np.float32)
        durations = np.zeros((1, bucket.tokens), dtype=np.int32)
        said = {"audio": audio, "pred_dur": durations}
        return lambda _: said | {"audio_length_samples": np.array([samples], dtype=np.int32)}

    found = _shapes(made)
    speaker = CompleteSpeaker(found, load, config().max_phonemes, config().samples_per_frame)

    def compute() -> Mapping[str, Any]:
        _, bucket = speaker.speak(_utterance(ids))
        return {
            "tried": [dataclasses.astuple(b) for b in tried],
            "bucket": dataclasses.astuple(bucket),
        }

    given = {"shapes": made, "ids": ids, "samples": samples}
    return case(name, given, compute, refused=refused)


def _shapes(made: Sequence[tuple[int, int]]) -> list[Shape]:
    """As they are found in a bundle that has them in the order given."""
    package = dataclasses.replace(
        example().packages[0],
        cut="complete",
        stage=None,
        functions=tuple(functions_at(tokens, frames) for tokens, frames in made),
    )
    return shapes_of(Path("bundle"), dataclasses.replace(example(), packages=(package,)))
