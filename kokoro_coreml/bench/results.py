"""What a benchmark measured: the classes behind `bench.json`, schema version 1.

The file is one object (`data/bench.schema.json` is generated from the classes below). Every number
was measured in the run that wrote it. What was not is null or an empty list, and beside it, or in
`not_measured`, stands why. Times are wall-clock seconds, sizes bytes.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from kokoro_coreml.bench.errors import BenchError
from kokoro_coreml.documents import Document
from kokoro_coreml.tables import Limits, encode

SCHEMA_VERSION = 1
"""Version of the `bench.json` format this code writes and reads."""

DIGITS = 5
"""Significant digits of times and ratios; no clock here is better."""

Text = Annotated[str, Limits(minimum=1)]
Size = Annotated[int, Limits(minimum=0)]
Count = Annotated[int, Limits(minimum=1)]
Verdict = Literal["measured", "failed", "skipped"]


@dataclass(frozen=True)
class Spread:
    """Several measurements of one quantity, in the order they were made."""

    values: Annotated[tuple[float, ...], Limits(minimum=1)]
    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self | None:
        """None where there are no values."""
        if not values:
            return None
        kept = tuple(float(f"{value:.{DIGITS}g}") for value in values)
        middle = float(f"{statistics.median(kept):.{DIGITS}g}")
        return cls(kept, middle, min(kept), max(kept))


@dataclass(frozen=True)
class NotMeasured:
    """A part of the report that is null or empty."""

    what: Text
    reason: Text


@dataclass(frozen=True)
class Machine:
    """Where it was measured."""

    system: Text
    processor: Text
    """Its name, or its kind where the system does not say."""
    cores: int | None
    memory_bytes: int | None
    load_average: float | None
    """Of the last minute, when the run began; above 0 others used the machine, too."""


@dataclass(frozen=True)
class FunctionSize:
    """One function of a package."""

    name: Text
    tokens: int | None
    frames: int | None
    operations: Size
    graph_bytes: Size
    """Of its protobuf, as serialised."""
    weight_bytes: Size
    """Of the values in weight files that it refers to; functions of a package share them."""


@dataclass(frozen=True)
class PackageSize:
    """One `.mlpackage` of the bundle."""

    file: Text
    stage: str | None
    precision: Text
    compute_units: Text
    graph_bytes: Size
    """Of the file with the model's protobuf."""
    weight_bytes: Size
    """Of its weight files."""
    total_bytes: Size
    functions: tuple[FunctionSize, ...]


@dataclass(frozen=True)
class BundleSize:
    """The bundle that was measured."""

    name: Text
    recipe: Text
    weights: Text
    """Source and location of the checkpoint."""
    manifest_sha256: Text
    total_bytes: Size
    """Of all files, the manifest included."""
    packages: tuple[PackageSize, ...]


@dataclass(frozen=True)
class FunctionTime:
    """One function of a package, run by the executor within whole utterances."""

    package: Text
    function: Text
    load_seconds: float | None
    run_seconds: Spread | None
    """Of the rounds that count; the first run of every case is not among them."""
    reason: str | None
    """Why it was not measured."""


@dataclass(frozen=True)
class CaseTime:
    """One utterance, said by one runner."""

    case: Text
    tokens: Count
    audio_seconds: float | None
    """Length of what this runner said."""
    first_seconds: float | None
    """The first time it was said, before the rounds that count; packages may load in it."""
    seconds: Spread | None
    real_time_factor: float | None
    """Seconds of audio per second, at the median."""
    reason: str | None


@dataclass(frozen=True)
class RunnerResult:
    """One of those that said the same utterances in turns."""

    name: Text
    what: Text
    """What it runs, for a reader."""
    verdict: Verdict
    reason: str | None
    """Why it failed or was skipped."""
    load_seconds: float | None
    """For the executor, of all functions it needed together."""
    base_bytes: int | None
    """Peak resident size of its process before it loaded anything: Python and its libraries."""
    loaded_bytes: int | None
    """The same once it had loaded; null for the executor, which loads while it speaks."""
    peak_bytes: int | None
    """The same at the end."""
    cases: tuple[CaseTime, ...]
    real_time_factor: float | None
    """Of all cases together, at their medians."""
    functions: tuple[FunctionTime, ...]
    """Of the bundle's packages; empty for other runners."""


