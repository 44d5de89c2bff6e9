"""Leg 6: the saved package on a Mac, for one choice of compute units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kokoro_coreml.coreml import ComputePlan, CoreMLUnavailableError, CoreMLWorker
from kokoro_coreml.parity.packages import Said, say
from kokoro_coreml.parity.results import DeviceUse, PackageTiming
from kokoro_coreml.parity.trials import Trial
from kokoro_coreml.progress import Reporter
from kokoro_coreml.recipe import Bucket
from kokoro_coreml.synthesis import Shape


@dataclass
class Device:
    """What Core ML said, how long it took, and where it meant to run it.

    Every function runs in a process of its own, which Core ML may bring down; what was said before
    is kept.
    """

    compute_units: str
    compiled: Path
    """Folder for compiled packages, shared by all compute units."""
    reporter: Reporter
    shapes: Mapping[Bucket, Shape]
    said: list[Said] = field(default_factory=list)
    timings: list[PackageTiming] = field(default_factory=list)
    uses: list[DeviceUse] = field(default_factory=list)

    def speak(self, trials: Sequence[Trial]) -> None:
        """Run every trial.

        What Core ML refuses, crashes on or hangs at is kept as the error of its case.

        Raises:
            CoreMLError: a package could not even be loaded; the cause is named.
        """
        units = self.compute_units
        for bucket in dict.fromkeys(trial.bucket for trial in trials):
            shape = self.shapes[bucket]
            mine = [trial for trial in trials if trial.bucket == bucket]
            title = f"coreml = upstream: {shape} on {units}"
            with (
                self.reporter.step(title, len(mine)) as one,
                CoreMLWorker(shape.package, shape.function, units, folder=self.compiled) as backend,
            ):
                for trial in mine:
                    self.said.append(say(backend, trial, units=units))
                    one(1)
                self._time(shape, backend)
                if any(one.error for one in self.said):
                    return  # the process may be gone, and the leg has failed
                try:
                    self._plan(shape, backend.plan())
                except CoreMLUnavailableError as error:  # plans need a later macOS than speech
                    self.reporter.note(f"no device plan: {error}")

    def _time(self, shape: Shape, backend: CoreMLWorker) -> None:
        self.timings.append(timing_of(shape.package.name, backend))

    def _plan(self, shape: Shape, plan: ComputePlan) -> None:
        self.uses += uses_of(shape.package.name, shape.function, self.compute_units, plan)


def timing_of(package: str, backend: CoreMLWorker) -> PackageTiming:
    """Load and run times of one function that Core ML ran."""
    return PackageTiming(
        package=package,
        function=backend.function,
        compute_units=backend.compute_units,
        load_seconds=backend.load_seconds,
        run_seconds=tuple(round(s, 4) for s in backend.run_seconds),
        eager_seconds=(),
    )


def uses_of(package: str, function: str, units: str, plan: ComputePlan) -> list[DeviceUse]:
    """Where Core ML means to run the operations of one function."""
    return [
        DeviceUse(
            package=package,
            function=function,
            compute_units=units,
            device=share.device or "unknown",
            operations=share.operations,
            cost=share.cost_share or 0.0,
        )
        for share in plan.summary()
    ]
