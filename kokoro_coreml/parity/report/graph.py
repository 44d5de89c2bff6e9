"""Error along the graph: every compared operation, in program order, on a scale of dB."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from kokoro_coreml.parity.results import CAP, OperationError

HALF_ROUNDING_DB = 74.4
"""SNR of one rounding to half precision: 10 log10(12 * 2^20 * 3 / (2 ln 2)), for magnitudes spread
evenly on a logarithmic scale and an error spread evenly over one step of the 11-bit significand."""

HALF_DROP_DB = HALF_ROUNDING_DB - 14.4
"""A half-precision operation below this loses five times more than by rounding its result."""

FULL_DROP_DB = 100.0
"""Any other operation below this: float32 sums in another order stay above."""

TOP_DB = 160.0
"""Above it values are drawn on the upper edge: float32 itself resolves no more."""

LEVELS_DB = (120.0, 100.0, 80.0, 60.0, 50.0, 40.0, 30.0, 20.0, 0.0)
"""Levels of accumulated error whose first operation is named."""

WORST = 30
"""Operations listed in the table."""

MARKED = 6
"""Operations numbered in the chart."""

WIDTH, LEFT, RIGHT = 1000.0, 58.0, 12.0
PANEL_TOPS, PANEL_HEIGHT, HEIGHT = (46.0, 304.0), 200.0, 552.0


@dataclass(frozen=True)
class Mark:
    """One operation as two dots, above what so far and below what alone."""

    path: str
    kind: str
    """`half`, `full` or `other`: the declared type."""
    title: str


@dataclass(frozen=True)
class Tick:
    """A line of the grid with its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Band:
    """A run of operations of one part of the network."""

    start: float
    width: float
    name: str


@dataclass(frozen=True)
class Numbered:
    """A marked operation, where its dot is."""

    number: int
    x: float
    y: float
    text_y: float
    operation: OperationError


@dataclass(frozen=True)
class Milestone:
    """First operation whose accumulated error is past one level, or several at once."""

    levels_db: tuple[float, ...]
    operation: OperationError


@dataclass(frozen=True)
class Chart:
    """All coordinates of the drawing, and what stands beside it."""

    marks: tuple[Mark, ...]
    equal_paths: tuple[tuple[str, str], ...]
    """Kind and path of the operations without any error."""
    lowest: str
    """Path of the lowest accumulated SNR so far."""
    rounding_y: float | None
    rows: tuple[tuple[Tick, ...], ...]
    """Ticks of dB, one tuple per panel."""
    columns: tuple[Tick, ...]
    bands: tuple[Band, ...]
    drops: tuple[Numbered, ...]
    drop_count: int
    milestones: tuple[Milestone, ...]
    worst: tuple[OperationError, ...]
    equal_count: int
    count: int


def kind(operation: OperationError) -> str:
    """`half`, `full` or `other`, by the declared type."""
    name = operation.declared.partition("[")[0].strip().lower()
    if name in ("fp16", "float16"):
        return "half"
    return "full" if name in ("fp32", "float32") else "other"


def drops(operations: Sequence[OperationError]) -> list[OperationError]:
    """Operations that by themselves lose more than their declared type explains."""
    limit = {"half": HALF_DROP_DB, "full": FULL_DROP_DB, "other": FULL_DROP_DB}
    return [o for o in operations if not o.local_snr_db >= limit[kind(o)]]


def milestones(operations: Sequence[OperationError]) -> list[Milestone]:
    """The first operation below each level that is passed, levels of one operation together."""
    first = [next((o for o in operations if o.snr_db < level), None) for level in LEVELS_DB]
    groups = groupby(zip(LEVELS_DB, first, strict=True), key=lambda pair: id(pair[1]))
    pairs = [list(group) for _, group in groups]
    return [
        Milestone(tuple(level for level, _ in group), group[0][1])
        for group in pairs
        if group[0][1] is not None
    ]


def describe(operation: OperationError) -> str:
    """All that is known of an operation, on one line per fact."""
    return "\n".join(
        [
            f"#{operation.position} {operation.type} {operation.name}",
            operation.module or "module unknown",
            operation.declared,
            f"so far {decibel(operation.snr_db)}, alone {decibel(operation.local_snr_db)}",
        ]
    )


def decibel(value: float) -> str:
    """An SNR in dB; its caps are written out."""
    if value >= CAP:
        return "equal"
    return "not a number" if value <= -CAP else f"{value:.1f} dB".replace("-", "\N{MINUS SIGN}")


