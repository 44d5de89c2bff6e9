"""Where an operation runs, by the rules: one device, or `unknown` where no source decides.

A prediction says what a device admits. Core ML also weighs costs, so it may keep small parts of a
program on the CPU that the Neural Engine would take.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kokoro_coreml.placement.operations import Operation
from kokoro_coreml.placement.results import Predicted
from kokoro_coreml.placement.rules import (
    ANY,
    INPUT,
    OUTPUT,
    PROGRAM,
    Rule,
    Rules,
    Units,
    Verdict,
    When,
    message,
)

UNKNOWN: Predicted = "unknown"

_PRECEDENCE: tuple[Verdict, ...] = ("cpu", "not_neural_engine", "unknown", "neural_engine")
"""The first of these that a matching rule says is what counts."""

_UNCOVERED = "no public source covers this operation"
_CHOICE = "no public source says which of the allowed devices Core ML prefers"


@dataclass(frozen=True)
class Prediction:
    """Where one operation runs.

    Attributes:
        device: or `unknown`.
        rules: that decided.
        reason: in words.
        devices: by generation, where generations differ.
    """

    device: Predicted
    rules: tuple[Rule, ...]
    reason: str
    devices: dict[str, Predicted] = field(default_factory=dict)


def matching(
    rules: Iterable[Rule], operation: Operation, units: Units, device: Predicted | None = None
) -> list[Rule]:
    """The rules that match an operation, generations aside, in the file's order.

    Args:
        rules: to try.
        operation: or a stand-in for a program, an input or an output.
        units: the compute units asked for.
        device: predicted; rules that depend on it match only when it is given.
    """
    return [
        rule
        for rule in rules
        if _names(rule, operation.node.type) and _holds(rule.when, operation, units, device)
    ]


def predict(
    rules: Rules,
    operation: Operation,
    units: Units,
    generations: Sequence[str],
    *,
    whole: Sequence[Rule] = (),
) -> Prediction:
    """Decide where an operation runs on every one of `generations`, given the compute units.

    Args:
        rules: to decide by.
        operation: with the facts of its function, which the rules of the function may name.
        units: the compute units asked for.
        generations: of the Neural Engine; at least one.
        whole: rules that match the function as a whole; their verdicts are of all its operations.
    """
    deciding = matching([r for r in rules.rules if r.verdict], operation, units)
    deciding += [r for r in whole if r.verdict]
    by_generation = {g: _decide(deciding, g) for g in generations}
    devices = {g: _device(rule, units) for g, rule in by_generation.items()}
    used = tuple({r.id: r for r in by_generation.values() if r is not None}.values())
    if len(set(devices.values())) > 1:
        return Prediction(UNKNOWN, used, "generations differ", devices)
    device = next(iter(devices.values()))
    return Prediction(device, used, _reason(device, used, operation))


def _reason(device: Predicted, used: Sequence[Rule], operation: Operation) -> str:
    if not used:
        return _UNCOVERED
    if device == UNKNOWN and all(rule.verdict != "unknown" for rule in used):
        return _CHOICE
    return message(used[0], operation.facts)


def _decide(rules: Sequence[Rule], generation: str) -> Rule | None:
    own = [rule for rule in rules if generation in rule.holds_for]
    for verdict in _PRECEDENCE:
        for rule in own:
            if rule.verdict == verdict:
                return rule
    return None


def _device(rule: Rule | None, units: Units) -> Predicted:
    if rule is None or rule.verdict == "unknown":
        return UNKNOWN
    if rule.verdict == "cpu":
        return "CPU"
    if units != "CPU_AND_NE":
        return UNKNOWN
    return "NeuralEngine" if rule.verdict == "neural_engine" else "CPU"


def _names(rule: Rule, kind: str) -> bool:
    if kind in rule.operators:
        return True
    return (
        ANY in rule.operators
        and kind not in rule.excluding
        and kind not in (PROGRAM, INPUT, OUTPUT)
    )


def _holds(when: When, operation: Operation, units: Units, device: Predicted | None) -> bool:
    if (when.units and units not in when.units) or (when.devices and device not in when.devices):
        return False
    return (
        _types_hold(when, operation)
        and _parameters_hold(when, operation)
        and all(bound.holds(operation.facts[bound.fact]) for bound in when.bounds)
    )


def _types_hold(when: When, operation: Operation) -> bool:
    operands = {t.dtype for t in operation.moving}
    results = {t.dtype for t in operation.node.results}
    return (
        (not when.types or bool((operands | results) & set(when.types)))
        and (not when.operand_types or bool(operands & set(when.operand_types)))
        and (not when.result_types or bool(results & set(when.result_types)))
    )


def _parameters_hold(when: When, operation: Operation) -> bool:
    bound = operation.node.arguments
    computed = {name for name, tensors in bound.items() if any(not t.folded for t in tensors)}
    return (
        not computed & set(when.constant)
        and (not when.computed or bool(computed & set(when.computed)))
        and all(_word(operation, name) in words for name, words in when.choices.items())
    )


def _word(operation: Operation, name: str) -> str | None:
    value = operation.constant(name)
    return value if isinstance(value, str) else None
