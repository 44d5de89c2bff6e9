"""What the page says about the numbers: a report's content in the order and words of a reader."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kokoro_coreml.parity.report import numbers
from kokoro_coreml.parity.report.words import Words, compare_words
from kokoro_coreml.parity.results import (
    CAP,
    CaseResult,
    Check,
    Leg,
    PackageTiming,
    RangeFinding,
    Report,
    StageResult,
    Threshold,
)

LEGS_SAID = 3
"""Failed legs the verdict's sentence goes into."""

DETAIL_SAID = 160
"""Characters of a leg's detail the sentence quotes."""

FINDINGS_SHOWN = 40
"""Operations listed whose values a device may not hold."""

KINDS = {
    "nan": "not a number",
    "overflow": "beyond the largest half-precision number, 65,504",
    "accumulator": "a sum of products beyond 32,752, the limit reported for M4 and M6",
    "subnormal": "below the smallest normal half-precision number, which devices may flush to 0",
}
"""What a range finding means, the gravest first."""


@dataclass(frozen=True)
class MetricRow:
    """The check of one metric in one leg that is closest to its bound, or furthest beyond it."""

    metric: str
    worst: Check
    count: int
    failed: int
    reason: str | None


@dataclass(frozen=True)
class LegView:
    """One leg with a row per metric."""

    leg: Leg
    rows: tuple[MetricRow, ...]


@dataclass(frozen=True)
class Cell:
    """One metric of one case."""

    metric: str
    value: str | None
    yardstick: str | None
    bound: str | None
    failed: bool


@dataclass(frozen=True)
class CaseView:
    """One case: a cell per metric, and the words where speech recognition was asked."""

    case: CaseResult
    anchor: str
    cells: tuple[Cell, ...]
    words: Words | None

    @property
    def failed(self) -> bool:
        """Whether any metric is out of bounds."""
        return bool(self.case.failed)


@dataclass(frozen=True)
class StageCell:
    """One stage in one leg, over all cases."""

    worst: StageResult
    results: tuple[StageResult, ...]

    @property
    def failed(self) -> int:
        """How many cases are out of bounds."""
        return sum(r.verdict == "failed" for r in self.results)


@dataclass(frozen=True)
class TimingView:
    """One package function; times in seconds, the middle one of all runs."""

    timing: PackageTiming
    run: float | None
    eager: float | None

    @property
    def ratio(self) -> float | None:
        """Run time in units of eager PyTorch's."""
        return self.run / self.eager if self.run is not None and self.eager else None


@dataclass(frozen=True)
class FindingKind:
    """All range findings of one kind."""

    kind: str
    meaning: str
    operations: int
    values: int
    largest: float


def legs(report: Report) -> list[LegView]:
    """The legs in their own order, the worst check of every metric in each."""
    reasons = {(t.leg, t.metric): t.reason for t in report.thresholds}
    views = []
    for leg in report.legs:
        rows = []
        for metric in dict.fromkeys(c.metric for c in leg.checks):
            checks = [c for c in leg.checks if c.metric == metric]
            failed = sum(c.verdict == "failed" for c in checks)
            reason = reasons.get((leg.name, metric))
            rows.append(MetricRow(metric, min(checks, key=_room), len(checks), failed, reason))
        views.append(LegView(leg, tuple(rows)))
    return views


def case_bounds(report: Report) -> dict[str, Threshold]:
    """Bound of every metric that cases are judged by; ambiguous ones are left out.

    Where several legs bound a metric, those count whose checks hold the very numbers of the cases,
    or else those whose checks are on cases.
    """
    said = {(c.name, m, value) for c in report.cases for m, value in c.metrics.items()}
    names = {case.name for case in report.cases}
    checks = [(leg.name, check) for leg in report.legs for check in leg.checks]
    same = {(leg, c.metric) for leg, c in checks if (c.where, c.metric, c.value) in said}
    on_cases = {(leg, c.metric) for leg, c in checks if c.where in names}
    found: dict[str, Threshold] = {}
    for metric in dict.fromkeys(t.metric for t in report.thresholds):
        every = [t for t in report.thresholds if t.metric == metric]
        nearer = ([t for t in every if (t.leg, metric) in legs] for legs in (same, on_cases))
        chosen = next((group for group in nearer if group), every)
        if len({(t.bound, t.better) for t in chosen}) == 1:
            found[metric] = chosen[0]
    return found


