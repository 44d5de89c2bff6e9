"""Which operation of a package the error comes from.

The package runs beside a reference that knows the same values by name: the traced PyTorch module,
or the same package at another precision. Two runs give two numbers per operation: its error with
everything before it (`snr_db`), and its error when it is fed the reference's own values
(`local_snr_db`). Only the second one accuses an operation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from kokoro_coreml.executor import Operation, Program
from kokoro_coreml.executor.types import TensorSpec
from kokoro_coreml.parity.results import OperationError, finite

_OUTSTANDING = 1e3
"""An element so many times as large as is typical may hide the others."""

_SAMPLED = 4096

HALF_STEP = 2.0**-25
"""Half the distance between the smallest numbers of half precision. It is all there is of a value
that ought to be 0, as the mean of centred values and its multiples, and no operation's fault."""

Named = Iterator[tuple[str, Tensor]]
"""Values by package name, in an order close to the program's."""


class _Beside:
    """Follows a program operation by operation with a reference's values."""

    def __init__(self, reference: Named, *, forced: bool) -> None:
        self.reference, self.forced = reference, forced
        self.waiting: dict[str, Tensor] = {}
        self.errors: dict[str, float] = {}
        self.names: set[str] = set()

    def expect(self, names: set[str]) -> None:
        self.names = names

    def __call__(
        self, operation: Operation, results: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...] | None:
        replaced = [
            self._compare(name, value, _resolution(spec) if self.forced else 0.0)
            for (name, spec), value in zip(operation.outputs, results, strict=True)
        ]
        return tuple(replaced) if self.forced else None

    def _compare(self, name: str, value: Tensor, resolution: float) -> Tensor:
        expected = self._find(name) if name in self.names else None
        if expected is None or not isinstance(value, Tensor):
            return value
        if expected.numel() != value.numel():
            self.errors[name] = float("-inf")  # another length can be no rearrangement
            return value
        if expected.shape != value.shape:
            return value
        self.errors[name] = tensor_snr_db(
            reference=expected, candidate=value, resolution=resolution
        )
        return expected.to(value.dtype)

    def _find(self, name: str) -> Tensor | None:
        while name not in self.waiting:
            found = next(self.reference, None)
            if found is None:
                return None
            if found[0] in self.names:
                self.waiting[found[0]] = found[1]
        return self.waiting.pop(name)


def _resolution(spec: object) -> float:
    """Differences up to this are none, for a value declared as `spec`."""
    return HALF_STEP if isinstance(spec, TensorSpec) and spec.dtype == "fp16" else 0.0


def tensor_snr_db(*, reference: Tensor, candidate: Tensor, resolution: float = 0.0) -> float:
    """SNR in dB over all elements, or over those of usual size if that is lower.

    Equal elements count as right, infinite ones and NaN included. Without the second reading a few
    large entries, such as the -1e4 of masked scores, would hide that all others are wrong.

    Args:
        reference: of any shape.
        candidate: of the same shape.
        resolution: elements of floating point closer than this count as equal.
    """
    if torch.equal(reference, candidate):  # the rule between a package and its trace
        return float("inf")
    if reference.dtype == torch.bool or candidate.dtype == torch.bool:
        reference, candidate = reference.to(torch.float32), candidate.to(torch.float32)
    if reference.dtype.is_floating_point:
        difference = reference - candidate
        equal = (reference == candidate) | (reference.isnan() & candidate.isnan())
        difference = difference.masked_fill(equal | (difference.abs() <= resolution), 0)
        reference = reference.masked_fill(~reference.isfinite(), 0)
    else:
        difference = reference.to(torch.float64) - candidate.to(torch.float64)
    whole = _ratio_db(reference, difference)
    usual = reference.abs() <= _OUTSTANDING * _typical(reference)
    if bool(usual.all()):
        return whole
    rest = _ratio_db(reference.masked_fill(~usual, 0), difference.masked_fill(~usual, 0))
    return rest if np.isnan(whole) else min(whole, rest)


def _typical(x: Tensor) -> float:
    """About the median magnitude of what is not 0."""
    some = x.reshape(-1)[:: max(1, x.numel() // _SAMPLED)].abs().to(torch.float32)
    some = some[some > 0]
    return float(some.median()) if some.numel() else float(x.abs().max())


def _ratio_db(reference: Tensor, difference: Tensor) -> float:
    noise, signal = _power(difference), _power(reference)
    if np.isnan(noise):
        return float("nan")
    if noise == 0.0:
        return float("inf")
    return float(10.0 * np.log10(signal / noise)) if signal > 0.0 else float("-inf")


def _power(x: Tensor) -> float:
    """Sum of squares in double precision, without a widened copy."""
    x = x if x.dtype.is_floating_point else x.to(torch.float32)
    return float(torch.linalg.vector_norm(x, dtype=torch.float64)) ** 2


def attribute(
    program: Program,
    inputs: Mapping[str, np.ndarray],
    references: tuple[Named, Named],
    names: set[str],
    modules: Mapping[str, str],
) -> list[OperationError]:
    """Compare every operation the reference knows by name.

    Args:
        program: the candidate.
        inputs: of the program.
        references: two fresh runs of the reference with the same inputs.
        names: values the reference will give.
        modules: package name to path and class in `kokoro_coreml.modules`.

    Returns:
        One entry per comparable result, in program order.

    Raises:
        PackageError: the program cannot be run with these inputs.
    """
    known = {name for operation in program.operations for name, _ in operation.outputs} & names
    total, local = (
        _Beside(reference, forced=forced)
        for reference, forced in zip(references, (False, True), strict=True)
    )
    for beside in (total, local):
        beside.expect(known)
    program(inputs, on_operation=total)
    if all(error == float("inf") for error in total.errors.values()):
        local.errors = total.errors  # nothing to separate
    else:
        program(inputs, on_operation=local)
    return list(_entries(program, total.errors, local.errors, modules))


def _entries(
    program: Program,
    total: Mapping[str, float],
    local: Mapping[str, float],
    modules: Mapping[str, str],
) -> Iterator[OperationError]:
    for operation in program.operations:
        for name, spec in operation.outputs:
            if name in total and name in local:
                yield OperationError(
                    position=operation.position,
                    type=operation.type,
                    name=name,
                    module=modules.get(name),
                    declared=str(spec),
                    snr_db=finite(total[name], "higher"),
                    local_snr_db=finite(local[name], "higher"),
                )


def half_precision(
    float32: Program,
    declared: Program,
    inputs: Mapping[str, np.ndarray],
    modules: Mapping[str, str],
) -> list[OperationError]:
    """What rounding to the declared types does, operation by operation.

    Args:
        float32: the package, loaded with the mode `float32`.
        declared: the same package with the mode to be judged.
        inputs: of both.
        modules: as in `attribute`.
    """
    names = {name for o in float32.operations if o.type != "const" for name, _ in o.outputs}
    references = (_values(float32, inputs), _values(float32, inputs))
    return attribute(declared, inputs, references, names, modules)


def _values(program: Program, inputs: Mapping[str, np.ndarray]) -> Named:
    for operation, results in program.iterate(inputs):
        for (name, _), value in zip(operation.outputs, results, strict=True):
            if isinstance(value, Tensor):
                yield name, value
