"""A report in a few lines."""

from __future__ import annotations

from kokoro_coreml.parity.results import Report


def summary(report: Report) -> str:
    """A few lines for a terminal: the verdict, every leg, and the suspects of a failure."""
    lines = [f"{report.verdict}: {report.bundle.name}, suite {report.suite}, {report.precision}"]
    for leg in report.legs:
        detail = f" ({leg.detail})" if leg.detail else ""
        lines.append(f"  {leg.verdict:8} {leg.name}{detail}")
    for suspect in report.suspects:
        operation = f", {suspect.operation}" if suspect.operation else ""
        lines.append(f"  suspect: {suspect.where}{operation}: {suspect.evidence}")
    return "\n".join(lines)
