"""Which case every bucket of a pipeline is judged with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kokoro_coreml.parity.trials import Trial, longest
from kokoro_coreml.recipe import FRAME_STAGES, PIPELINE, TOKEN_STAGES, Bucket


@dataclass(frozen=True)
class Work:
    """One bucket to judge, the case to judge it with, and its stages that were not judged yet."""

    trial: Trial
    bucket: Bucket
    stages: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether the case is run up to its audio."""
        return self.stages[-1] == PIPELINE[-1]

    def __str__(self) -> str:
        return f"{self.trial.case.id} on {self.bucket}"


def plan(
    trials: Sequence[Trial], tokens: Sequence[int], frames: Sequence[int]
) -> tuple[list[Work], list[str]]:
    """What to judge every size with, and the functions that no case fits."""
    works: list[Work] = []
    lost: list[str] = []
    for size in frames:
        own = [t for t in trials if t.bucket.frames == size]
        trial = longest(own or [t for t in trials if t.bucket.frames < size])
        if trial is None:
            lost.append(f"frames_{size}")
            continue
        bucket = Bucket(trial.bucket.tokens, size)
        seen = any(work.bucket.tokens == bucket.tokens for work in works)
        works.append(Work(trial, bucket, FRAME_STAGES if seen else PIPELINE))
    for size in tokens:
        if any(work.bucket.tokens == size for work in works):
            continue
        own = [t for t in trials if t.bucket.tokens == size]
        trial = longest(own or [t for t in trials if t.bucket.tokens < size])
        if trial is None:
            lost.append(f"tokens_{size}")
            continue
        works.append(Work(trial, Bucket(size, trial.bucket.frames), TOKEN_STAGES))
    return works, lost
