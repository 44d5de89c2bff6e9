"""Utterances in turns: every runner says a line before the next line, round after round.

A busy machine then hurts all runners alike, and ratios between them within a round are fair where
single times are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, Protocol

from kokoro_coreml.bench.lines import Line
from kokoro_coreml.bench.sessions import Loaded, Said
from kokoro_coreml.bench.watching import Place
from kokoro_coreml.coreml.process import ChildProcess
from kokoro_coreml.errors import KokoroError
from kokoro_coreml.progress import Reporter

TIMEOUT_SECONDS = 1800.0
"""For one answer; the executor may take minutes for a long bucket on a small machine."""


@dataclass(frozen=True)
class Runner:
    """What says the lines, and how its session is made."""

    name: str
    what: str
    factory: str = ""
    """"module:function" in `sessions`."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    skipped: str | None = None
    """Why it cannot run here."""


class Remote(Protocol):
    """A `sessions.Session` in another process: `coreml.process.ChildProcess`."""

    def call(self, method: str, *arguments: Any, doing: str) -> Any:
        """Call a method of the session; raises KokoroError, also when the process ended."""
        ...

    def close(self) -> None:
        """End the process."""
        ...


Start = Callable[[Runner], Remote]


def start(runner: Runner) -> Remote:
    """Start a runner's process; raises KokoroError."""
    return ChildProcess(runner.factory, runner.arguments, timeout=TIMEOUT_SECONDS)


@dataclass
class Turn:
    """What one runner did so far."""

    runner: Runner
    remote: Remote | None = None
    failure: str | None = None
    loaded: Loaded | None = None
    first: dict[str, Said] = field(default_factory=dict)
    """By case; does not count."""
    rounds: dict[str, list[Said]] = field(default_factory=dict)
    """By case, round by round."""
    peak_bytes: int | None = None
    function_loads: Mapping[Place, float] = field(default_factory=dict)

    def ask(self, method: str, *arguments: Any, doing: str) -> Any:
        """Call its session; a failure ends its part, but not that of the others."""
        if self.remote is None or self.failure is not None:
            return None
        try:
            return self.remote.call(method, *arguments, doing=f"{self.runner.name}: {doing}")
        except KokoroError as error:
            self.failure = str(error)
            return None


def in_turns(
    runners: Sequence[Runner],
    lines: Sequence[Line],
    *,
    repeat: int,
    reporter: Reporter,
    start: Start = start,
) -> list[Turn]:
    """Let every runner say every line `repeat` times, after one time that does not count.

    A line that a runner cannot hold is skipped by all, so that all say the same. A runner that
    fails is left out from there on.

    Args:
        runners: in the order of the first round; each further one begins with the next of them.
        lines: to say.
        repeat: rounds that count.
        reporter: told of every round.
        start: makes the process of a runner.
    """
    turns = [Turn(runner) for runner in runners]
    with ExitStack() as open_now:
        for turn in turns:
            _start(turn, start, open_now, reporter)
        left = _first(turns, lines, reporter)
        for number in range(1, repeat + 1):
            with reporter.step(f"round {number} of {repeat}", len(left)) as one:
                first = (number - 1) % len(turns)
                for line in left:
                    _round(turns[first:] + turns[:first], line)
                    one(1)
        for turn in turns:
            turn.peak_bytes = turn.ask("peak_bytes", doing="reading its memory")
            turn.function_loads = turn.ask("load_seconds", doing="reading its times") or {}
    return turns


def _start(turn: Turn, start: Start, open_now: ExitStack, reporter: Reporter) -> None:
    if turn.runner.skipped is not None:
        return
    with reporter.step(f"load {turn.runner.name}"):
        try:
            turn.remote = open_now.enter_context(closing(start(turn.runner)))
        except KokoroError as error:
            turn.failure = str(error)
            return
        turn.loaded = turn.ask("load", doing="loading")


def _first(turns: Sequence[Turn], lines: Sequence[Line], reporter: Reporter) -> list[Line]:
    """Say every line once; returns those that every runner can hold."""
    held = []
    with reporter.step("say everything once, which does not count", len(lines)) as one:
        for line in lines:
            for turn in turns:
                said: Said | None = turn.ask("say", line, doing=f"saying {line.case}")
                if said is None:
                    continue
                turn.first[line.case] = said
                if said.skipped is not None:
                    break
            else:
                held.append(line)
            one(1)
    return held


def _round(turns: Sequence[Turn], line: Line) -> None:
    for turn in turns:
        said: Said | None = turn.ask("say", line, doing=f"saying {line.case}")
        if said is None:
            continue
        if said.skipped is not None:
            turn.failure = f"{line.case} fitted at first and then did not: {said.skipped}"
            continue
        turn.rounds.setdefault(line.case, []).append(said)
