"""A Mac's result made of recordings, as if Core ML gave what the executor gave."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kokoro_coreml.goldens.files import INDEX_NAME
from kokoro_coreml.goldens.tensors import values_of
from kokoro_coreml.parity.harness import (
    CaseSaid,
    FunctionCheck,
    HarnessBundle,
    HarnessMachine,
    HarnessRecordings,
    HarnessReport,
    PartSaid,
    StageMeasure,
    UnitResult,
    held,
)
from kokoro_coreml.parity.recorded import read_recordings
from kokoro_coreml.parity.results import CAP, DeviceUse, PackageTiming

UNITS = ("CPU_ONLY", "CPU_AND_NE")

NEEDED = ("pred_dur", "f0", "curves", "levels", "asr", "har", "audio", "audio_length_samples")


def mac_report(folder: Path, units: tuple[str, ...] = UNITS) -> HarnessReport:
    """The result of a Mac that computes as the executor does.

    Args:
        folder: of the recordings, whose arrays are whole.
        units: compute units it was run on.
    """
    recordings = read_recordings(folder)
    raw = {r.id: json.loads((folder / f"{r.id}.json").read_text()) for r in recordings.recordings}
    arrays: dict[str, Any] = {}

    def part(record: Mapping[str, Any]) -> PartSaid:
        outputs = [o for run in record["runs"] for o in run["outputs"] if o["name"] in NEEDED]
        found = {o["name"]: held(values_of(o)) for o in outputs}
        arrays.update(found.values())
        values = {name: digest for name, (digest, _) in found.items()}
        return PartSaid(record["phonemes"], record["tokens"], record["frames"], values)

    cases = tuple(
        CaseSaid(name, {"audio_snr_db": CAP}, tuple(map(part, one["parts"])), 0.5, None)
        for name, one in raw.items()
    )
    stages = tuple(
        StageMeasure(
            name,
            place,
            number,
            run["package"],
            run["function"],
            {output["name"]: CAP for output in run["outputs"]},
            0.01,
            None,
        )
        for name, one in raw.items()
        for place, spoken in enumerate(one["parts"])
        for number, run in enumerate(spoken["runs"])
    )
    return HarnessReport(
        schema_version=1,
        harness_version="0.1.0",
        runtime="coreml",
        machine=HarnessMachine("macOS", "15.1", "Mac14,3", "Apple M2", 8, 1 << 34),
        versions={"swift": "6.0"},
        bundle=HarnessBundle("bundle", "tiny", recordings.manifest_sha256),
        recordings=HarnessRecordings(
            hashlib.sha256((folder / INDEX_NAME).read_bytes()).hexdigest()
        ),
        functions=(FunctionCheck("noise", 20, ()),),
        units=tuple(UnitResult(unit, stages, cases, *_measured(stages, unit)) for unit in units),
        arrays=arrays,
    )


def with_unit(report: HarnessReport, **changes: Any) -> HarnessReport:
    """The report with fields of its first unit replaced."""
    return replace(report, units=(replace(report.units[0], **changes), *report.units[1:]))


def with_case(report: HarnessReport, **changes: Any) -> HarnessReport:
    """The report with fields of its first unit's first case replaced."""
    first, *others = report.units[0].cases
    return with_unit(report, cases=(replace(first, **changes), *others))


def with_stage(report: HarnessReport, **changes: Any) -> HarnessReport:
    """The report with fields of its first unit's last run replaced."""
    *others, last = report.units[0].stages
    return with_unit(report, stages=(*others, replace(last, **changes)))


def with_value(report: HarnessReport, name: str, values: np.ndarray | None) -> HarnessReport:
    """The report with a value of its first unit's first case replaced, or left out."""
    case = report.units[0].cases[0]
    part = case.parts[0]
    if values is None:
        kept = {key: digest for key, digest in part.values.items() if key != name}
        return with_case(report, parts=(replace(part, values=kept), *case.parts[1:]))
    digest, array = held(values)
    changed = replace(part, values={**part.values, name: digest})
    found = with_case(report, parts=(changed, *case.parts[1:]))
    return replace(found, arrays={**report.arrays, digest: array})


def value(report: HarnessReport, name: str) -> np.ndarray:
    """A value of the first unit's first case."""
    return report.array(report.units[0].cases[0].parts[0].values[name]).copy()


def _measured(
    stages: tuple[StageMeasure, ...], unit: str
) -> tuple[tuple[PackageTiming, ...], tuple[DeviceUse, ...]]:
    functions = dict.fromkeys((s.package, s.function) for s in stages)
    timings = tuple(PackageTiming(p, f, unit, 0.2, (0.01, 0.02), ()) for p, f in functions)
    return timings, tuple(DeviceUse(p, f, unit, "CPU", 100, 1.0) for p, f in functions)
