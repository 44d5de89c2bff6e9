"""A benchmark for a person to read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kokoro_coreml.bench.results import (
    BenchReport,
    BundleSize,
    CaseTime,
    Conversion,
    ConversionRun,
    DeviceResult,
    FunctionTime,
    RunnerResult,
    Spread,
    Utterances,
)

NONE = "-"

Row = Sequence[str]


def render(report: BenchReport) -> str:
    """The whole text: tables, and in the end what was not measured and why."""
    blocks = [_head(report)]
    if report.bundle is not None:
        blocks.append(_sizes(report.bundle))
    if report.utterances is not None:
        blocks += _utterances(report.utterances)
    for device in report.devices:
        blocks += _device(device)
    if report.conversion is not None:
        blocks.append(_conversion(report.conversion))
    if report.not_measured:
        lines = [f"  {one.what}: {one.reason}" for one in report.not_measured]
        blocks.append("\n".join(["Not measured", *lines]))
    return "\n\n".join(blocks)


def table(title: str, head: Row, rows: Sequence[Row]) -> str:
    """A title, and columns: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(row: Row) -> str:
        first, *others = row
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        return ("  " + "  ".join(cells)).rstrip()

    return "\n".join([title, *(line(row) for row in (head, *rows))])


def _head(report: BenchReport) -> str:
    machine = report.machine
    cores = f"{machine.cores or 'unknown number of'} cores"
    used = "" if machine.load_average is None else f", load {machine.load_average:g} at the start"
    spoken = report.utterances is not None or report.devices
    rounds = f"{report.repeat} rounds, " if spoken else ""
    tools = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return "\n".join(
        [
            f"kokoro-coreml {report.project_version}: {rounds}{report.threads} threads",
            f"  {machine.system}, {machine.processor}, {cores}, {_bytes(machine.memory_bytes)} "
            f"of memory{used}",
            f"  {tools}",
        ]
    )


def _sizes(bundle: BundleSize) -> str:
    rows: list[Row] = []
    for package in bundle.packages:
        sizes = (_bytes(package.graph_bytes), _bytes(package.weight_bytes))
        rows.append((package.file, package.precision, package.compute_units, "", *sizes))
        for one in package.functions:
            sizes = (_bytes(one.graph_bytes), _bytes(one.weight_bytes))
            rows.append((f"  {one.name}", "", "", str(one.operations), *sizes))
    head = ("package, function", "precision", "units", "operations", "graph", "weights")
    title = f"Sizes of {bundle.name} (recipe {bundle.recipe}): {_bytes(bundle.total_bytes)}"
    return table(title, head, rows)


def _utterances(found: Utterances) -> Iterator[str]:
    yield table(
        f"Utterances of the suite {found.suite}, in turns: {', '.join(found.order)}",
        ("runner", "audio s per s", "load", "base memory", "loaded", "peak"),
        [_runner(runner) for runner in found.runners],
    )
    lines = [f"  {r.name}: {r.what}{_why(r.verdict, r.reason)}" for r in found.runners]
    yield "\n".join(["Runners", *lines])
    cases = [(runner.name, case) for runner in found.runners for case in runner.cases]
    yield _cases("Cases", "runner, case", cases)
    if found.ratios:
        ratios = [
            (f"{r.runner} / {r.versus}, {r.case or 'all cases'}", *_spread(r.times_as_fast, _times))
            for r in found.ratios
        ]
        yield table("Times as fast", ("runners", "median", "least", "greatest"), ratios)
    functions = [one for runner in found.runners for one in runner.functions]
    if functions:
        yield _functions(functions)


def _runner(runner: RunnerResult) -> Row:
    return (
        runner.name,
        _number(runner.real_time_factor),
        _seconds(runner.load_seconds),
        _bytes(runner.base_bytes),
        _bytes(runner.loaded_bytes),
        _bytes(runner.peak_bytes),
    )


