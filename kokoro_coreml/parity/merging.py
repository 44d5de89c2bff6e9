"""Leg 6 from a Mac's result: what `kokoro-harness verify` measured there, judged here.

The Mac gives arrays and numbers, never a verdict: its audio is measured beside upstream by the same
code and the same thresholds as `--runtime coreml`. What is missing fails.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kokoro_coreml.errors import ParityError
from kokoro_coreml.manifest import PackageRecord
from kokoro_coreml.parity.harness import (
    APPLE,
    CaseSaid,
    HarnessReport,
    PartSaid,
    StageMeasure,
    UnitResult,
    load_harness,
)
from kokoro_coreml.parity.judge import Judge, judged
from kokoro_coreml.parity.packages import Said, against_upstream, unheard
from kokoro_coreml.parity.recorded import RecordedPart, Recording, Recordings, read_recordings
from kokoro_coreml.parity.results import Check, Leg, StageResult
from kokoro_coreml.parity.run import Cut
from kokoro_coreml.parity.thresholds import COREML_UPSTREAM, PACKAGE_REWRITE
from kokoro_coreml.parity.trials import Trial


@dataclass(frozen=True)
class Merged:
    """Results of Macs, and the recordings they are of."""

    files: tuple[tuple[str, HarnessReport], ...]
    """Name of each file, and what it holds."""
    recordings: Recordings

    def unit(self, units: str) -> tuple[HarnessReport, UnitResult] | None:
        """What was measured on a choice of compute units; None where nothing was."""
        for _, report in self.files:
            for unit in report.units:
                if unit.compute_units == units:
                    return report, unit
        return None

    def provenance(self, report: HarnessReport) -> str:
        """Where a result comes from, for a reader."""
        name = next(name for name, one in self.files if one is report)
        machine = report.machine
        return (
            f"from {name}, kokoro-harness {report.harness_version} on {machine.model} "
            f"({machine.processor}), {machine.system} {machine.system_version}"
        )


def read_merged(files: Sequence[Path], folder: Path, manifest_sha256: str) -> Merged:
    """Read results of Macs and hold them to the bundle and the recordings.

    Args:
        files: results.
        folder: of the recordings.
        manifest_sha256: of the bundle that is verified.

    Raises:
        ParityError: a file is none, or is of another bundle, other recordings or no Core ML, or two
            of them are of the same compute units.
        GoldensError: the folder holds no recordings.
    """
    recordings = read_recordings(folder)
    if recordings.manifest_sha256 != manifest_sha256:
        raise ParityError(
            f"'{folder}' holds recordings of another bundle (manifest "
            f"{recordings.manifest_sha256[:12]}, the bundle's is {manifest_sha256[:12]}); record "
            "this one with `kokoro-coreml goldens BUNDLE --out DIR`"
        )
    found = tuple((path.name, load_harness(path)) for path in files)
    for name, report in found:
        _belongs(name, report, recordings)
    units = [unit.compute_units for _, report in found for unit in report.units]
    twice = sorted({unit for unit in units if units.count(unit) > 1})
    if twice:
        raise ParityError(f"the compute units {twice[0]} stand in two of the files to merge")
    return Merged(found, recordings)


def _belongs(name: str, report: HarnessReport, recordings: Recordings) -> None:
    for what, found, expected in (
        ("another bundle: its manifest", report.bundle.manifest_sha256, recordings.manifest_sha256),
        (
            "other recordings: their index",
            report.recordings.index_sha256,
            recordings.index_sha256,
        ),
    ):
        if found != expected:
            raise ParityError(
                f"{name} is of {what} has the SHA-256 {found[:12]}, expected {expected[:12]}; run "
                "`kokoro-harness verify` again with the same bundle and recordings"
            )
    if report.runtime != "coreml" or report.machine.system not in APPLE:
        raise ParityError(
            f"{name} was made on {report.machine.system} with the runtime '{report.runtime}', "
            "which is no Core ML; run `kokoro-harness verify` on a Mac"
        )


@dataclass
class Merging:
    """Judges merged results."""

    merged: Merged
    cut: Cut
    judge: Judge
    packages: Sequence[PackageRecord]

    def said(self, unit: UnitResult, report: HarnessReport, trials: Sequence[Trial]) -> list[Said]:
        """What a Mac said to every trial, measured beside upstream."""
        cases = {case.id: case for case in unit.cases}
        found = []
        by_name = {trial.case.id: trial for trial in trials}
        for recording in self.merged.recordings.recordings:
            for part in range(len(recording.parts)):
                trial = by_name[recording.case(part).id]
                try:
                    values = self._values(report, cases.get(recording.id), recording, part)
                except ParityError as error:
                    said = unheard(trial, unit.compute_units, str(error))
                else:
                    said = self.cut.replay(trial, values, unit.compute_units)
                found.append(said)
        return found

    def _values(
        self, report: HarnessReport, case: CaseSaid | None, recording: Recording, part: int
    ) -> dict[str, np.ndarray]:
        if case is None:
            raise ParityError("the result lacks it")
        if case.error is not None:
            raise ParityError(case.error)
        if len(case.parts) != len(recording.parts):
            raise ParityError(
                f"was said in {len(case.parts)} parts, recorded in {len(recording.parts)}"
            )
        said, recorded = case.parts[part], recording.parts[part]
        if said.phonemes != recorded.phonemes or _bucket(said) != _bucket(recorded):
            raise ParityError(
                f"'{said.phonemes}' was said at {_bucket(said)}, recorded '{recorded.phonemes}' at "
                f"{_bucket(recorded)}"
            )
        return {name: report.array(digest) for name, digest in said.values.items()}

    def leg(self, unit: UnitResult, report: HarnessReport, said: Sequence[Said]) -> Leg:
        """The speech on one choice of compute units against upstream."""
        detail = f"{unit.compute_units} {self.merged.provenance(report)}"
        seconds = math.fsum(case.seconds or 0.0 for case in unit.cases)
        return against_upstream(self.judge, COREML_UPSTREAM, said, seconds, detail)

    def stages(self, unit: UnitResult) -> tuple[Leg, tuple[StageResult, ...]]:
        """Every recorded run of a stage, on the recorded inputs."""
        checks: list[Check] = []
        results: list[StageResult] = []
        errors: list[str] = []
        known = {(s.case, s.part, s.run): s for s in unit.stages}
        for case, part, run, package, function in self._expected():
            where = f"{case}, part {part}, run {run} on {unit.compute_units}"
            found = known.pop((case, part, run), None)
            snr = _worst(found, package, function)
            if found is None:
                errors.append(f"{package.file}:{function} was not run in {where}")
            elif found.error is not None:
                errors.append(f"{package.file}:{function} in {where}: {found.error}")
            half = package.precision == "float16"
            metric = "half_rewrite_snr_db" if half else "rewrite_snr_db"
            name = package.stage or package.file
            result = self.judge.stage(PACKAGE_REWRITE, name, where, snr, metric)
            results.append(replace(result, leg=COREML_UPSTREAM))
            metrics = {metric: snr}
            checks += self.judge.checks(
                PACKAGE_REWRITE, f"{name} in {where}", metrics, only=[metric]
            )
        errors += [f"a run that was not recorded: {key}" for key in known]
        error = "; ".join(errors) or None
        return judged(COREML_UPSTREAM, checks, 0.0, stages=results, error=error), tuple(results)

    def functions(self) -> Leg | None:
        """The portable functions on the Macs; None where all gave Python's numbers, or no file did
        hold any."""
        wrong = [
            f"{name}: {failure}"
            for name, report in self.merged.files
            for function in report.functions
            for failure in function.failures
        ]
        return judged(COREML_UPSTREAM, [], 0.0, error="; ".join(wrong)) if wrong else None

    def _expected(self) -> Iterator[tuple[str, int, int, PackageRecord, str]]:
        records = {package.file: package for package in self.packages}
        for recording in self.merged.recordings.recordings:
            for part, said in enumerate(recording.parts):
                for place, run in enumerate(said.runs):
                    package = records.get(run.package)
                    if package is None:
                        raise ParityError(f"the bundle has no package '{run.package}'")
                    yield recording.id, part, place, package, run.function


def _worst(found: StageMeasure | None, package: PackageRecord, function: str) -> float:
    """The lowest SNR of a run's outputs; NaN where one is missing, or it was another run."""
    if found is None or found.error is not None:
        return math.nan
    outputs = next((f.outputs for f in package.functions if f.name == function), ())
    expected = {port.name for port in outputs}
    if (found.package, found.function) != (package.file, function):
        return math.nan
    if not expected or found.snr_db.keys() != expected:
        return math.nan
    return min(found.snr_db.values())


def _bucket(part: PartSaid | RecordedPart) -> str:
    return f"{part.tokens} x {part.frames}"
