"""Leg 6 of the cut `pipeline`: its packages on a Mac, for one choice of compute units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kokoro_coreml.coreml import CoreMLUnavailableError, CoreMLWorker
from kokoro_coreml.manifest import PackageRecord
from kokoro_coreml.parity.devices import timing_of, uses_of
from kokoro_coreml.parity.packages import Said
from kokoro_coreml.parity.results import DeviceUse, PackageTiming
from kokoro_coreml.parity.trials import Trial
from kokoro_coreml.progress import Reporter
from kokoro_coreml.synthesis import Backend
from kokoro_coreml.synthesis.pipeline import Stages
from kokoro_coreml.synthesis.stages import PackagedStages

PINNED = "CPU_ONLY"
"""Stages whose package asks for it stay there: their values do not survive another device."""

Measure = Callable[[Trial, Stages, str | None], Said]


@dataclass
class PipelineDevice:
    """What Core ML said, how long it took, and where it meant to run it.

    Every function runs in a process of its own; one of each stage is alive at a time. The choice of
    compute units is for the stages that may leave the processor.
    """

    compute_units: str
    compiled: Path
    """Folder for compiled packages, shared by all compute units."""
    reporter: Reporter
    folder: Path
    packages: Sequence[PackageRecord]
    measure: Measure
    said: list[Said] = field(default_factory=list)
    timings: list[PackageTiming] = field(default_factory=list)
    uses: list[DeviceUse] = field(default_factory=list)
    _alive: dict[str | None, CoreMLWorker] = field(default_factory=dict)

    def speak(self, trials: Sequence[Trial]) -> None:
        """Run every trial, bucket by bucket; stops at the first that cannot be heard.

        What Core ML refuses, crashes on or hangs at is kept as the error of its case.
        """
        stages = PackagedStages(self.folder, self.packages, self._open)
        units = self.compute_units
        ordered = sorted(trials, key=lambda t: (t.bucket.frames, t.bucket.tokens))
        with self.reporter.step(f"coreml = upstream: the pipeline on {units}", len(trials)) as one:
            try:
                for trial in ordered:
                    self.said.append(self.measure(trial, stages, units))
                    one(1)
                    if self.said[-1].error:
                        return  # a process may be gone, and the leg has failed
                self._end(plan=True)
            finally:
                self._end(plan=False)
        place = {trial.case.id: i for i, trial in enumerate(trials)}
        self.said.sort(key=lambda said: place[said.trial.case.id])

    def _open(self, path: Path, function: str, units: str) -> Backend:
        package = next(p for p in self.packages if self.folder / p.file == path)
        self._close(package.stage, plan=True)
        chosen = PINNED if units == PINNED else self.compute_units
        worker = CoreMLWorker(path, function, chosen, folder=self.compiled)
        self._alive[package.stage] = worker.__enter__()
        return worker

    def _end(self, *, plan: bool) -> None:
        for stage in list(self._alive):
            self._close(stage, plan=plan)

    def _close(self, stage: str | None, *, plan: bool) -> None:
        """Keep a worker's times and plan, and end it."""
        worker = self._alive.pop(stage, None)
        if worker is None:
            return
        try:
            self.timings.append(timing_of(worker.path.name, worker))
            if plan:
                found = worker.plan()
                self.uses += uses_of(worker.path.name, worker.function, worker.compute_units, found)
        except CoreMLUnavailableError as error:  # plans need a later macOS than speech
            self.reporter.note(f"no device plan: {error}")
        finally:
            worker.close()
