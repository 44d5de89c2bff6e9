"""Where Core ML means to run each operation: `MLComputePlan`, kept as data that any machine reads.

A plan is made on a Mac (`worker.device_plan`) and saved as JSON, schema version 1. It is Core ML's
intention for that Mac and that macOS, not a measurement: costs are its own estimates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from kokoro_coreml.errors import PackageError
from kokoro_coreml.tables import Limits, decode, encode

SCHEMA_VERSION = 1
"""Version of the plan format this code writes and reads."""

Device = Literal["CPU", "GPU", "NeuralEngine"]
DEVICES: tuple[Device, ...] = ("CPU", "GPU", "NeuralEngine")

Text = Annotated[str, Limits(minimum=1)]
Count = Annotated[int, Limits(minimum=0)]


@dataclass(frozen=True)
class PlannedOperation:
    """One operation that is not a constant."""

    position: Count
    """Index in the function as Core ML lists it, constants and nested blocks included."""
    operator: Text
    """MIL's name, such as `conv`."""
    opset: str | None
    """The operation set it is of, such as `ios17`; null where Core ML names none."""
    outputs: tuple[str, ...]
    """Names of its results; the first identifies it, also in the saved package."""
    inside: str | None
    """For an operation of a nested block: first result of the operation that holds the block, and
    the block's index, as in `cond_0/1`."""
    device: Device | None
    """Preferred; null where Core ML does not say."""
    supported: tuple[Device, ...]
    cost: Annotated[float, Limits(minimum=0)] | None
    """Estimated share of the function's work, from 0 to 1; null where Core ML does not say."""


@dataclass(frozen=True)
class DeviceShare:
    """What one device was given."""

    device: Device | None
    """Null holds the operations Core ML says nothing about."""
    operations: int
    cost_share: float | None
    """Of all estimated cost, from 0 to 1; null where no operation has a cost above 0."""


@dataclass(frozen=True)
class ComputePlan:
    """The plan of one function of one package for one choice of compute units on one Mac."""

    schema_version: Literal[1]
    project_version: Text
    package: Text
    model_sha256: Annotated[str, Limits(pattern=r"[0-9a-f]{64}", meaning="a SHA-256")]
    """Of the package's model specification, which a bundle's manifest lists among its files."""
    function: Text
    compute_units: Literal["ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"]
    macos: Text
    processor: Text
    coremltools: Text
    available: tuple[Device, ...]
    """Devices this Mac has for Core ML; a virtual machine lacks the Neural Engine."""
    constants: Count
    """Operations left out: `const`, and `constexpr_*` that unpack weights at load."""
    operations: tuple[PlannedOperation, ...]

    def summary(self) -> tuple[DeviceShare, ...]:
        """Operations and estimated cost per device; devices without an operation are left out."""
        total = sum(operation.cost or 0.0 for operation in self.operations)
        shares = []
        for device in (*DEVICES, None):
            own = [operation for operation in self.operations if operation.device == device]
            cost = sum(operation.cost or 0.0 for operation in own)
            if own:
                shares.append(DeviceShare(device, len(own), cost / total if total > 0 else None))
        return tuple(shares)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, fields in declaration order."""
        result: dict[str, Any] = encode(self)
        return result

    def to_json(self) -> str:
        """The file's text.

        Raises:
            PackageError: the plan would not be readable again.
        """
        raw = self.to_dict()
        parse_plan(raw, document="compute plan")
        return json.dumps(raw, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def load_plan(path: Path) -> ComputePlan:
    """Read a plan saved as JSON, on any machine.

    Raises:
        PackageError: it cannot be read, is not JSON, or is not of this schema.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PackageError(f"cannot read the compute plan '{path}': {error}") from error
    return parse_plan(raw, document=path.name)


def parse_plan(raw: object, *, document: str) -> ComputePlan:
    """Check a parsed plan; raises `PackageError` as `load_plan` does."""
    version = raw.get("schema_version") if isinstance(raw, Mapping) else None
    if type(version) is int and version != SCHEMA_VERSION:
        raise PackageError(
            f"{document}: compute plan schema {version}, but this version of kokoro-coreml reads "
            f"{SCHEMA_VERSION}"
        )
    plan = decode(ComputePlan, raw, document=document, error=PackageError)
    positions = [operation.position for operation in plan.operations]
    if positions != sorted(set(positions)):
        raise PackageError(f"{document}: the positions of the operations do not rise")
    return plan