def case_metrics(report: Report) -> list[str]:
    """Metrics of the cases: those with a bound first, in the order of the thresholds."""
    measured = [m for case in report.cases for m in (*case.metrics, *case.failed)]
    bounded = [m for m in case_bounds(report) if m in measured]
    return list(dict.fromkeys([*bounded, *sorted(measured)]))


def overview_metrics(report: Report) -> list[str]:
    """Metrics of the table of cases: those some leg bounds, or all where none does."""
    bounded, metrics = {t.metric for t in report.thresholds}, case_metrics(report)
    return [m for m in metrics if m in bounded] or metrics


def cases(report: Report) -> list[CaseView]:
    """Every case; those that failed keep their place."""
    bounds, metrics = case_bounds(report), case_metrics(report)
    views = []
    for number, case in enumerate(report.cases, start=1):
        heard = (case.words_reference, case.words_candidate)
        words = None if None in heard else compare_words(str(heard[0]), str(heard[1]))
        cells = tuple(_cell(case, metric, bounds.get(metric)) for metric in metrics)
        views.append(CaseView(case, f"case-{number}", cells, words))
    return views


def stages(report: Report) -> tuple[list[str], list[tuple[str, list[StageCell | None]]]]:
    """Legs that compared stages, and per stage one cell for each of those legs."""
    names = list(dict.fromkeys(s.leg for s in report.stages))
    table = []
    for stage in dict.fromkeys(s.name for s in report.stages):
        row: list[StageCell | None] = []
        for leg in names:
            found = tuple(s for s in report.stages if (s.name, s.leg) == (stage, leg))
            row.append(StageCell(min(found, key=_stage_room), found) if found else None)
        table.append((stage, row))
    return names, table


def timings(report: Report) -> list[TimingView]:
    """Every package function with the middle of its runs."""
    return [TimingView(t, _middle(t.run_seconds), _middle(t.eager_seconds)) for t in report.timings]


def finding_kinds(report: Report) -> list[FindingKind]:
    """Range findings summed up by kind, the gravest first."""
    groups = {kind: [f for f in report.findings if f.kind == kind] for kind in KINDS}
    return [
        FindingKind(
            kind=kind,
            meaning=KINDS[kind],
            operations=len({f.operation for f in found}),
            values=sum(f.count for f in found),
            largest=max(f.largest for f in found),
        )
        for kind, found in groups.items()
        if found
    ]


def findings(report: Report) -> list[RangeFinding]:
    """The gravest range findings, each kind in program order."""
    order = list(KINDS)
    return sorted(report.findings, key=lambda f: order.index(f.kind))[:FINDINGS_SHOWN]


def unused_thresholds(report: Report) -> set[tuple[str, str]]:
    """Leg and metric of thresholds that nothing was measured against, in legs that ran."""
    ran = {leg.name for leg in report.legs if leg.verdict in ("passed", "failed")}
    measured = {(leg.name, check.metric) for leg in report.legs for check in leg.checks}
    every = {(t.leg, t.metric) for t in report.thresholds if t.leg in ran}
    return every - measured


def contradictions(report: Report) -> list[str]:
    """What in the report cannot be true together with the rest of it."""
    found = [
        f"the leg “{leg.name}” {leg.verdict}, but {wrong} of its checks failed"
        for leg in report.legs
        if (wrong := sum(c.verdict == "failed" for c in leg.checks)) and leg.verdict == "passed"
    ]
    found += [
        f"“{numbers.label(c.metric)}” in {c.where} is marked “passed”, but "
        f"{numbers.amount(c.metric, c.value, c.better, precise=True)} is not "
        f"{numbers.bound(c.metric, c.bound, c.better)}"
        for leg in report.legs
        for c in leg.checks
        if c.verdict == "passed" and _left(c) < 0.0
    ]
    if report.verdict == "passed":
        failures = {
            "leg": [leg.name for leg in report.legs if leg.verdict == "failed"],
            "case": [case.name for case in report.cases if case.failed],
            "stage": [s.name for s in report.stages if s.verdict == "failed"],
        }
        found += [
            f"the verdict is “passed”, but the {what} “{name}” failed"
            for what, names in failures.items()
            for name in dict.fromkeys(names)
        ]
        if not any(leg.verdict == "passed" for leg in report.legs):
            found.append("the verdict is “passed”, but no leg was run")
    return found


NO_CORE_ML = " Core ML itself: not run."


