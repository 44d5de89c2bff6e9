"""Prediction beside Core ML's own plan, operation by operation."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from kokoro_coreml.coreml.plan import ComputePlan, PlannedOperation
from kokoro_coreml.errors import PlacementError
from kokoro_coreml.placement.results import (
    Agreement,
    Disagreement,
    FunctionInspection,
    PackageInspection,
    PlacedOperation,
)


def with_plan(inspected: PackageInspection, plan: ComputePlan) -> PackageInspection:
    """The inspection with `plan` beside the function it is of.

    Raises:
        PlacementError: the plan is of another package, function or choice of compute units.
    """
    if plan.model_sha256 != inspected.model_sha256:
        raise PlacementError(
            f"the plan is of '{plan.package}' with model {plan.model_sha256[:12]}, but "
            f"'{inspected.package}' has {inspected.model_sha256[:12]}; plan this package"
        )
    names = [f.function for f in inspected.functions]
    if plan.function not in names:
        raise PlacementError(
            f"the plan is of the function '{plan.function}', but inspected: {', '.join(names)}"
        )
    functions = tuple(
        replace(f, agreement=compare(f, plan)) if f.function == plan.function else f
        for f in inspected.functions
    )
    return replace(inspected, functions=functions)


def compare(inspected: FunctionInspection, plan: ComputePlan) -> Agreement:
    """Count how often prediction and plan agree.

    Raises:
        PlacementError: the plan is of another choice of compute units.
    """
    if plan.compute_units != inspected.compute_units:
        raise PlacementError(
            f"the plan is for {plan.compute_units}, but {inspected.compute_units} were inspected; "
            f"pass --compute-units {plan.compute_units}"
        )
    planned = {_key(p.position, p.outputs): p for p in plan.operations}
    pairs = [
        (own, planned.get(_key(own.position, tuple(r.name for r in own.results))))
        for own in inspected.operations
    ]
    both = [(o, p) for o, p in pairs if p is not None and p.device is not None]
    compared = [(o, p) for o, p in both if o.predicted != "unknown"]
    return Agreement(
        macos=plan.macos,
        processor=plan.processor,
        compared=len(compared),
        agreed=sum(o.predicted == p.device for o, p in compared),
        admissible=sum(_admissible(o, p) for o, p in compared),
        unpredicted=len(both) - len(compared),
        unplanned=len(pairs) - len(both),
        table=dict(Counter(f"{o.predicted} > {p.device}" for o, p in compared)),
        disagreements=tuple(
            Disagreement(o.position, o.type, o.name, o.predicted, p.device, p.supported)
            for o, p in compared
            if p.device is not None and o.predicted != p.device
        ),
    )


def _key(position: int, outputs: tuple[str, ...]) -> tuple[int, str]:
    return position, outputs[0] if outputs else ""


def _admissible(own: PlacedOperation, planned: PlannedOperation) -> bool:
    return (own.predicted == "NeuralEngine") == ("NeuralEngine" in planned.supported)
