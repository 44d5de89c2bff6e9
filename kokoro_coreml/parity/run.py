"""What one verification has found so far; the legs of every cut add to it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.errors import KokoroError
from kokoro_coreml.executor.precision import Finding
from kokoro_coreml.manifest import Manifest
from kokoro_coreml.parity import location
from kokoro_coreml.parity.judge import Judge, judged, waived
from kokoro_coreml.parity.modules import LegResult
from kokoro_coreml.parity.packages import Said
from kokoro_coreml.parity.reference import Noise, Reference
from kokoro_coreml.parity.request import Request
from kokoro_coreml.parity.results import (
    DeviceUse,
    Leg,
    OperationError,
    PackageTiming,
    RangeFinding,
    StageResult,
    Suspect,
)
from kokoro_coreml.parity.suite import Suite
from kokoro_coreml.parity.trials import Trial
from kokoro_coreml.progress import Reporter
from kokoro_coreml.recipe import Bucket

LARGEST_SHOWN = 1e30
"""Infinity in a finding, which JSON has no number for."""


@dataclass
class Run:
    """One verification; every leg adds to the lists below."""

    request: Request
    manifest: Manifest
    suite: Suite
    checkpoint: Checkpoint
    reference: Reference
    reporter: Reporter
    judge: Judge
    legs: list[Leg] = field(default_factory=list)
    stages: list[StageResult] = field(default_factory=list)
    operations: list[OperationError] = field(default_factory=list)
    operations_title: str = ""
    suspects: list[Suspect] = field(default_factory=list)
    timings: list[PackageTiming] = field(default_factory=list)
    devices: list[DeviceUse] = field(default_factory=list)
    findings: list[RangeFinding] = field(default_factory=list)
    rounded: list[Suspect] | None = None
    """Operations that rounding harms most, if any was done; suspects if the leg with it fails."""

    @contextmanager
    def attempt(self, *names: str) -> Iterator[None]:
        """An error inside fails the legs it belongs to, and the next ones still run."""
        began = time.perf_counter()
        try:
            yield
        except Exception as error:
            for name in names:
                seconds = time.perf_counter() - began
                self.legs.append(judged(name, [], seconds, error=told(error)))
                self.suspects.append(Suspect(name, "raised an error", None, told(error)))

    @contextmanager
    def locating(self, leg: str, where: str = "the saved package") -> Iterator[None]:
        """A package that cannot even be run is located by the error it gives."""
        try:
            yield
        except Exception as error:
            self.suspects.append(Suspect(leg, where, None, told(error)))

    def left_out(self, name: str) -> bool:
        """Whether a leg is waived; it is then named in the report."""
        if name not in self.request.waive:
            return False
        if not any(leg.name == name for leg in self.legs):
            self.legs.append(waived(name))
        return True

    def failed(self, name: str) -> bool:
        """Whether a leg failed so far."""
        return any(leg.name == name and leg.verdict == "failed" for leg in self.legs)

    def add(self, found: LegResult, began: float) -> None:
        """Keep a leg with its tables; `began` is when its first run was started."""
        seconds = round(time.perf_counter() - began, 3)
        self.legs.append(replace(found.leg, seconds=seconds))
        self.stages += found.stages
        self.suspects += location.stage_faults(found.stages)

    def note(
        self, trial: Trial, finding: Finding, module: str | None, *, where: str | None = None
    ) -> None:
        """Keep values that a device may not hold.

        Args:
            trial: that was said.
            finding: what was seen.
            module: of the operation.
            where: stage and function, of a package of several.
        """
        operation = f"{where}: {finding.operation}" if where else str(finding.operation)
        self.findings.append(
            RangeFinding(
                finding.kind,
                trial.case.id,
                operation,
                module,
                finding.count,
                finding.elements,
                min(finding.largest, LARGEST_SHOWN) if finding.kind != "nan" else 0.0,
            )
        )


class DeviceRun(Protocol):
    """What Core ML said on one choice of compute units."""

    said: list[Said]
    timings: list[PackageTiming]
    uses: list[DeviceUse]

    def speak(self, trials: Sequence[Trial]) -> None:
        """Run every trial; raises CoreMLError if a package cannot be loaded."""
        ...


class Cut(Protocol):
    """The legs of one cut of the network."""

    @property
    def buckets(self) -> Sequence[Bucket]:
        """Every shape the bundle can be run at, from the quickest to the slowest."""
        ...

    @property
    def half(self) -> bool:
        """Whether half precision is declared anywhere and is rounded to."""
        ...

    @property
    def staged(self) -> bool:
        """Whether the network is cut into stages that can be judged one by one."""
        ...

    def noise(self, seed: int) -> Noise:
        """Upstream's noise that is the same as the bundle's of a seed."""
        ...

    def double(self) -> Reference | None:
        """Upstream in double precision, for a cut that is judged by upstream's own rounding."""
        ...

    def judge_modules(self, trials: Sequence[Trial]) -> None:
        """Legs 1 to 4: rewrite, padding, trace, and the saved package in float32."""
        ...

    def parts(self, case: str) -> dict[str, str]:
        """How the operations of each package begin in a finding, and its name in a check."""
        ...

    def say(self, trials: Sequence[Trial]) -> list[Said]:
        """Leg 5: what the package says to every trial at the precision asked for."""
        ...

    def device(self, units: str, compiled: Path, reporter: Reporter) -> DeviceRun:
        """Leg 6: the package on a Mac."""
        ...

    def replay(self, trial: Trial, values: Mapping[str, np.ndarray], units: str) -> Said:
        """Leg 6: what a package gave on a Mac, measured beside upstream; an error is kept."""
        ...


def told(error: Exception) -> str:
    """An error in a report: our own as they are, others with their class."""
    return str(error) if isinstance(error, KokoroError) else f"{type(error).__name__}: {error}"
