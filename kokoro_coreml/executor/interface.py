"""The model description: the inputs, outputs and states an app sees, compared with the program.

Source of the fields: `ArrayFeatureType`, `StateFeatureType` and `ModelDescription` in coremltools'
`FeatureTypes.proto` and `Model.proto`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor.types import MAX_RANK, TensorSpec, ValueSpec

_ARRAY_TYPES = {
    0x10010: ("fp16", "float16"),
    0x10020: ("fp32", "float32"),
    0x10040: ("fp64", "float64"),
    0x20008: ("int8", "int8"),
    0x20020: ("int32", "int32"),
}
"""MIL's and numpy's name of each `ArrayFeatureType.ArrayDataType`."""

_MAX_LISTED = 8
"""Shapes, or names, given in one message."""


@dataclass(frozen=True)
class SizeRange:
    """Allowed sizes of one dimension, both ends included; `upper` None is unbounded."""

    lower: int
    upper: int | None

    def admits(self, size: int) -> bool:
        """Whether a dimension may have this size."""
        return self.lower <= size and (self.upper is None or size <= self.upper)

    def __str__(self) -> str:
        if self.lower == self.upper:
            return str(self.lower)
        return f"{self.lower}.." if self.upper is None else f"{self.lower}..{self.upper}"


@dataclass(frozen=True)
class DescribedArray:
    """One described multi-array.

    Attributes:
        kind: "input", "output" or "state".
        name: of the feature.
        dtype: MIL's name of its element type.
        default_shape: the shape an app sees first; empty where the description gives none.
        allowed: shapes it may have: one entry if fixed or a range, several if enumerated, none if
            the description leaves the shape open.
        optional: whether an app may leave this input out.
        default_value: what fills an optional input that is left out, if that is described.
    """

    kind: str
    name: str
    dtype: str
    default_shape: tuple[int, ...]
    allowed: tuple[tuple[SizeRange, ...], ...]
    optional: bool = False
    default_value: float | None = None

    @classmethod
    def read(cls, feature: Any, kind: str) -> DescribedArray:
        """Read a `FeatureDescription`.

        Raises:
            PackageError: it is not a multi-array, its type is unknown, its shapes contradict one
                another, or its default value is not of its type.
        """
        where = f"{kind} '{feature.name}'"
        array = _array(feature.type, kind, where)
        if array.dataType not in _ARRAY_TYPES:
            known = ", ".join(names[1] for names in _ARRAY_TYPES.values())
            raise PackageError(
                f"{where}: the model description has array type {array.dataType:#x}, which is "
                f"unknown; known are {known}"
            )
        default = tuple(int(d) for d in array.shape)
        allowed = _allowed(array, default, where)
        if default and not any(_fits(ranges, default) for ranges in allowed):
            raise PackageError(
                f"{where}: the described default shape {list(default)} is not allowed by "
                f"{_shapes(allowed)}"
            )
        dtype = _ARRAY_TYPES[array.dataType][0]
        value = _default_value(array, dtype, where)
        return cls(kind, feature.name, dtype, default, allowed, feature.type.isOptional, value)

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of `shape` may be passed. A scalar counts as [1], as Core ML has it."""
        return not self.allowed or any(_fits(r, tuple(shape) or (1,)) for r in self.allowed)

    def require(self, shape: tuple[int, ...]) -> None:
        """Raises PackageError if an array of `shape` is not allowed."""
        if not self.admits(shape):
            raise PackageError(
                f"{self.kind} '{self.name}': the model description allows {self}, "
                f"found shape {list(shape)}"
            )

    def default_array(self) -> np.ndarray | None:
        """The array an optional input has when it is left out, or None if that is not described."""
        if not self.optional or self.default_value is None:
            return None
        return np.full(self.default_shape, self.default_value, self.numpy_dtype)

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """numpy type of its elements."""
        return np.dtype(next(n for mil, n in _ARRAY_TYPES.values() if mil == self.dtype))

    def __str__(self) -> str:
        return f"{self.numpy_dtype} {_shapes(self.allowed)}"


def check_interface(
    description: Any,
    function_name: str,
    input_specs: Mapping[str, ValueSpec],
    output_specs: Mapping[str, ValueSpec],
    state_specs: Mapping[str, TensorSpec] | None = None,
) -> dict[str, DescribedArray]:
    """Compare a `ModelDescription` with what a function of the program declares.

    Args:
        description: of the whole model; a multifunction one describes each function.
        function_name: of the function that runs.
        input_specs: its tensor inputs, states left out.
        output_specs: its outputs; what is not a tensor is compared by name only.
        state_specs: the tensors its states hold; None leaves the states unchecked.

    Returns:
        The described inputs, by name.

    Raises:
        PackageError: the function is not described, or names, types or shapes differ.
    """
    described = _function(description, function_name)
    inputs = _check_features("input", described.input, input_specs, function_name)
    _check_features("output", described.output, output_specs, function_name)
    if state_specs is not None:
        _check_features("state", described.state, state_specs, function_name)
    return inputs


