"""What an inspection finds, as data; schema version 1.

`data/placement.schema.json` is generated from the classes below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from kokoro_coreml.coreml.plan import Device
from kokoro_coreml.placement.rules import Severity, Units
from kokoro_coreml.tables import Limits, encode, json_schema

SCHEMA_VERSION = 1
"""Version of the inspection format this code writes."""

Text = Annotated[str, Limits(minimum=1)]
Count = Annotated[int, Limits(minimum=0)]
Predicted = Literal["CPU", "GPU", "NeuralEngine", "unknown"]


@dataclass(frozen=True)
class Result:
    """One result of an operation; the shape is null where it is no tensor, a size where open."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class PlacedOperation:
    """One operation that is not a constant."""

    position: Count
    """Index in the function, constants and nested blocks included, as in a compute plan."""
    type: Text
    name: str
    inside: str | None
    """For an operation of a nested block: the operation that holds it, and the block's index."""
    results: tuple[Result, ...]
    largest_axis: int | None
    """Of operands and results that are no constants."""
    multiply_adds: int | None
    """Null where the operator is not counted, or a shape is open."""
    operations: int | None
    """Two for each multiply-add, and all other arithmetic."""
    weight_bytes: Count
    """Stored bytes of the constants it reads."""
    input_bytes: int | None
    output_bytes: int | None
    predicted: Predicted
    devices: Mapping[str, Predicted]
    """By generation, where generations differ; else empty."""
    rules: tuple[str, ...]
    """That decided; empty where no source covers the operation."""
    reason: Text


@dataclass(frozen=True)
class Finding:
    """Something a package holds that its compute units cannot or must not run."""

    severity: Severity
    rule: Text
    function: Text
    position: int | None
    """Null for the function as a whole, its inputs and its outputs."""
    type: Text
    name: str
    found: Text
    expected: Text
    generations: tuple[str, ...]
    """Of those inspected, the ones it holds for; empty where they play no part."""
    systems: str | None
    confidence: Text
    sources: tuple[str, ...]

    def __str__(self) -> str:
        where = self.type if self.position is None else f"operation {self.position}, {self.type}"
        chips = f" ({', '.join(self.generations)})" if self.generations else ""
        return (
            f"{self.severity}: {self.rule}{chips}: {self.function}: {where} '{self.name}': "
            f"{self.found}; {self.expected} [{', '.join(self.sources)}]"
        )


@dataclass(frozen=True)
class DeviceTotal:
    """What one device is predicted to get."""

    device: Predicted
    operations: Count
    multiply_adds: Count
    share: float | None
    """Of all counted arithmetic, from 0 to 1; null where none is counted."""


@dataclass(frozen=True)
class Summary:
    """One function in a few numbers."""

    operations: Count
    devices: tuple[DeviceTotal, ...]
    switches: Count
    """Times, at least, that operations in a row are predicted for different devices.

    On every generation; those with an unknown device are passed over."""
    largest_axis: int | None
    largest_axis_at: str | None
    """The operation that has it."""
    multiply_adds: Count
    arithmetic: Count
    """Floating-point operations: two for each multiply-add, and all other arithmetic."""
    uncounted: Count
    """Operations whose arithmetic is not counted."""
    weight_bytes: Count
    """Of all constants, each stored blob once."""
    activation_bytes: Count
    """Written by all operations whose shapes are known."""
    seconds: float | None
    """Of audio that one call gives."""
    multiply_adds_per_second: float | None
    arithmetic_per_second: float | None
    bytes_per_second: float | None
    """Weights, operands and results, per second of audio."""
    findings: Mapping[Severity, Count]


@dataclass(frozen=True)
class Disagreement:
    """An operation whose prediction and plan differ."""

    position: Count
    type: Text
    name: str
    predicted: Predicted
    planned: Device
    supported: tuple[Device, ...]


@dataclass(frozen=True)
class Agreement:
    """Prediction beside a compute plan.

    A plan's device is what Core ML prefers after weighing costs; `supported` is what it could use,
    which is the nearer thing to a rule.
    """

    macos: Text
    processor: Text
    compared: Count
    """Operations of both that have a predicted and a planned device."""
    agreed: Count
    """Predicted and preferred device are the same."""
    admissible: Count
    """The Neural Engine was predicted and is supported, or the CPU and it is not."""
    unpredicted: Count
    """Planned operations with an unknown prediction."""
    unplanned: Count
    """Predicted operations that the plan does not have, or says nothing about."""
    table: Mapping[str, Count]
    """Compared operations by `predicted > preferred`."""
    disagreements: tuple[Disagreement, ...]


@dataclass(frozen=True)
class FunctionInspection:
    """One function."""

    function: Text
    compute_units: Units
    generations: tuple[str, ...]
    summary: Summary
    findings: tuple[Finding, ...]
    operations: tuple[PlacedOperation, ...]
    agreement: Agreement | None = None


@dataclass(frozen=True)
class PackageInspection:
    """One package."""

    package: Text
    model_sha256: Annotated[str, Limits(pattern=r"[0-9a-f]{64}", meaning="a SHA-256")]
    functions: tuple[FunctionInspection, ...]


@dataclass(frozen=True)
class RuleRecord:
    """A rule that decided or found something."""

    found: Text
    confidence: Text
    generations: tuple[str, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """All that was inspected; `rules` holds those that operations and findings name."""

    schema_version: Literal[1]
    project_version: Text
    packages: tuple[PackageInspection, ...]
    rules: Mapping[str, RuleRecord]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings of all functions."""
        return tuple(f for p in self.packages for g in p.functions for f in g.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, fields in declaration order, tables sorted by key."""
        result: dict[str, Any] = encode(self)
        return result


def inspection_schema() -> dict[str, Any]:
    """JSON Schema of an inspection; `data/placement.schema.json` holds it as generated."""
    header = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"kokoro-coreml inspection, schema version {SCHEMA_VERSION}",
    }
    return header | json_schema(Inspection)
