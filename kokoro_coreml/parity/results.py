"""What a verification found: the classes behind `parity.json`, schema version 1.

The file is one object (`data/parity.schema.json` is generated from the classes below). Numbers are
finite: an infinite SNR is written as `CAP`, NaN as `-CAP` where more is better and `CAP` where less
is better, so that it can never pass. Every metric's name ends in its unit or says that it counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from kokoro_coreml.documents import Document
from kokoro_coreml.errors import ParityError
from kokoro_coreml.tables import Limits, encode

SCHEMA_VERSION = 1
"""Version of the `parity.json` format this code writes and reads."""

CAP = 999.0
"""Stands for infinity, which JSON has no number for."""

Text = Annotated[str, Limits(minimum=1)]
Verdict = Literal["passed", "failed", "not run", "waived"]
Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Threshold:
    """A named bound, and why it is there."""

    metric: Text
    leg: Text
    bound: float
    better: Better
    """`higher`: the value must be at least the bound; `lower`: at most."""
    reason: Text

    def holds(self, value: float) -> bool:
        """Whether a value is within the bound; NaN is not."""
        return value >= self.bound if self.better == "higher" else value <= self.bound


@dataclass(frozen=True)
class Check:
    """One measured number against its threshold."""

    metric: Text
    where: Text
    """The case, stage or bucket it was measured on."""
    value: float
    bound: float
    better: Better
    verdict: Literal["passed", "failed"]


@dataclass(frozen=True)
class Leg:
    """One leg of parity: two things that must be equal, and what was measured."""

    name: Text
    """`rewrite = upstream`, `padded = exact`, ..."""
    verdict: Verdict
    checks: tuple[Check, ...]
    seconds: float
    detail: str | None = None
    """Why it failed, was not run, or was waived."""


@dataclass(frozen=True)
class StageResult:
    """One module against upstream's, both fed the same inputs."""

    name: Text
    """As `parity.stages` names it: `albert`, `decoder`, `source`, ..."""
    leg: Text
    case: Text
    snr_db: float
    bound: float
    verdict: Literal["passed", "failed"]


@dataclass(frozen=True)
class CaseResult:
    """One utterance, said by upstream and by the saved package under the same noise."""

    name: Text
    text: str
    phonemes: Text
    language: Text
    voice: Text
    speed: float
    bucket: Text
    """`tokens x frames` it was said at."""
    tokens: int
    """Used of the bucket, boundary tokens included."""
    frames: int
    """Used of the bucket."""
    seconds: float
    """Length of upstream's audio."""
    metrics: Mapping[str, float]
    yardstick: Mapping[str, float]
    """The same metrics between two runs of upstream under different noise."""
    failed: tuple[str, ...]
    """Metrics out of bounds; empty where the case passed."""
    words_reference: str | None
    """What speech recognition heard in upstream's audio; null where it was not asked."""
    words_candidate: str | None


@dataclass(frozen=True)
class OperationError:
    """How far one operation of the package is from its reference."""

    position: int
    type: Text
    name: Text
    module: str | None
    """Path and class in `kokoro_coreml.modules`, or null where none is known."""
    declared: Text
    """Declared type of the result, such as `fp16[1, 512, 800]`."""
    snr_db: float
    """Of the result, with all error made so far."""
    local_snr_db: float
    """Of the result when the operation is fed the reference's own inputs."""


@dataclass(frozen=True)
class Suspect:
    """Where a failure was located."""

    leg: Text
    where: Text
    """A stage, a module's path, or a case."""
    operation: str | None
    """The first bad operation, as the executor names it."""
    evidence: Text


@dataclass(frozen=True)
class BundleFacts:
    """What was verified."""

    name: Text
    recipe: Text
    weights: Text
    """Source and location of the checkpoint."""
    manifest_sha256: Text


@dataclass(frozen=True)
class PackageTiming:
    """Of one package function; seconds of this run on this machine."""

    package: Text
    function: Text
    compute_units: Text
    load_seconds: float
    run_seconds: tuple[float, ...]
    eager_seconds: tuple[float, ...]
    """The rewrite in PyTorch with the same inputs; empty where it was not run."""


@dataclass(frozen=True)
class DeviceUse:
    """What Core ML means to run on one device; only a Mac can say."""

    package: Text
    function: Text
    compute_units: Text
    device: Text
    operations: int
    cost: float
    """Estimated share of the whole, 0 to 1."""


@dataclass(frozen=True)
class RangeFinding:
    """Values of one operation that a device may not hold; from the mode `stress`."""

    kind: Literal["accumulator", "overflow", "nan", "subnormal"]
    case: Text
    operation: Text
    """As the executor names it."""
    module: str | None
    count: int
    elements: int
    largest: float


@dataclass(frozen=True)
class Report:
    """The whole of `parity.json`."""

    schema_version: Literal[1]
    project_version: Text
    verdict: Literal["passed", "failed"]
    bundle: BundleFacts
    runtime: Literal["executor", "coreml"]
    precision: Text
    compute_units: tuple[Text, ...]
    suite: Text
    versions: Mapping[str, Text]
    machine: Text
    """Operating system and processor kind."""
    thresholds: tuple[Threshold, ...]
    legs: tuple[Leg, ...]
    stages: tuple[StageResult, ...]
    cases: tuple[CaseResult, ...]
    operations: tuple[OperationError, ...]
    """In program order; empty where none were compared."""
    operations_title: str
    """What `operations` compares, for a reader."""
    suspects: tuple[Suspect, ...]
    timings: tuple[PackageTiming, ...]
    devices: tuple[DeviceUse, ...] = ()
    """Empty where Core ML was not asked."""
    findings: tuple[RangeFinding, ...] = ()
    """In program order, case by case; empty unless the precision was `stress`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, fields in declaration order."""
        result: dict[str, Any] = encode(self)
        return result

    def to_json(self) -> str:
        """The file's text; raises `ParityError` if it would not be readable again."""
        return DOCUMENT.text(self)


DOCUMENT = Document(Report, "parity.json", "report", "parity report", SCHEMA_VERSION, ParityError)


def load_report(path: Path) -> Report:
    """Read a `parity.json`.

    Raises:
        ParityError: it cannot be read, is not JSON, or is not of this schema.
    """
    return DOCUMENT.load(path)


def report_schema() -> dict[str, Any]:
    """JSON Schema; `data/parity.schema.json` holds it as generated."""
    return DOCUMENT.schema()


def finite(value: float, better: Better) -> float:
    """A number JSON can hold, that fails whatever threshold NaN or infinity would fail."""
    if math.isnan(value):
        return -CAP if better == "higher" else CAP
    return math.copysign(CAP, value) if math.isinf(value) else value
