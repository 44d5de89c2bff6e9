"""Numeric modes: what happens to a result between one operation and the next.

`float32`   every float is computed and kept in float32, so the program is judged, not its rounding
`declared`  computed in float32, then rounded once to the type the program declares
`stress`    as `declared`, with half-precision subnormals flushed to 0, and every value reported
            that a device may not hold

A declared type is the *least* precision a device must keep, so no single half-precision result is
the right one; `declared` is the reading that loses most once per operation. Source of the limit of
accumulators: FACTS.md section 4, measured on M4 and M6 by others, not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor.graph import Operation
from kokoro_coreml.executor.types import TensorSpec

PRECISIONS = ("float32", "declared", "stress")
"""Numeric modes that exist."""

LARGEST_ACCUMULATED = 32_752.0
"""Largest half-precision sum of products that a Neural Engine was seen to keep."""

LARGEST_HALF = float(torch.finfo(torch.float16).max)
SMALLEST_NORMAL_HALF = float(torch.finfo(torch.float16).smallest_normal)

ACCUMULATING = frozenset(
    {
        "conv",
        "conv_quantized",
        "conv_transpose",
        "einsum",
        "linear",
        "matmul",
        "scaled_dot_product_attention",
    }
)
"""Operations that sum products."""

Kind = Literal["accumulator", "overflow", "nan", "subnormal"]

MEANING: dict[Kind, str] = {
    "accumulator": f"a sum of products above {LARGEST_ACCUMULATED:,.0f} in half precision",
    "overflow": "infinity in half precision",
    "nan": "not a number",
    "subnormal": "a value below the normal range of half precision, flushed to 0",
}


@dataclass(frozen=True)
class Finding:
    """Values of one result that a device may not hold.

    Attributes:
        kind: see `MEANING`.
        operation: that gave them.
        name: of the result.
        count: how many of its elements.
        elements: how many it has.
        largest: largest magnitude among them, before rounding.
    """

    kind: Kind
    operation: Operation
    name: str
    count: int
    elements: int
    largest: float

    def __str__(self) -> str:
        return (
            f"{self.operation}: {self.count} of {self.elements} elements of '{self.name}': "
            f"{MEANING[self.kind]} (largest magnitude {self.largest:.4g})"
        )


Report = Callable[[Finding], None]


class Numerics:
    """Applies one mode to the results of operations."""

    def __init__(self, precision: str) -> None:
        """`precision` is one of `PRECISIONS`; PackageError if not."""
        if precision not in PRECISIONS:
            raise PackageError(
                f"precision {precision!r} does not exist; available: {', '.join(PRECISIONS)}"
            )
        self.precision = precision

    def input(self, name: str, spec: TensorSpec, value: Tensor, report: Report) -> Tensor:
        """An input as the program sees it; findings name it as operation -1, input."""
        if self.precision == "float32" or spec.dtype != "fp16":
            return value
        return self._round(Operation(-1, "input", {}, ((name, spec),)), name, value, report)

    def result(
        self, operation: Operation, results: tuple[Tensor, ...], report: Report
    ) -> tuple[Tensor, ...]:
        """Results as the next operation sees them; only half-precision ones change."""
        if self.precision == "float32":
            return results
        return tuple(
            self._round(operation, name, value, report)
            if isinstance(spec, TensorSpec) and spec.dtype == "fp16"
            else value
            for (name, spec), value in zip(operation.outputs, results, strict=True)
        )

    def _round(self, operation: Operation, name: str, value: Tensor, report: Report) -> Tensor:
        rounded = value.to(torch.float16).to(torch.float32)
        if self.precision == "declared":
            return rounded
        tiny = (value != 0) & (rounded.abs() < SMALLEST_NORMAL_HALF)
        for finding in _findings(operation, name, value, rounded, tiny):
            report(finding)
        return rounded.masked_fill(tiny, 0.0)


def _findings(
    operation: Operation, name: str, value: Tensor, rounded: Tensor, tiny: Tensor
) -> list[Finding]:
    masks: dict[Kind, Tensor] = {
        "overflow": rounded.isinf(),
        "nan": value.isnan(),
        "subnormal": tiny,
    }
    if operation.type in ACCUMULATING:
        masks["accumulator"] = value.abs() > LARGEST_ACCUMULATED
    found = []
    for kind, mask in masks.items():
        count = int(mask.sum())
        if count:
            largest = float(value[mask].abs().max())
            found.append(Finding(kind, operation, name, count, value.numel(), largest))
    return found
