"""Random manifests that are valid."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from kokoro_coreml.manifest import (
    BucketRecord,
    CheckpointRecord,
    FileRecord,
    FunctionRecord,
    LegRecord,
    Manifest,
    NoiseRecord,
    PackageRecord,
    ParityRecord,
    RecipeRecord,
    SampleRecord,
    TensorRecord,
    VoiceRecord,
)

T = TypeVar("T")

LARGEST = 2**31 - 1

_PIECES = (
    *"abcXYZ019_-. ",
    "é",
    "e\N{COMBINING ACUTE ACCENT}",
    "語",
    "\N{SPEAKING HEAD IN SILHOUETTE}",
    "\N{REGIONAL INDICATOR SYMBOL LETTER D}",
    "\N{ZERO WIDTH JOINER}",
    "\N{NO-BREAK SPACE}",
)

_SYMBOLS = ("/", "\\", '"', "\n", "\t", "\0", "\x7f", "\N{LINE SEPARATOR}", ":", "'")
"""For texts alone, not for paths."""


def random_manifest(rng: random.Random) -> Manifest:
    """A valid manifest, small, of unusual texts and numbers.

    Args:
        rng: random numbers; equal ones give equal manifests.
    """
    return _Maker(rng).manifest()


class _Maker:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def manifest(self) -> Manifest:
        buckets = self.several(self.bucket, 1, 3)
        packages = self.distinct(lambda: self.package(buckets), "file", 1)
        voices = self.distinct(self.voice, "name", 0)
        sample = self.rng.choice((None, self.sample()))
        used = ["config.json", *(voice.file for voice in voices)]
        used += [f"{package.file}/{self.name()}" for package in packages]
        used += [sample.file] if sample else []
        return Manifest(
            schema_version=1,
            project_version=self.text(),
            recipe=RecipeRecord(self.text(), self.table(self.anything)),
            checkpoint=self.checkpoint(),
            sample_rate=self.size(),
            samples_per_frame=self.size(),
            max_phonemes=self.size(),
            vocabulary="config.json",
            packages=packages,
            buckets=buckets,
            noise=NoiseRecord(self.text(), self.rng.randrange(2**63)),
            voices=voices,
            sample=sample,
            tools=self.table(self.text),
            parity=ParityRecord(self.verdict(), self.text(), self.distinct(self.leg, "name", 0)),
            files={path: self.file() for path in used},
        )

    def several(self, make: Callable[[], T], least: int, most: int = 2) -> tuple[T, ...]:
        return tuple(make() for _ in range(self.rng.randint(least, most)))

    def distinct(self, make: Callable[[], T], key: str, least: int) -> tuple[T, ...]:
        made = {getattr(item, key): item for item in self.several(make, least)}
        return tuple(made.values())

    def table(self, make: Callable[[], T]) -> dict[str, T]:
        return {self.text(): make() for _ in range(self.rng.randint(0, 2))}

    def size(self) -> int:
        return self.rng.choice((1, self.rng.randint(1, 1_000), LARGEST))

    def number(self) -> float:
        numbers = (0.0, -0.0, 5e-324, 1.7976931348623157e308, 1e22, self.rng.uniform(-100, 100))
        return self.rng.choice(numbers)

    def name(self) -> str:
        """One part of a path."""
        text = "".join(self.rng.choice(_PIECES) for _ in range(self.rng.randint(1, 6)))
        return f"{text}x" if text in (".", "..") else text

    def text(self) -> str:
        pieces = (*_PIECES, *_SYMBOLS)
        return "".join(self.rng.choice(pieces) for _ in range(self.rng.randint(1, 6)))

    def path(self) -> str:
        return "/".join(self.several(self.name, 1, 3))

    def digest(self) -> str:
        return f"{self.rng.getrandbits(256):064x}"

    def verdict(self) -> Any:
        return self.rng.choice(("passed", "failed", "not run"))

    def dtype(self) -> Any:
        return self.rng.choice(("float32", "float16", "int32"))

    def anything(self) -> Any:
        """A value of no fixed type."""
        values: tuple[Any, ...] = (None, True, 10**30, self.number(), self.text(), [], {}, [[{}]])
        return self.rng.choice(values)

    def bucket(self) -> BucketRecord:
        both = (self.size(), self.size())
        return BucketRecord(*self.rng.choice((both, (both[0], None), (None, both[1]))))

    def tensors(self) -> tuple[tuple[TensorRecord, ...], tuple[TensorRecord, ...]]:
        """Inputs and outputs, at least one of each."""

        def make() -> TensorRecord:
            return TensorRecord(self.text(), self.dtype(), self.several(self.size, 0, 3))

        made: tuple[TensorRecord, ...] = ()
        while len(made) < 2:
            made = self.distinct(make, "name", 2)
        return made[:1], made[1:]

    def function(self, buckets: Sequence[BucketRecord]) -> FunctionRecord:
        return FunctionRecord(self.text(), self.rng.choice(buckets), *self.tensors())

    def package(self, buckets: Sequence[BucketRecord]) -> PackageRecord:
        units: Any = self.rng.choice(("ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"))
        return PackageRecord(
            self.path(),
            self.text(),
            self.rng.choice((None, "", self.text())),
            self.distinct(lambda: self.function(buckets), "name", 1),
            self.text(),
            self.text(),
            units,
        )

    def voice(self) -> VoiceRecord:
        return VoiceRecord(
            self.text(), self.path(), self.size(), self.size(), self.dtype(), self.text()
        )

    def sample(self) -> SampleRecord:
        return SampleRecord(self.path(), self.text(), self.text(), self.text(), self.number())

    def checkpoint(self) -> CheckpointRecord:
        return CheckpointRecord(
            self.text(),
            self.text(),
            self.rng.choice((None, "", self.text())),
            self.table(self.digest),
            self.text(),
            self.rng.choice((None, self.text())),
            self.several(self.text, 0),
        )

    def leg(self) -> LegRecord:
        detail = self.rng.choice((None, "", self.text()))
        numbers = self.table(self.number), self.table(self.number)
        return LegRecord(self.text(), self.verdict(), *numbers, detail)

    def file(self) -> FileRecord:
        return FileRecord(self.digest(), self.rng.choice((0, 2**63 - 1, self.size())))
