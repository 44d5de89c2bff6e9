"""From what the runners did to the part of the report on whole utterances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from kokoro_coreml.bench.lines import Line
from kokoro_coreml.bench.request import EXECUTOR
from kokoro_coreml.bench.results import (
    DIGITS,
    CaseTime,
    FunctionTime,
    Ratio,
    RunnerResult,
    Spread,
    Utterances,
)
from kokoro_coreml.bench.sessions import Said
from kokoro_coreml.bench.turns import Turn
from kokoro_coreml.bench.watching import Place

FAILED_BEFORE = "the runner failed before"
NOT_REACHED = "no utterance that was said needs it"


def utterances(
    turns: Sequence[Turn],
    lines: Sequence[Line],
    functions: Sequence[Place],
    *,
    suite: str,
    precision: str,
) -> Utterances:
    """The report of turns.

    Args:
        turns: finished.
        lines: that were to be said.
        functions: of the bundle, all of them.
        suite: name.
        precision: of the executor.
    """
    skipped = _skipped(turns)
    return Utterances(
        suite=suite,
        precision=precision,
        order=tuple(turn.runner.name for turn in turns),
        runners=tuple(_runner(turn, lines, skipped, functions) for turn in turns),
        ratios=tuple(_ratios(turns, lines)),
    )


def case_time(
    line: Line, first: Said | None, rounds: Sequence[Said], reason: str | None
) -> CaseTime:
    """One row; `reason` is why there are no rounds."""
    seconds = Spread.of([said.seconds for said in rounds])
    audio = rounds[-1].audio_seconds if rounds else None
    return CaseTime(
        case=line.case,
        tokens=len(line.ids),
        audio_seconds=None if audio is None else round(audio, 4),
        first_seconds=None if first is None or first.skipped else rounded(first.seconds),
        seconds=seconds,
        real_time_factor=factor(audio or 0.0, seconds.median) if seconds else None,
        reason=None if seconds else reason or FAILED_BEFORE,
    )


def whole_factor(cases: Sequence[CaseTime]) -> float | None:
    """Real-time factor of all cases that were measured together, at their medians."""
    measured = [case for case in cases if case.seconds is not None]
    audio = sum(case.audio_seconds or 0.0 for case in measured)
    return factor(audio, sum(case.seconds.median for case in measured if case.seconds))


def factor(audio: float, seconds: float) -> float | None:
    """Seconds of audio per second; None where no time passed."""
    return rounded(audio / seconds) if seconds > 0 else None


def rounded(value: float) -> float:
    """To the digits of the report."""
    return float(f"{value:.{DIGITS}g}")


def _skipped(turns: Sequence[Turn]) -> dict[str, str]:
    """Cases that some runner could not hold, and which and why."""
    return {
        case: f"{turn.runner.name}: {said.skipped}"
        for turn in turns
        for case, said in turn.first.items()
        if said.skipped is not None
    }


def _runner(
    turn: Turn, lines: Sequence[Line], skipped: Mapping[str, str], functions: Sequence[Place]
) -> RunnerResult:
    runner, loaded = turn.runner, turn.loaded
    reason = runner.skipped or turn.failure
    cases = [
        case_time(
            line,
            turn.first.get(line.case),
            turn.rounds.get(line.case, []),
            skipped.get(line.case, reason),
        )
        for line in lines
    ]
    packaged = runner.name == EXECUTOR
    return RunnerResult(
        name=runner.name,
        what=runner.what,
        verdict="skipped" if runner.skipped else "failed" if turn.failure else "measured",
        reason=reason,
        load_seconds=_load_seconds(turn),
        base_bytes=None if loaded is None else loaded.base_bytes,
        loaded_bytes=None if loaded is None else loaded.peak_bytes,
        peak_bytes=turn.peak_bytes,
        cases=() if runner.skipped else tuple(cases),
        real_time_factor=whole_factor(cases),
        functions=tuple(_functions(turn, functions, reason)) if packaged else (),
    )


def _load_seconds(turn: Turn) -> float | None:
    """Of the executor with its functions, which are known once it has ended well."""
    if turn.loaded is None or (turn.runner.name == EXECUTOR and not turn.function_loads):
        return None
    return rounded(turn.loaded.seconds + sum(turn.function_loads.values()))


def _functions(turn: Turn, places: Sequence[Place], reason: str | None) -> list[FunctionTime]:
    ran: dict[Place, list[float]] = {place: [] for place in places}
    for said in (said for rounds in turn.rounds.values() for said in rounds):
        for place, seconds in said.functions.items():
            ran.setdefault(place, []).append(seconds)
    found = []
    for place, runs in ran.items():
        load = turn.function_loads.get(place)
        spread = Spread.of(runs)
        found.append(
            FunctionTime(
                package=place[0],
                function=place[1],
                load_seconds=None if load is None else rounded(load),
                run_seconds=spread,
                reason=None if spread and load is not None else reason or NOT_REACHED,
            )
        )
    return found


def _ratios(turns: Sequence[Turn], lines: Sequence[Line]) -> list[Ratio]:
    found = []
    for first, second in combinations(turns, 2):
        common = [n for n in (line.case for line in lines) if n in first.rounds]
        common = [name for name in common if name in second.rounds]
        pairs: list[tuple[str | None, list[str]]] = [(name, [name]) for name in common]
        if len(common) > 1:
            pairs.insert(0, (None, common))
        for case, names in pairs:
            spread = Spread.of(_times_as_fast(first, second, names))
            if spread is not None:
                found.append(Ratio(first.runner.name, second.runner.name, case, spread))
    return found


def _times_as_fast(first: Turn, second: Turn, names: Sequence[str]) -> list[float]:
    """One value per round in which both said all of the cases."""
    whole = min(len(turn.rounds[name]) for turn in (first, second) for name in names)
    values = []
    for number in range(whole):
        one, other = (_factor(turn, names, number) for turn in (first, second))
        if one and other:
            values.append(one / other)
    return values


def _factor(turn: Turn, names: Sequence[str], number: int) -> float | None:
    said = [turn.rounds[name][number] for name in names]
    seconds = sum(one.seconds for one in said)
    return sum(one.audio_seconds for one in said) / seconds if seconds > 0 else None
