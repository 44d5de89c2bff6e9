"""One function in a few numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from kokoro_coreml.placement.reading import Stored
from kokoro_coreml.placement.results import (
    DeviceTotal,
    Finding,
    PlacedOperation,
    Predicted,
    Summary,
)
from kokoro_coreml.placement.rules import SEVERITIES

DEVICES: tuple[Predicted, ...] = ("NeuralEngine", "GPU", "CPU", "unknown")


def summarize(
    operations: Sequence[PlacedOperation],
    findings: Sequence[Finding],
    stored: Iterable[Stored],
    switches: int,
    seconds: float | None,
) -> Summary:
    """Add up a function.

    Args:
        operations: in order.
        findings: of them.
        stored: every constant; one stored blob counts once, however many share it.
        switches: of devices, at least.
        seconds: of audio that one call gives, or None.
    """
    widest = max(operations, key=lambda o: o.largest_axis or 0, default=None)
    multiply_adds = sum(o.multiply_adds or 0 for o in operations)
    arithmetic = sum(o.operations or 0 for o in operations)
    written = sum(o.output_bytes or 0 for o in operations)
    moved = written + sum(o.weight_bytes + (o.input_bytes or 0) for o in operations)
    return Summary(
        operations=len(operations),
        devices=_devices(operations),
        switches=switches,
        largest_axis=widest.largest_axis if widest else None,
        largest_axis_at=f"{widest.type} {widest.name}" if widest else None,
        multiply_adds=multiply_adds,
        arithmetic=arithmetic,
        uncounted=sum(o.operations is None for o in operations),
        weight_bytes=sum({s.key: s.bytes for s in stored}.values()),
        activation_bytes=written,
        seconds=seconds,
        multiply_adds_per_second=multiply_adds / seconds if seconds else None,
        arithmetic_per_second=arithmetic / seconds if seconds else None,
        bytes_per_second=moved / seconds if seconds else None,
        findings={s: sum(f.severity == s for f in findings) for s in SEVERITIES},
    )


def least_switches(operations: Sequence[PlacedOperation], generations: Iterable[str]) -> int:
    """Changes of device that operations in a row make on every one of some generations, at least.

    Operations whose device is unknown are passed over: they can add changes, never take one away.
    """
    return min(_switches(on(operations, generation)) for generation in generations)


def on(operations: Iterable[PlacedOperation], generation: str) -> list[Predicted]:
    """Devices predicted for one of the generations that were asked about."""
    return [o.devices.get(generation, o.predicted) for o in operations]


def _switches(devices: Iterable[Predicted]) -> int:
    known = [device for device in devices if device != "unknown"]
    return sum(a != b for a, b in itertools.pairwise(known))


def _devices(operations: Sequence[PlacedOperation]) -> tuple[DeviceTotal, ...]:
    total = sum(o.operations or 0 for o in operations)
    found = []
    for device in DEVICES:
        own = [o for o in operations if o.predicted == device]
        if own:
            count = sum(o.operations or 0 for o in own)
            adds = sum(o.multiply_adds or 0 for o in own)
            found.append(DeviceTotal(device, len(own), adds, count / total if total else None))
    return tuple(found)
