"""An inspection for a person to read: summary, devices, findings, and the largest operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from kokoro_coreml.placement.results import (
    Agreement,
    Finding,
    FunctionInspection,
    Inspection,
    PlacedOperation,
    Summary,
)
from kokoro_coreml.placement.summary import on

_LISTED_DISAGREEMENTS = 10


def render(inspection: Inspection, top: int) -> str:
    """The whole text.

    Args:
        inspection: to show.
        top: how many operations to list per function, those with most arithmetic first.
    """
    lines: list[str] = []
    for package in inspection.packages:
        for function in package.functions:
            lines += [*_function(package.package, function, top), ""]
    return "\n".join(lines).rstrip()


def _function(package: str, inspected: FunctionInspection, top: int) -> list[str]:
    head = f"{package}:{inspected.function} for {inspected.compute_units}"
    return [
        f"{head}, Neural Engine {', '.join(inspected.generations)}",
        *_summary(inspected),
        *_agreement(inspected.agreement),
        *_findings(inspected.findings),
        *_operations(inspected.operations, top),
    ]


def _summary(inspected: FunctionInspection) -> list[str]:
    summary = inspected.summary
    lines = [f"  {summary.operations} operations, {_switches(summary)}"]
    for total in summary.devices:
        share = "" if total.share is None else f", {100 * total.share:.1f} % of the arithmetic"
        lines.append(f"    {total.device:<12} {total.operations:>6} operations{share}")
    lines += _by_generation(inspected)
    if summary.largest_axis is not None:
        lines.append(f"  largest axis {summary.largest_axis:,} at {summary.largest_axis_at}")
    uncounted = f", {summary.uncounted} operations not counted" if summary.uncounted else ""
    lines.append(
        f"  arithmetic {scaled(summary.arithmetic)}FLOP, {scaled(summary.multiply_adds)}MAC"
        f"{uncounted}"
    )
    written = scaled(summary.activation_bytes)
    lines.append(f"  weights {scaled(summary.weight_bytes)}B, activations {written}B")
    if summary.seconds is not None:
        arithmetic = scaled(summary.arithmetic_per_second)
        moved = scaled(summary.bytes_per_second)
        lines.append(
            f"  per second of audio ({summary.seconds:g} s a call): {arithmetic}FLOP, {moved}B"
        )
    return lines


def _switches(summary: Summary) -> str:
    unknown = sum(t.operations for t in summary.devices if t.device == "unknown")
    changes = f"{summary.switches} changes of device"
    return f"at least {changes}, {unknown} operations unknown" if unknown else changes


def _by_generation(inspected: FunctionInspection) -> list[str]:
    """What is predicted for each generation, where they differ; equal ones share a line."""
    if not any(o.devices for o in inspected.operations):
        return []
    alike: dict[str, list[str]] = {}
    for generation in inspected.generations:
        count = Counter(on(inspected.operations, generation))
        alike.setdefault(", ".join(f"{n} {d}" for d, n in count.most_common()), []).append(
            generation
        )
    return [f"    on {', '.join(names)}: {devices}" for devices, names in alike.items()]


def _agreement(agreement: Agreement | None) -> list[str]:
    if agreement is None:
        return []
    lines = [
        f"  Core ML's plan (macOS {agreement.macos}, {agreement.processor}): "
        f"{agreement.agreed} of {agreement.compared} predictions are its choice, "
        f"{agreement.admissible} fit what it supports; {agreement.unpredicted} unpredicted, "
        f"{agreement.unplanned} not in the plan"
    ]
    lines += [f"    {kinds}: {count}" for kinds, count in sorted(agreement.table.items())]
    for d in agreement.disagreements[:_LISTED_DISAGREEMENTS]:
        supported = ", ".join(d.supported) or "nothing"
        lines.append(
            f"    {d.position} {d.type} {d.name}: {d.predicted}, planned {d.planned} of {supported}"
        )
    if len(agreement.disagreements) > _LISTED_DISAGREEMENTS:
        lines.append(f"    and {len(agreement.disagreements) - _LISTED_DISAGREEMENTS} more")
    return lines


def _findings(findings: Sequence[Finding]) -> list[str]:
    if not findings:
        return ["  no findings"]
    lines = ["  findings"]
    ordered = sorted(findings, key=lambda f: _kind(findings, f))
    for _, group in groupby(ordered, key=lambda f: _kind(findings, f)):
        lines += _group(list(group))
    return lines


def _kind(findings: Sequence[Finding], finding: Finding) -> int:
    """Place of the first finding of this rule, so that rules keep the order of severity."""
    return next(i for i, f in enumerate(findings) if f.rule == finding.rule)


def _group(own: Sequence[Finding]) -> list[str]:
    first = own[0]
    times = f" x {len(own)}" if len(own) > 1 else ""
    generations = f" ({', '.join(first.generations)})" if first.generations else ""
    where = first.type if first.position is None else f"{first.position} {first.type}"
    systems = f"; {first.systems}" if first.systems else ""
    return [
        f"    {first.severity}: {first.rule}{times}{generations}",
        f"      {where} {first.name} {first.found}",
        f"      instead: {first.expected}",
        f"      {first.confidence}{systems}: {' '.join(first.sources)}",
    ]


def _operations(operations: Sequence[PlacedOperation], top: int) -> list[str]:
    largest = sorted(operations, key=lambda o: -(o.operations or 0))[:top]
    if not largest:
        return []
    total = sum(o.operations or 0 for o in operations) or 1
    lines = [
        "  largest operations",
        f"    {'at':>6} {'type':<16} {'FLOP':>9} {'share':>7} {'weights':>9}  device and result",
    ]
    for o in largest:
        share = f"{100 * (o.operations or 0) / total:.1f} %"
        lines.append(
            f"    {o.position:>6} {o.type:<16} {scaled(o.operations):>9} {share:>7} "
            f"{scaled(o.weight_bytes):>8}B  {o.predicted} {_results(o)}"
        )
    return lines


def _results(operation: PlacedOperation) -> str:
    return " ".join(f"{r.name} {r.dtype}{_sizes(r.shape)}" for r in operation.results)


def _sizes(shape: Iterable[int | None] | None) -> str:
    if shape is None:
        return ""
    return f"[{', '.join('?' if d is None else str(d) for d in shape)}]"


def scaled(value: float | None) -> str:
    """A number with three digits and a prefix: 1.23 M."""
    if value is None:
        return "? "
    for prefix, unit in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= unit:
            return f"{value / unit:.3g} {prefix}"
    return f"{value:.3g} "
