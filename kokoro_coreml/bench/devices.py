"""The bundle through Core ML, on each choice of compute units; needs a Mac."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from kokoro_coreml.bench.lines import Line
from kokoro_coreml.bench.request import BUNDLE_UNITS
from kokoro_coreml.bench.results import CaseTime, DeviceFunction, DeviceResult, Spread
from kokoro_coreml.bench.sessions import BundleVoice, Said, Session
from kokoro_coreml.bench.utterances import case_time, rounded, whole_factor
from kokoro_coreml.bench.watching import CLOCK, Clock
from kokoro_coreml.coreml import COMPUTE_UNITS, CoreMLWorker
from kokoro_coreml.errors import KokoroError
from kokoro_coreml.progress import Reporter
from kokoro_coreml.synthesis import Backend

EVERY_UNIT = (BUNDLE_UNITS, *COMPUTE_UNITS)


@dataclass
class _Function:
    """One function that was loaded, and how often it ran."""

    worker: CoreMLWorker
    warm_load_seconds: float | None = None

    def result(self) -> DeviceFunction:
        worker = self.worker
        runs = worker.run_seconds
        compiled = worker.compile_seconds
        return DeviceFunction(
            package=worker.path.name,
            function=worker.function,
            compute_units=worker.compute_units,
            compile_seconds=None if compiled is None else rounded(compiled),
            cold_load_seconds=rounded(worker.load_seconds),
            warm_load_seconds=self.warm_load_seconds,
            first_seconds=rounded(runs[0]) if runs else None,
            run_seconds=Spread.of(runs[1:]),
        )


@dataclass
class Device:
    """A bundle on one choice of compute units; what was measured before a failure is kept."""

    bundle: Path
    units: str
    """One of `EVERY_UNIT`."""
    compiled: Path
    """Folder for compiled packages, shared by all compute units."""
    repeat: int
    reporter: Reporter
    clock: Clock = CLOCK
    failure: str | None = None
    _functions: list[_Function] = field(default_factory=list)
    _first: dict[str, Said] = field(default_factory=dict)
    _rounds: dict[str, list[Said]] = field(default_factory=dict)

    def measure(self, lines: Sequence[Line]) -> DeviceResult:
        """Say every line once, then `repeat` times; then load everything again."""
        with self.reporter.step(f"Core ML on {self.units}"):
            try:
                with ExitStack() as open_now:
                    self._speak(lines, open_now)
                self._load_again()
            except KokoroError as error:
                self.failure = str(error)
        cases = tuple(self._case(line) for line in lines)
        return DeviceResult(
            compute_units=self.units,
            verdict="failed" if self.failure else "measured",
            reason=self.failure,
            functions=tuple(one.result() for one in self._functions),
            cases=cases,
            real_time_factor=whole_factor(cases),
        )

    def _speak(self, lines: Sequence[Line], open_now: ExitStack) -> None:
        def load(package: Path, function: str, own_units: str) -> Backend:
            worker = self._worker(package, function, own_units)
            open_now.enter_context(worker)
            self._functions.append(_Function(worker))
            return worker

        session = Session(lambda: BundleVoice(self.bundle, load), clock=self.clock)
        session.load()
        for line in lines:
            self._first[line.case] = session.say(line)
        held = [line for line in lines if self._first[line.case].skipped is None]
        for _ in range(self.repeat):
            for line in held:
                self._rounds.setdefault(line.case, []).append(session.say(line))

    def _load_again(self) -> None:
        """In processes of their own, one after the other; compiled already."""
        for one in self._functions:
            worker = one.worker
            with CoreMLWorker(
                worker.path, worker.function, worker.compute_units, folder=self.compiled
            ) as again:
                one.warm_load_seconds = rounded(again.load_seconds)

    def _worker(self, package: Path, function: str, own_units: str) -> CoreMLWorker:
        units = own_units if self.units == BUNDLE_UNITS else self.units
        return CoreMLWorker(package, function, units, folder=self.compiled)

    def _case(self, line: Line) -> CaseTime:
        first = self._first.get(line.case)
        reason = first.skipped if first is not None and first.skipped else self.failure
        return case_time(line, first, self._rounds.get(line.case, []), reason)


def measure_devices(
    bundle: Path,
    lines: Sequence[Line],
    *,
    units: Sequence[str],
    repeat: int,
    reporter: Reporter,
    clock: Clock = CLOCK,
) -> list[DeviceResult]:
    """Measure one choice of compute units after the other: all at once would not fit in memory.

    What Core ML refuses, crashes on or hangs at is reported as failed; the others are measured.

    Args:
        bundle: its folder.
        lines: to say.
        units: of `EVERY_UNIT`; empty means all.
        repeat: rounds that count.
        reporter: told of every choice.
        clock: times whole utterances, the way to the processes and back included.
    """
    with tempfile.TemporaryDirectory(prefix="kokoro-coreml-") as compiled:
        return [
            Device(bundle, one, Path(compiled), repeat, reporter, clock).measure(lines)
            for one in (units or EVERY_UNIT)
        ]
