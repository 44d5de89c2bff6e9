"""Inspects a saved package without a Mac: operators, arithmetic, predicted devices, findings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from kokoro_coreml import __version__
from kokoro_coreml.coreml.compiled import model_sha256
from kokoro_coreml.errors import PackageError, PlacementError
from kokoro_coreml.executor.interface import DescribedArray
from kokoro_coreml.executor.package import Package
from kokoro_coreml.placement.arithmetic import Traffic, Work, traffic, work
from kokoro_coreml.placement.operations import Operation
from kokoro_coreml.placement.prediction import Prediction, matching, predict
from kokoro_coreml.placement.reading import Node, Reading, Tensor, function_names, read
from kokoro_coreml.placement.results import (
    Finding,
    FunctionInspection,
    Inspection,
    PackageInspection,
    PlacedOperation,
    Predicted,
    Result,
    RuleRecord,
)
from kokoro_coreml.placement.rules import (
    INPUT,
    OUTPUT,
    PROGRAM,
    SEVERITIES,
    Rule,
    Rules,
    Units,
    load_rules,
    message,
)
from kokoro_coreml.placement.summary import least_switches, summarize

NORMS = ("instance_norm", "layer_norm", "reduce_mean")
"""Operators of a norm, whole or written out."""


@dataclass(frozen=True)
class Question:
    """What is asked of a package.

    Attributes:
        compute_units: what an app will ask Core ML for.
        generations: of the Neural Engine, by name.
        seconds: of audio that one call gives: of any function, or by the function's name.
        rules: to judge by.
    """

    compute_units: Units
    generations: tuple[str, ...]
    seconds: float | Mapping[str, float] | None
    rules: Rules

    @classmethod
    def of(
        cls,
        compute_units: str,
        *,
        generation: str | None = None,
        seconds: float | Mapping[str, float] | None = None,
        rules: Rules | None = None,
    ) -> Question:
        """Check what is asked; without a generation, all that the rules know are meant.

        Raises:
            PlacementError: the compute units or the generation are unknown, or a time is not
                positive.
        """
        rules = rules or load_rules()
        units = next((u for u in get_args(Units) if u == compute_units), None)
        if units is None:
            known = ", ".join(get_args(Units))
            raise PlacementError(f"unknown compute units {compute_units!r}; known: {known}")
        times = seconds.values() if isinstance(seconds, Mapping) else (seconds,)
        for value in times:
            if value is not None and not 0 < value < math.inf:
                raise PlacementError(f"{value} seconds of audio; expected more than 0")
        chosen = [rules.generation_of(generation)] if generation else rules.generations
        return cls(units, tuple(g.name for g in chosen), seconds, rules)

    def seconds_of(self, function: str) -> float | None:
        """Seconds of audio that one call of a function gives; None if nobody said."""
        if isinstance(self.seconds, Mapping):
            return self.seconds.get(function)
        return self.seconds


@dataclass(frozen=True)
class _Judged:
    """An operation with all that is worked out about it."""

    operation: Operation
    prediction: Prediction
    work: Work
    traffic: Traffic

    def record(self) -> PlacedOperation:
        node, prediction = self.operation.node, self.prediction
        return PlacedOperation(
            position=node.position,
            type=node.type,
            name=node.name,
            inside=node.inside,
            results=tuple(Result(t.name, t.dtype, t.shape) for t in node.results),
            largest_axis=_largest_axis(self.operation),
            multiply_adds=self.work.multiply_adds,
            operations=self.work.operations,
            weight_bytes=sum(s.bytes for s in self.traffic.weights),
            input_bytes=self.traffic.read,
            output_bytes=self.traffic.written,
            predicted=prediction.device,
            devices=prediction.devices,
            rules=tuple(rule.id for rule in prediction.rules),
            reason=prediction.reason,
        )


def inspect_package(
    path: str | Path, question: Question, *, function: str | None = None
) -> PackageInspection:
    """Inspect one package, or one function of it.

    Raises:
        PackageError: the package is missing or corrupt, or has no such function.
    """
    package = Package.load(path)
    names = function_names(package) if function is None else (function,)
    inspected = tuple(_function(package, name, question) for name in names)
    return PackageInspection(package.path.name, model_sha256(package), inspected)


def severe_findings(
    path: Path, *, compute_units: str, function: str | None = None, generation: str | None = None
) -> tuple[Finding, ...]:
    """What forbids to ship a package for these compute units.

    Args:
        path: of the `.mlpackage`.
        compute_units: what an app will ask Core ML for.
        function: of it; all by default.
        generation: of the Neural Engine, or a chip; all that the rules know by default.

    Raises:
        PackageError: the package is missing or corrupt, or has no such function.
        PlacementError: the compute units or the generation are unknown.
    """
    question = Question.of(compute_units, generation=generation)
    inspected = inspect_package(path, question, function=function)
    return tuple(f for g in inspected.functions for f in g.findings if f.severity == "severe")


def assemble(packages: Sequence[PackageInspection], rules: Rules) -> Inspection:
    """Put packages together with the rules they name."""
    functions = [f for package in packages for f in package.functions]
    used = {i for f in functions for o in f.operations for i in o.rules}
    used |= {finding.rule for f in functions for finding in f.findings}
    records = {
        rule.id: RuleRecord(
            rule.found,
            rule.confidence_of(rule.holds_for),
            rule.holds_for,
            rules.urls(rule.sources),
        )
        for rule in rules.rules
        if rule.id in used
    }
    return Inspection(1, __version__, tuple(packages), records)


def _function(package: Package, name: str, question: Question) -> FunctionInspection:
    reading = read(package, name)
    program = _program(package, reading, {})
    whole = matching(question.rules.rules, program, question.compute_units)
    judged = [_judge(node, package, question, program.given, whole) for node in reading.nodes]
    placed = tuple(j.record() for j in judged)
    found = [f for j in judged for f in _findings(j.operation, name, question, j.prediction.device)]
    found += _program_findings(package, reading, placed, question)
    for stand_in in _interfaces(package, reading):
        found += _findings(stand_in, name, question, None)
    findings = tuple(sorted(found, key=lambda f: SEVERITIES.index(f.severity)))
    switches = least_switches(placed, question.generations)
    seconds = question.seconds_of(name)
    summary = summarize(placed, findings, reading.stored, switches, seconds)
    return FunctionInspection(
        name, question.compute_units, question.generations, summary, findings, placed
    )


def _judge(
    node: Node,
    package: Package,
    question: Question,
    given: Mapping[str, float],
    whole: Sequence[Rule],
) -> _Judged:
    operation = Operation(node, package, given)
    units, generations = question.compute_units, question.generations
    try:
        prediction = predict(question.rules, operation, units, generations, whole=whole)
        return _Judged(operation, prediction, work(operation), traffic(operation))
    except (LookupError, ValueError, TypeError, ArithmeticError) as error:
        raise PackageError(
            f"operation {node.position}, {node.type} '{node.name}': its arguments do not fit "
            f"({error!r})"
        ) from error


def _largest_axis(operation: Operation) -> int | None:
    tensors = (*operation.moving, *operation.node.results)
    sizes = [d for t in tensors for d in t.shape or () if d is not None]
    return max(sizes, default=None)


def _findings(
    operation: Operation, function: str, question: Question, device: Predicted | None
) -> list[Finding]:
    units = question.compute_units
    rules = [r for r in question.rules.rules if units in r.severity and _concerns(r, question)]
    return [
        _finding(rule, operation, function, question)
        for rule in matching(rules, operation, units, device)
    ]


def _program_findings(
    package: Package, reading: Reading, placed: Sequence[PlacedOperation], question: Question
) -> list[Finding]:
    """Of the function as a whole; how often it changes device depends on a rule's generations."""
    units, found = question.compute_units, []
    rules = [r for r in question.rules.rules if PROGRAM in r.operators and units in r.severity]
    for rule in (r for r in rules if _concerns(r, question)):
        generations = [g for g in question.generations if g in rule.holds_for]
        switches = least_switches(placed, generations or question.generations)
        counts = {"switches": float(switches), "unplaced_halves": float(_unplaced(placed))}
        program = _program(package, reading, counts)
        if matching([rule], program, units):
            found.append(_finding(rule, program, reading.name, question))
    return found