def chart(operations: Sequence[OperationError]) -> Chart:
    """Lay the operations out; there must be at least one."""
    x = _scale_x(operations)
    low = _lowest_tick(operations)
    height = [_scale_y(top, low) for top in PANEL_TOPS]
    far, local = height
    equal = [o for o in operations if min(o.snr_db, o.local_snr_db) >= CAP]
    unequal = [o for o in operations if min(o.snr_db, o.local_snr_db) < CAP]
    bad = drops(operations)

    def path(o: OperationError) -> str:
        at, y = x(o.position), far(o.snr_db)
        return f"M{at:.1f} {y:.1f}h0m0 {local(o.local_snr_db) - y:.1f}h0"

    equal_paths = [(k, "".join(path(o) for o in equal if kind(o) == k)) for k in _KINDS]
    half = any(kind(o) == "half" for o in operations)
    return Chart(
        marks=tuple(Mark(path(o), kind(o), describe(o)) for o in unequal),
        equal_paths=tuple(pair for pair in equal_paths if pair[1]),
        lowest=_lowest(operations, x, far),
        rounding_y=local(HALF_ROUNDING_DB) if half else None,
        rows=tuple(_rows(y, low) for y in height),
        columns=_columns(operations, x),
        bands=_bands(operations, x),
        drops=tuple(
            _numbered(number, x(o.position), local(o.local_snr_db), o)
            for number, o in enumerate(bad[:MARKED], start=1)
        ),
        drop_count=len(bad),
        milestones=tuple(milestones(operations)),
        worst=tuple(sorted(unequal, key=lambda o: o.local_snr_db)[:WORST]),
        equal_count=len(equal),
        count=len(operations),
    )


_KINDS = ("half", "full", "other")


def _numbered(number: int, x: float, y: float, operation: OperationError) -> Numbered:
    """The number stands below the dot, where it is emptier, unless that is off the panel."""
    below = y + 21.0
    fits = below < PANEL_TOPS[1] + PANEL_HEIGHT
    return Numbered(number, x, y, below if fits else y - 12.0, operation)


def _scale_x(operations: Sequence[OperationError]) -> Callable[[int], float]:
    first, last = operations[0].position, operations[-1].position
    inset = 8.0
    span = WIDTH - LEFT - RIGHT - 2 * inset
    return lambda at: LEFT + inset + span * (at - first) / max(last - first, 1)


def _scale_y(top: float, low: float) -> Callable[[float], float]:
    return lambda db: top + PANEL_HEIGHT * (TOP_DB - max(low, min(TOP_DB, db))) / (TOP_DB - low)


def _lowest_tick(operations: Sequence[OperationError]) -> float:
    values = [v for o in operations for v in (o.snr_db, o.local_snr_db)]
    real = [v for v in values if abs(v) < CAP]
    low = 20.0 * min(0.0, max(-40.0, min(real, default=0.0)) // 20.0)
    return low - 20.0 if any(v <= -CAP for v in values) else low


def _rows(y: Callable[[float], float], low: float) -> tuple[Tick, ...]:
    minus = "\N{MINUS SIGN}"
    ticks = [Tick(y(db), f"{db:g}".replace("-", minus)) for db in range(int(low), int(TOP_DB), 20)]
    return (*ticks, Tick(y(TOP_DB), "equal"))


def _columns(operations: Sequence[OperationError], x: Callable[[int], float]) -> tuple[Tick, ...]:
    first, last = operations[0].position, operations[-1].position
    step = next(
        s for e in range(9) for m in (1, 2, 5) if (s := m * 10**e) * 10 >= last - first or e == 8
    )
    start = -(-first // step) * step
    return tuple(Tick(x(at), f"{at}") for at in range(start, last + 1, step))


def _lowest(
    operations: Sequence[OperationError], x: Callable[[int], float], y: Callable[[float], float]
) -> str:
    path, low = f"M{x(operations[0].position):.1f} {y(TOP_DB):.1f}", TOP_DB
    for o in operations:
        if o.snr_db < low:
            low = o.snr_db
            path += f"H{x(o.position):.1f}V{y(low):.1f}"
    return f"{path}H{x(operations[-1].position):.1f}"


def _bands(operations: Sequence[OperationError], x: Callable[[int], float]) -> tuple[Band, ...]:
    """Runs of one top-level module; what is shorter than 2 % of the width joins its neighbour."""
    runs: list[tuple[str, float, float]] = []
    for name, group in groupby(_parts(operations), key=lambda pair: pair[0]):
        positions = [position for _, position in group]
        start, end = x(positions[0]), x(positions[-1])
        if runs and (end - start < 0.02 * WIDTH or runs[-1][0] == name):
            runs[-1] = (runs[-1][0], runs[-1][1], end)
        else:
            runs.append((name, start, end))
    return tuple(Band(a, max(b - a, 1.0), name) for name, a, b in runs)


def _parts(operations: Sequence[OperationError]) -> list[tuple[str, int]]:
    """Top-level part of the network and position, for operations whose module is known."""
    paths = [
        (re.split(r"[\s:(]", o.module.strip())[0].split("."), o.position)
        for o in operations
        if o.module
    ]
    shared = 0
    while paths and all(len(p) > shared + 1 and p[shared] == paths[0][0][shared] for p, _ in paths):
        shared += 1
    return [(path[shared], position) for path, position in paths]