def sentence(report: Report) -> str:
    """The verdict in plain words, with what it does not cover in the same breath."""
    units = f", {', '.join(report.compute_units)}" if report.compute_units else ""
    where = "on Core ML" if report.runtime == "coreml" else "with the project's own executor"
    if report.runtime != "coreml" and report.compute_units:
        where += " and, in results merged from Macs, on Core ML"
    subject = f"Run {where}{units} (precision: {report.precision}), the saved package"
    if report.verdict == "passed":
        said = numbers.plural(len(report.cases), "case")
        speech = numbers.duration(sum(c.seconds for c in report.cases))
        body = f"{subject} is equal to upstream's PyTorch within every bound, over {said} and "
        body += f"{speech} of speech.{_headline(report.cases)}"
    elif any(leg.verdict == "failed" for leg in report.legs):
        body = f"{subject} is not equal to upstream's PyTorch: {_failures(report)}."
    else:
        body = f"{subject} is not proven equal to upstream's PyTorch: a leg that must run did not."
    return body + _not_run(report)


def _not_run(report: Report) -> str:
    skipped = [leg for leg in report.legs if leg.verdict == "not run"]
    waived = [leg.name for leg in report.legs if leg.verdict == "waived"]
    other = [leg.name for leg in skipped if "coreml" not in leg.name.lower().replace(" ", "")]
    text = "" if report.runtime == "coreml" or report.compute_units else NO_CORE_ML
    if report.runtime == "coreml" and len(skipped) > len(other):
        text = " Part of Core ML's leg was not run."
    text += f" Not run: {', '.join(other)}." if other else ""
    return text + (f" Waived: {', '.join(waived)}." if waived else "")


def _headline(results: Sequence[CaseResult]) -> str:
    def lowest(tables: Iterable[Mapping[str, float]]) -> float | None:
        found = [t["audio_snr_db"] for t in tables if "audio_snr_db" in t]
        return min(found) if len(found) == len(results) and found else None

    ours, own = lowest(c.metrics for c in results), lowest(c.yardstick for c in results)
    if ours is None:
        return ""
    beside = (
        ""
        if own is None
        else (f"; two runs of upstream itself are {numbers.amount('audio_snr_db', own)} apart")
    )
    return f" The furthest case keeps {numbers.amount('audio_snr_db', ours)} SNR{beside}."


def _failures(report: Report) -> str:
    failed = [leg for leg in report.legs if leg.verdict == "failed"]
    said = [_failure(leg) for leg in failed[:LEGS_SAID]]
    if len(failed) > LEGS_SAID:
        said.append(f"{numbers.plural(len(failed) - LEGS_SAID, 'more leg')} failed")
    return "; ".join(said)


def _failure(leg: Leg) -> str:
    wrong = [c for c in leg.checks if c.verdict == "failed"]
    if not wrong:
        reason = textwrap.shorten(leg.detail or "no reason given", DETAIL_SAID, placeholder=" …")
        return f"“{leg.name}” failed ({reason})"
    worst = min(wrong, key=_room)
    value = numbers.amount(worst.metric, worst.value, worst.better, precise=True)
    asked = numbers.bound(worst.metric, worst.bound, worst.better)
    name = numbers.label(worst.metric)
    name = name if name[:2].isupper() else name[:1].lower() + name[1:]
    return (
        f"“{leg.name}” fails {len(wrong)} of {numbers.plural(len(leg.checks), 'check')}, "
        f"at worst {name} {value} in {worst.where}, where {asked} is asked"
    )


def _cell(case: CaseResult, metric: str, threshold: Threshold | None) -> Cell:
    better = threshold.better if threshold else None
    value, yardstick = case.metrics.get(metric), case.yardstick.get(metric)
    failed = metric in case.failed
    return Cell(
        metric=metric,
        value=None if value is None else numbers.amount(metric, value, better, precise=failed),
        yardstick=None if yardstick is None else numbers.amount(metric, yardstick, better),
        bound=numbers.bound(metric, threshold.bound, threshold.better) if threshold else None,
        failed=failed,
    )


def _room(check: Check) -> tuple[bool, float]:
    """Sorts checks of any metric: failed first, then by what is left, relative to the bound."""
    left = _left(check)
    exact = left == 0.0 and check.bound == 0.0
    return check.verdict == "passed", CAP if exact else left / (abs(check.bound) or 1.0)


def _left(check: Check) -> float:
    """What is left to the bound, in the metric's unit; negative beyond it."""
    return check.value - check.bound if check.better == "higher" else check.bound - check.value


def _stage_room(result: StageResult) -> tuple[bool, float]:
    return result.verdict == "passed", result.snr_db - result.bound


def _middle(seconds: Sequence[float]) -> float | None:
    return statistics.median(seconds) if seconds else None
