"""From measured numbers to checks, legs and a verdict; what was not measured cannot pass."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from kokoro_coreml.parity.results import Check, Leg, StageResult, Threshold, Verdict, finite


class Judge:
    """Holds measured numbers against the named thresholds."""

    def __init__(self, thresholds: Sequence[Threshold]) -> None:
        """`thresholds`: of all legs."""
        self.thresholds = tuple(thresholds)

    def of_leg(self, leg: str) -> dict[str, Threshold]:
        """Thresholds of one leg, by metric."""
        return {t.metric: t for t in self.thresholds if t.leg == leg}

    def checks(
        self, leg: str, where: str, metrics: Mapping[str, float], *, only: Sequence[str] = ()
    ) -> list[Check]:
        """Judge the metrics of one case, stage or bucket.

        Args:
            leg: whose thresholds apply.
            where: the metrics were measured.
            metrics: by name; one that a threshold asks for and that is not there fails.
            only: thresholds to apply; all of the leg's if empty.
        """
        bounds = self.of_leg(leg)
        wanted = [bounds[name] for name in only] if only else list(bounds.values())
        return [_check(t, where, metrics.get(t.metric, math.nan)) for t in wanted]

    def stage(self, leg: str, name: str, case: str, snr_db: float, metric: str) -> StageResult:
        """Judge one module."""
        threshold = self.of_leg(leg)[metric]
        held = threshold.holds(snr_db)
        return StageResult(
            name=name,
            leg=leg,
            case=case,
            snr_db=finite(snr_db, "higher"),
            bound=threshold.bound,
            verdict="passed" if held else "failed",
        )


def _check(threshold: Threshold, where: str, value: float) -> Check:
    return Check(
        metric=threshold.metric,
        where=where,
        value=finite(value, threshold.better),
        bound=threshold.bound,
        better=threshold.better,
        verdict="passed" if threshold.holds(value) else "failed",
    )


def judged(
    name: str,
    checks: Sequence[Check],
    seconds: float,
    *,
    stages: Sequence[StageResult] = (),
    detail: str | None = None,
    error: str | None = None,
) -> Leg:
    """One leg; it fails without checks, with a failed check or stage, and with an error."""
    wrong = [f"{c.metric} on {c.where}" for c in checks if c.verdict == "failed"]
    wrong += [f"stage {s.name} on {s.case}" for s in stages if s.verdict == "failed"]
    reasons = [error] if error else []
    if wrong:
        reasons.append(f"out of bounds: {', '.join(wrong)}")
    if not checks and not reasons:
        reasons.append("nothing was compared")
    verdict: Verdict = "failed" if reasons else "passed"
    text = "; ".join([*reasons, *([detail] if detail else [])])
    return Leg(name, verdict, tuple(checks), round(seconds, 3), text or None)


def not_run(name: str, reason: str) -> Leg:
    """A leg that could not be run here."""
    return Leg(name, "not run", (), 0.0, reason)


def waived(name: str) -> Leg:
    """A leg the user asked to leave out."""
    return Leg(name, "waived", (), 0.0, "left out on request")


def merged(legs: Sequence[Leg]) -> list[Leg]:
    """One leg per name, in order of first appearance; it fails where one of them did."""
    together: list[Leg] = []
    for name in dict.fromkeys(leg.name for leg in legs):
        same = [leg for leg in legs if leg.name == name]
        worst = next((leg.verdict for leg in same if leg.verdict == "failed"), same[0].verdict)
        checks = tuple(check for leg in same for check in leg.checks)
        detail = "; ".join(leg.detail for leg in same if leg.detail) or None
        seconds = round(sum(leg.seconds for leg in same), 3)
        together.append(Leg(name, worst, checks, seconds, detail))
    return together


def whole(legs: Sequence[Leg], due: Sequence[str]) -> list[Leg]:
    """One leg per name; one that is due and was not reached has failed."""
    present = {leg.name for leg in legs}
    return merged([*legs, *(judged(n, [], 0.0, error="was lost") for n in due if n not in present)])


def all_good(legs: Sequence[Leg], *, needed: str, excused: Collection[str]) -> bool:
    """The verdict over all legs.

    Args:
        legs: one per name.
        needed: the leg without which nothing was shown of the package itself.
        excused: legs that were not run because there was nothing for them to do.
    """
    ran = {leg.name: leg.verdict for leg in legs}
    good = all(
        verdict in ("passed", "waived") or (verdict == "not run" and name in excused)
        for name, verdict in ran.items()
    )
    return good and ran[needed] == "passed"
