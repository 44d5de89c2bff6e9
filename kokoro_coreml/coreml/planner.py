"""Asking Core ML for its plan, in this process; `worker.device_plan` keeps a crash apart.

`MLComputePlan` aborts the process when it is given anything but a compiled model (coremltools
#2757), so it is only ever given what `compiled.compile_package` returned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from kokoro_coreml import __version__
from kokoro_coreml.coreml.compiled import (
    compile_package,
    model_sha256,
    read_interface,
    refusals,
)
from kokoro_coreml.coreml.errors import CoreMLError
from kokoro_coreml.coreml.mac import (
    PLAN_MACOS,
    compute_unit,
    processor,
    require_macos,
    version_text,
)
from kokoro_coreml.coreml.plan import (
    SCHEMA_VERSION,
    ComputePlan,
    Device,
    PlannedOperation,
    parse_plan,
)
from kokoro_coreml.executor.package import Package
from kokoro_coreml.tables import encode

_DEVICE_CLASSES: dict[str, Device] = {
    "MLCPUComputeDevice": "CPU",
    "MLGPUComputeDevice": "GPU",
    "MLNeuralEngineComputeDevice": "NeuralEngine",
}
"""Classes of `coremltools.models.compute_device`."""

_UNPACKING = "constexpr_"


def read_plan(package: Package, function: str, compute_units: str, folder: Path) -> ComputePlan:
    """Ask for the plan of a function.

    Args:
        package: whose plan.
        function: of it.
        compute_units: one of `mac.COMPUTE_UNITS`.
        folder: where compiled models are kept.

    Raises:
        CoreMLUnavailableError: macOS is older than 14.4, or too old for the package.
        CoreMLError: Core ML refuses, or says nothing about this function.
    """
    require_macos(PLAN_MACOS, "a compute plan")
    unit = compute_unit(compute_units)
    interface = read_interface(package, function)
    default = None if interface.default_function else function
    compiled = compile_package(package, folder, default_function=default)
    what = f"planning {package.path.name}:{function} on {compute_units}"
    with refusals(what):
        plan = _load(compiled.path, unit)
        operations = list(_walk(plan, _block(plan, function).operations))
        available = _available()
    kept = [operation for operation in operations if not _is_constant(operation.operator)]
    if kept and all(operation.device is None for operation in kept):
        raise CoreMLError(
            f"Core ML failed while {what}: it names no device for any of {len(kept)} operations"
        )
    record = {
        "schema_version": SCHEMA_VERSION,
        "project_version": __version__,
        "package": package.path.name,
        "model_sha256": model_sha256(package),
        "function": function,
        "compute_units": compute_units,
        "macos": version_text(),
        "processor": processor(),
        "coremltools": metadata.version("coremltools"),
        "available": available,
        "constants": len(operations) - len(kept),
        "operations": kept,
    }
    return parse_plan(encode(record), document=what)


def _load(path: Path, unit: Any) -> Any:
    from coremltools.models.compute_plan import MLComputePlan

    return MLComputePlan.load_from_path(path=str(path), compute_units=unit)


def _available() -> list[Device]:
    from coremltools.models import MLModel

    found = {_device(device) for device in MLModel.get_available_compute_devices()}
    return [device for device in _DEVICE_CLASSES.values() if device in found]


def _block(plan: Any, function: str) -> Any:
    program = plan.model_structure.program
    if program is None:
        raise CoreMLError("Core ML's structure of the package is not that of an ML Program")
    if function not in program.functions:
        raise CoreMLError(
            f"Core ML's structure of the package has no function '{function}'; it has: "
            f"{', '.join(program.functions)}"
        )
    return program.functions[function].block


def _walk(plan: Any, operations: Sequence[Any]) -> Iterator[PlannedOperation]:
    """All operations in order; those of a nested block follow the operation that holds it."""
    stack: list[tuple[Any, str | None]] = [(operation, None) for operation in reversed(operations)]
    position = 0
    while stack:
        operation, inside = stack.pop()
        yield _planned(plan, operation, position, inside)
        position += 1
        nested: list[tuple[Any, str | None]] = [
            (inner, f"{_name(operation)}/{index}")
            for index, block in enumerate(operation.blocks)
            for inner in block.operations
        ]
        stack.extend(reversed(nested))


def _planned(plan: Any, operation: Any, position: int, inside: str | None) -> PlannedOperation:
    usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
    cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
    opset, _, operator = operation.operator_name.rpartition(".")
    supported = [] if usage is None else [_device(d) for d in usage.supported_compute_devices]
    return PlannedOperation(
        position=position,
        operator=operator,
        opset=opset or None,
        outputs=tuple(output.name for output in operation.outputs),
        inside=inside,
        device=None if usage is None else _device(usage.preferred_compute_device),
        supported=tuple(d for d in _DEVICE_CLASSES.values() if d in supported),
        cost=None if cost is None else float(cost.weight),
    )


def _device(device: Any) -> Device | None:
    """None for a kind of device that coremltools does not know."""
    return _DEVICE_CLASSES.get(type(device).__name__)


def _name(operation: Any) -> str:
    return str(operation.outputs[0].name if operation.outputs else operation.operator_name)


def _is_constant(operator: str) -> bool:
    return operator == "const" or operator.startswith(_UNPACKING)