@dataclass(frozen=True)
class Ratio:
    """How many times as fast one runner was as another, by their real-time factors.

    One value per round: both sides of it were measured one behind the other.
    """

    runner: Text
    versus: Text
    case: str | None
    """Null: all cases together."""
    times_as_fast: Spread


@dataclass(frozen=True)
class Utterances:
    """Whole utterances, said in turns."""

    suite: Text
    precision: Text
    """Numeric mode of the executor."""
    order: tuple[Text, ...]
    """Of the runners within the first round; each further round begins with the next of them."""
    runners: tuple[RunnerResult, ...]
    ratios: tuple[Ratio, ...]


@dataclass(frozen=True)
class StepTime:
    """One step of a conversion; all stages and buckets of it together."""

    name: Text
    seconds: float
    peak_bytes: int | None
    """Largest resident size while it ran; null where the system cannot count anew."""


@dataclass(frozen=True)
class ConversionRun:
    """One conversion in a process of its own."""

    name: Literal["cold", "warm"]
    """`cold`: the cache was empty; `warm`: it held what the cold run made."""
    verdict: Verdict
    reason: str | None
    seconds: float | None
    """From the recipe to the finished bundle."""
    steps: tuple[StepTime, ...]
    other_seconds: float | None
    """What no step accounts for: reading, hashing and writing the bundle."""
    peak_bytes: int | None
    bundle_bytes: int | None


@dataclass(frozen=True)
class Conversion:
    """A recipe converted twice."""

    recipe: Text
    checkpoint: Text
    runs: tuple[ConversionRun, ...]
    times_as_fast: float | None
    """Warm against cold."""


@dataclass(frozen=True)
class DeviceFunction:
    """One function of a package, run by Core ML in a process of its own."""

    package: Text
    function: Text
    compute_units: Text
    compile_seconds: float | None
    """Null where another compute unit had it compiled."""
    cold_load_seconds: float
    """The first load; Core ML specialises the function for its devices in it."""
    warm_load_seconds: float | None
    """A later load, of another process."""
    first_seconds: float | None
    """The first run after loading."""
    run_seconds: Spread | None
    """Later ones."""


@dataclass(frozen=True)
class DeviceResult:
    """The bundle through Core ML on one choice of compute units."""

    compute_units: Text
    """`bundle`: those that the bundle asks for, stage by stage."""
    verdict: Verdict
    reason: str | None
    functions: tuple[DeviceFunction, ...]
    cases: tuple[CaseTime, ...]
    real_time_factor: float | None
    base_bytes: int | None = None
    """Peak resident size of the process before it began with these compute units."""
    peak_bytes: int | None = None
    """The same afterwards; null where every function has a process of its own."""


@dataclass(frozen=True)
class BenchReport:
    """The whole of `bench.json`."""

    schema_version: Literal[1]
    project_version: Text
    machine: Machine
    versions: Mapping[str, Text]
    threads: Count
    """Of every runner; Core ML chooses its own."""
    repeat: Count
    """Rounds that count."""
    bundle: BundleSize | None
    utterances: Utterances | None
    devices: tuple[DeviceResult, ...]
    conversion: Conversion | None
    not_measured: tuple[NotMeasured, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, fields in declaration order."""
        result: dict[str, Any] = encode(self)
        return result

    def to_json(self) -> str:
        """The file's text; raises `BenchError` if it would not be readable again."""
        return DOCUMENT.text(self)


DOCUMENT = Document(BenchReport, "bench.json", "benchmark", "benchmark", SCHEMA_VERSION, BenchError)


def load_bench(path: Path) -> BenchReport:
    """Read a `bench.json`.

    Raises:
        BenchError: it cannot be read, is not JSON, or is not of this schema.
    """
    return DOCUMENT.load(path)


def bench_schema() -> dict[str, Any]:
    """JSON Schema; `data/bench.schema.json` holds it as generated."""
    return DOCUMENT.schema()