def _cases(title: str, first: str, cases: Sequence[tuple[str, CaseTime]]) -> str:
    """What was said, and below it what was not and why."""
    head = (first, "tokens", "audio", "first", "median", "least", "greatest", "audio s per s")
    rows = [
        (
            f"{owner}, {case.case}",
            str(case.tokens),
            _seconds(case.audio_seconds),
            _seconds(case.first_seconds),
            *_spread(case.seconds, _seconds),
            _number(case.real_time_factor),
        )
        for owner, case in cases
        if case.seconds is not None
    ]
    return _with_reasons(table(title, head, rows), [(c.case, c.reason) for _, c in cases])


def _functions(functions: Sequence[FunctionTime]) -> str:
    names = [f"{one.package}:{one.function}" for one in functions]
    rows = [
        (name, _seconds(one.load_seconds), *_spread(one.run_seconds, _seconds))
        for name, one in zip(names, functions, strict=True)
        if one.run_seconds is not None
    ]
    head = ("package, function", "load", "run", "least", "greatest")
    reasons = [(name, one.reason) for name, one in zip(names, functions, strict=True)]
    return _with_reasons(table("Functions in the executor", head, rows), reasons)


def _with_reasons(text: str, reasons: Sequence[tuple[str, str | None]]) -> str:
    lines = [f"  not measured: {name}: {reason}" for name, reason in reasons if reason]
    return "\n".join([text, *dict.fromkeys(lines)])


def _device(device: DeviceResult) -> Iterator[str]:
    rows = [
        (
            f"{one.package}:{one.function}",
            one.compute_units,
            _seconds(one.compile_seconds),
            _seconds(one.cold_load_seconds),
            _seconds(one.warm_load_seconds),
            _seconds(one.first_seconds),
            *_spread(one.run_seconds, _seconds),
        )
        for one in device.functions
    ]
    head = ("function", "units", "compile", "cold load", "warm load", "first run")
    title = f"Core ML on {device.compute_units}{_why(device.verdict, device.reason)}"
    yield table(title, (*head, "run", "least", "greatest"), rows)
    cases = [(device.compute_units, case) for case in device.cases]
    whole = f"Utterances: {_number(device.real_time_factor)} s of audio per s"
    yield _cases(whole, "units, case", cases)


def _conversion(conversion: Conversion) -> str:
    steps = dict.fromkeys(step.name for run in conversion.runs for step in run.steps)
    rows: list[Row] = [(name, *_cells(conversion.runs, name)) for name in steps]
    rows.append(("other", *_flat((_seconds(r.other_seconds), NONE) for r in conversion.runs)))
    totals = ((_seconds(r.seconds), _bytes(r.peak_bytes)) for r in conversion.runs)
    rows.append(("everything", *_flat(totals)))
    rows.append(("bundle", *_flat((_bytes(r.bundle_bytes), "") for r in conversion.runs)))
    head = ("step", *_flat((run.name, "peak memory") for run in conversion.runs))
    title = f"Conversion of {conversion.recipe}, weights {conversion.checkpoint}"
    reasons = [f"  {run.name}{_why(run.verdict, run.reason)}" for run in conversion.runs]
    failed = [line for line, run in zip(reasons, conversion.runs, strict=True) if run.reason]
    return "\n".join([table(title, head, rows), *failed])


def _cells(runs: Sequence[ConversionRun], name: str) -> list[str]:
    found = [next((s for s in run.steps if s.name == name), None) for run in runs]
    pairs = ((_seconds(s.seconds), _bytes(s.peak_bytes)) if s else (NONE, NONE) for s in found)
    return _flat(pairs)


def _flat(pairs: Iterator[tuple[str, str]]) -> list[str]:
    return [cell for pair in pairs for cell in pair]


def _why(verdict: str, reason: str | None) -> str:
    return f" ({verdict}: {reason})" if reason else ""


def _spread(spread: Spread | None, show: Callable[[float], str]) -> tuple[str, str, str]:
    if spread is None:
        return (NONE, NONE, NONE)
    return (show(spread.median), show(spread.least), show(spread.greatest))


def _seconds(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.1f} ms"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3g}"


def _times(value: float | None) -> str:
    return NONE if value is None else f"{value:.3g} x"


def _bytes(value: int | None) -> str:
    if value is None:
        return NONE
    return f"{value / 1e6:.1f} MB" if value < 1e9 else f"{value / 1e9:.2f} GB"