def _function(description: Any, name: str) -> Any:
    if not description.functions:
        return description
    found = [f for f in description.functions if f.name == name]
    if len(found) != 1:
        known = _listed(f.name for f in description.functions)
        raise PackageError(
            f"the model description has {len(found)} functions named '{name}'; it has {known}"
        )
    return found[0]


def _check_features(
    kind: str, features: Iterable[Any], specs: Mapping[str, ValueSpec], function_name: str
) -> dict[str, DescribedArray]:
    names = [f.name for f in features]
    if sorted(names) != sorted(specs):
        raise PackageError(
            f"the model description has the {kind}s {_listed(names)}, "
            f"but function '{function_name}' has {_listed(specs)}"
        )
    arrays = {}
    for feature in features:
        spec = specs[feature.name]
        if not isinstance(spec, TensorSpec):
            continue
        array = DescribedArray.read(feature, kind)
        if array.dtype != spec.dtype or not _agrees(array, spec):
            raise PackageError(
                f"{kind} '{feature.name}': the model description says {array}, the program {spec}"
            )
        arrays[feature.name] = array
    return arrays


def _agrees(array: DescribedArray, spec: TensorSpec) -> bool:
    """Whether the program takes (or may give) every shape that is described."""
    shape = spec.shape or (1,)
    return all(
        len(ranges) == len(shape)
        and all(
            size is None or (r.lower, r.upper) == (size, size)
            for size, r in zip(shape, ranges, strict=True)
        )
        for ranges in array.allowed
    )


def _array(feature_type: Any, kind: str, where: str) -> Any:
    wanted = "stateType" if kind == "state" else "multiArrayType"
    found = feature_type.WhichOneof("Type")
    if found != wanted:
        raise PackageError(
            f"{where} is described as {found or 'nothing'}; only {wanted} is supported here"
        )
    return feature_type.stateType.arrayType if kind == "state" else feature_type.multiArrayType


def _allowed(array: Any, default: tuple[int, ...], where: str) -> tuple[tuple[SizeRange, ...], ...]:
    flexibility = array.WhichOneof("ShapeFlexibility")
    if flexibility == "enumeratedShapes":
        shapes = [tuple(int(d) for d in s.shape) for s in array.enumeratedShapes.shapes]
        allowed = tuple(_exactly(shape) for shape in shapes)
        if not allowed:
            raise PackageError(f"{where}: the model description enumerates no shape")
    elif flexibility == "shapeRange":
        ranges = array.shapeRange.sizeRanges
        allowed = (tuple(_size_range(r) for r in ranges),)
    else:
        allowed = (_exactly(default),) if default else ()
    for ranges in allowed:
        empty = any(r.lower < 0 or (r.upper is not None and r.upper < r.lower) for r in ranges)
        if empty or not 0 < len(ranges) <= MAX_RANK:
            raise PackageError(
                f"{where}: the model description allows the shape {_shapes((ranges,))}, which "
                "no array has"
            )
    return allowed


def _size_range(proto: Any) -> SizeRange:
    upper = int(proto.upperBound)
    return SizeRange(int(proto.lowerBound), None if upper < 0 else upper)


def _exactly(shape: tuple[int, ...]) -> tuple[SizeRange, ...]:
    return tuple(SizeRange(d, d) for d in shape)


def _fits(ranges: tuple[SizeRange, ...], shape: tuple[int, ...]) -> bool:
    return len(ranges) == len(shape) and all(
        r.admits(d) for r, d in zip(ranges, shape, strict=True)
    )


def _default_value(array: Any, dtype: str, where: str) -> float | None:
    """Trap: coremltools writes `floatDefaultValue` for an input of any type."""
    kind = array.WhichOneof("defaultOptionalValue")
    if kind is None:
        return None
    value: float = getattr(array, kind)
    if dtype.startswith("int"):
        limits = np.iinfo(dtype)
        if not (limits.min <= value <= limits.max and value == int(value)):
            raise PackageError(f"{where}: the described default {value} is not an {dtype}")
    return value


def _listed(names: Iterable[str]) -> str:
    known = sorted(names)
    more = f" and {len(known) - _MAX_LISTED} more" if len(known) > _MAX_LISTED else ""
    return f"{known[:_MAX_LISTED]}{more}"


def _shapes(allowed: tuple[tuple[SizeRange, ...], ...]) -> str:
    texts = [f"[{', '.join(str(r) for r in ranges)}]" for ranges in allowed[:_MAX_LISTED]]
    if not texts:
        return "of any shape"
    if len(allowed) > _MAX_LISTED:
        texts.append(f"and {len(allowed) - _MAX_LISTED} more")
    return texts[0] if len(texts) == 1 else "one of " + ", ".join(texts)