def _unplaced(placed: Sequence[PlacedOperation]) -> int:
    return sum(
        o.predicted == "unknown" and o.type != "cast" and any(r.dtype == "fp16" for r in o.results)
        for o in placed
    )


def _concerns(rule: Rule, question: Question) -> bool:
    return not rule.holds_for or bool(set(rule.holds_for) & set(question.generations))


def _finding(rule: Rule, operation: Operation, function: str, question: Question) -> Finding:
    node = operation.node
    every = set(question.generations) <= set(rule.holds_for) and len(question.generations) > 1
    concerned = [] if every else [g for g in question.generations if g in rule.holds_for]
    return Finding(
        severity=rule.severity[question.compute_units],
        rule=rule.id,
        function=function,
        position=node.position if node.position >= 0 else None,
        type=node.type,
        name=node.name,
        found=message(rule, operation.facts),
        expected=rule.expected or "",
        generations=tuple(concerned),
        systems=rule.systems,
        confidence=rule.confidence_of(question.generations),
        sources=question.rules.urls(rule.sources),
    )


def _program(package: Package, reading: Reading, given: Mapping[str, float]) -> Operation:
    """The function as a whole, in the shape of an operation."""
    kinds = Counter(node.type for node in reading.nodes)
    counts = {
        "program_operations": float(len(reading.nodes)),
        "program_sines": float(kinds["sin"]),
        "program_norms": float(sum(kinds[kind] for kind in NORMS)),
        **given,
    }
    return Operation(Node(-1, PROGRAM, reading.name, {}, ()), package, counts)


def _interfaces(package: Package, reading: Reading) -> list[Operation]:
    """The function's inputs and outputs, in the shape of operations."""
    found = []
    shapes = {f.name: f for f in _described_inputs(package, reading.name)}
    for tensor in reading.inputs:
        found.append(_interface(INPUT, tensor, package, _flexibility(shapes.get(tensor.name))))
    for tensor in reading.outputs:
        found.append(_interface(OUTPUT, replace(tensor, producer=None), package, {}))
    return found


def _interface(
    kind: str, tensor: Tensor, package: Package, given: Mapping[str, float]
) -> Operation:
    return Operation(Node(-1, kind, tensor.name, {}, (tensor,)), package, given)


def _described_inputs(package: Package, function: str) -> list[DescribedArray]:
    """Inputs as the model description has them; what is no multi-array is left out."""
    description: Any = package.model.description
    for candidate in description.functions:
        if candidate.name == function:
            description = candidate
    found = []
    for feature in description.input:
        try:
            found.append(DescribedArray.read(feature, "input"))
        except PackageError:
            continue
    return found


def _flexibility(described: DescribedArray | None) -> dict[str, float]:
    if described is None or not described.allowed:
        return {}
    if len(described.allowed) > 1:
        return {"enumerated_shapes": len(described.allowed)}
    return {"ranged_axes": sum(r.lower != r.upper for r in described.allowed[0])}
