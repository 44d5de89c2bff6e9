"""From the metrics of cases to what can be said of a row."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kokoro_coreml.sizes.results import (
    CaseQuality,
    Comparison,
    Quality,
    Row,
    Said,
    Spread,
    Tolerance,
    Worse,
)
from kokoro_coreml.sizes.tolerances import TOLERANCES, WORD_ERRORS


def compare(
    cases: Sequence[CaseQuality], base: Sequence[CaseQuality], tolerances: Sequence[Tolerance]
) -> Comparison:
    """Hold the metrics of a row against others of the same cases.

    What the base has and the row lacks counts as worse; what the base lacks is not compared.

    Args:
        cases: of the row.
        base: what it is compared with.
        tolerances: of the metrics that are compared.
    """
    found = {one.case: one for one in cases}
    worse = tuple(
        failure for one in base for failure in _worse(found.get(one.case), one, tolerances)
    )
    return Comparison(not worse, worse)


def _worse(
    found: CaseQuality | None, base: CaseQuality, tolerances: Sequence[Tolerance]
) -> Iterator[Worse]:
    for one in tolerances:
        expected = base.metrics.get(one.metric)
        value = found.metrics.get(one.metric) if found is not None else None
        if expected is not None and (value is None or one.exceeded(value, expected)):
            yield Worse(one.metric, base.case, value, expected, one.slack)


def quality_of(cases: Sequence[CaseQuality], said: Sequence[Said]) -> Quality:
    """Sums of what is counted, and the spread of every metric over the cases that have it."""
    by_name = {one.case: one for one in said}
    durations = dict(_measured(cases, "duration_errors"))
    tokens = sum(by_name[case].tokens for case in durations)
    wrong = round(sum(durations.values()))
    errors = dict(_measured(cases, WORD_ERRORS))
    return Quality(
        tokens=tokens,
        duration_errors=wrong,
        duration_errors_percent=100.0 * wrong / tokens if tokens else None,
        words=sum(len((by_name[case].heard or "").split()) for case in errors),
        word_errors=round(sum(errors.values())) if errors else None,
        spreads=_spreads(cases),
    )


def _spreads(cases: Sequence[CaseQuality]) -> Mapping[str, Spread]:
    spreads = {}
    for one in TOLERANCES:
        values = [value for _, value in _measured(cases, one.metric)]
        if values:
            worst = min(values) if one.better == "higher" else max(values)
            spreads[one.metric] = Spread(statistics.median(values), worst)
    return spreads


def same_words(cases: Sequence[CaseQuality]) -> bool | None:
    """Whether no word was heard otherwise; None where none was listened for."""
    errors = [value for _, value in _measured(cases, WORD_ERRORS)]
    return not any(errors) if errors else None


def _measured(cases: Iterable[CaseQuality], metric: str) -> Iterator[tuple[str, float]]:
    for one in cases:
        value = one.metrics.get(metric)
        if value is not None:
            yield one.case, value


def smallest(rows: Sequence[Row], uncompressed: str) -> str | None:
    """Name of the smallest row that nothing tells from the uncompressed one, which is one of them.

    Args:
        rows: all of the table; of equal sizes, the first counts.
        uncompressed: name of the row that the others are compared with.
    """
    good = [
        (row.sizes.package_bytes, index)
        for index, row in enumerate(rows)
        if row.sizes is not None
        and (
            row.name == uncompressed
            or (row.against_uncompressed is not None and row.against_uncompressed.holds)
        )
    ]
    return rows[min(good)[1]].name if good else None
