"""Declared types of an ML Program and the torch tensors that carry their values.

Names are MIL's own ("fp16", "int32", "bool"). In the float32 mode every floating-point type up to
32 bits is carried as `torch.float32`; `uint16` and `uint32`, for which torch lacks arithmetic, are
carried in the next wider signed type. Source of the numbering: `DataType` in coremltools'
`MIL.proto`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kokoro_coreml.errors import PackageError

MAX_ELEMENTS = 2**31
"""Elements of one declared tensor; more (8 GiB in float32) can only be a broken package."""

MAX_RANK = 64
"""Dimensions of one declared tensor; real ones rarely pass 8."""


@dataclass(frozen=True)
class ElementType:
    """One element type of MIL.

    Attributes:
        name: as MIL's text form and the `cast` operation write it.
        bits: of one element in `weight.bin` and in raw immediates; below 8, elements are packed.
        storage: little-endian numpy type of a stored element (of an unpacked one below 8 bits).
        carrier: torch type the executor computes in.
        accepts: numpy types a caller may pass for an input declared with this type.
        blob: `MILBlob::Blob::BlobDataType` of this type, or None where it cannot be in a file.
    """

    name: str
    bits: int
    storage: np.dtype[Any]
    carrier: torch.dtype
    accepts: tuple[np.dtype[Any], ...]
    blob: int | None


def _element(
    name: str, bits: int, storage: str, carrier: torch.dtype, blob: int | None, *accepts: str
) -> ElementType:
    accepted = tuple(np.dtype(a) for a in accepts or (storage,))
    return ElementType(name, bits, np.dtype(storage), carrier, accepted, blob)


ELEMENT_TYPES: dict[int, ElementType] = {
    1: _element("bool", 8, "|b1", torch.bool, 3),
    10: _element("fp16", 16, "<f2", torch.float32, 1, "<f2", "<f4"),
    11: _element("fp32", 32, "<f4", torch.float32, 2),
    12: _element("fp64", 64, "<f8", torch.float64, None),
    21: _element("int8", 8, "|i1", torch.int8, 4),
    22: _element("int16", 16, "<i2", torch.int16, 6),
    23: _element("int32", 32, "<i4", torch.int32, 14),
    24: _element("int64", 64, "<i8", torch.int64, None),
    25: _element("int4", 4, "|i1", torch.int8, 8),
    31: _element("uint8", 8, "|u1", torch.uint8, 3),
    32: _element("uint16", 16, "<u2", torch.int32, 7),
    33: _element("uint32", 32, "<u4", torch.int64, 15),
    35: _element("uint4", 4, "|u1", torch.uint8, 11),
    36: _element("uint2", 2, "|u1", torch.uint8, 10),
    37: _element("uint1", 1, "|u1", torch.uint8, 9),
    38: _element("uint6", 6, "|u1", torch.uint8, 13),
    39: _element("uint3", 3, "|u1", torch.uint8, 12),
}
"""By `MILSpec.DataType`; what else it numbers is refused, by name and with the reason."""

STRING = 2
BY_NAME: dict[str, ElementType] = {e.name: e for e in ELEMENT_TYPES.values()}
_NO_OPSET = "no operation set takes it, and coremltools writes none"
_REFUSED = {
    0: "UNUSED_TYPE is not supported: it names no type",
    13: f"bfloat16 is not supported: {_NO_OPSET}",
    34: "uint64 is not supported: torch has no wider integer to carry it in",
    40: f"fp8e4m3fn is not supported: {_NO_OPSET}",
    41: f"fp8e5m2 is not supported: {_NO_OPSET}",
}


@dataclass(frozen=True)
class TensorSpec:
    """A declared tensor: MIL's name of its element type, and its shape.

    A dimension is None where the package leaves it open. The shape of a scalar is `()`.
    """

    dtype: str
    shape: tuple[int | None, ...]

    @property
    def numpy_dtypes(self) -> tuple[np.dtype[Any], ...]:
        """numpy types an input of this type may have."""
        return BY_NAME[self.dtype].accepts

    @property
    def carrier(self) -> torch.dtype:
        """torch type the executor keeps such a tensor in."""
        return BY_NAME[self.dtype].carrier

    def admits_shape(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of `shape` is an instance of this declaration."""
        return len(shape) == len(self.shape) and all(
            declared is None or declared == found
            for declared, found in zip(self.shape, shape, strict=True)
        )

    def __str__(self) -> str:
        dims = ", ".join("?" if d is None else str(d) for d in self.shape)
        return f"{self.dtype}[{dims}]"


@dataclass(frozen=True)
class OpaqueSpec:
    """A declared value that is not a numeric tensor: a string, list, tuple or dictionary."""

    kind: str

    def __str__(self) -> str:
        return self.kind


@dataclass(frozen=True)
class StateSpec:
    """A declared state: a tensor that lives from one call to the next."""

    tensor: TensorSpec

    def __str__(self) -> str:
        return f"state<{self.tensor}>"


ValueSpec = TensorSpec | OpaqueSpec | StateSpec


def value_spec(value_type: Any, where: str) -> ValueSpec:
    """Read a `MILSpec.ValueType`.

    Raises:
        PackageError: the type is empty, unknown, absurdly large or of open rank; `where` is named.
    """
    kind = value_type.WhichOneof("type")
    if kind is None:
        raise PackageError(f"{where}: no type is declared")
    if kind == "stateType":
        wrapped = value_spec(value_type.stateType.wrappedType, f"{where}, the state's content")
        if not isinstance(wrapped, TensorSpec) or None in wrapped.shape:
            raise PackageError(f"{where}: a state of {wrapped} is not supported")
        return StateSpec(wrapped)
    if kind != "tensorType":
        return OpaqueSpec(kind.removesuffix("Type"))
    tensor = value_type.tensorType
    if tensor.dataType == STRING:
        return OpaqueSpec("string")
    element = element_type(tensor.dataType, where)
    return TensorSpec(element.name, declared_shape(tensor, where))


def element_type(code: int, where: str) -> ElementType:
    """The element type numbered `code` in `MILSpec.DataType`; PackageError if it is unknown."""
    found = ELEMENT_TYPES.get(code)
    if found is None:
        reason = _REFUSED.get(code, f"number {code} is unknown")
        raise PackageError(f"{where}: element type {reason}; known are {', '.join(BY_NAME)}")
    return found


def declared_shape(tensor: Any, where: str) -> tuple[int | None, ...]:
    """Dimensions of a `MILSpec.TensorType`; PackageError if they are absurd or of open rank."""
    if tensor.rank != len(tensor.dimensions):
        raise PackageError(
            f"{where}: rank is declared as {tensor.rank}, but {len(tensor.dimensions)} "
            "dimensions are given (open rank is not supported)"
        )
    if tensor.rank > MAX_RANK:
        raise PackageError(f"{where}: rank {tensor.rank} is above {MAX_RANK}")
    shape = tuple(_dimension(d, where) for d in tensor.dimensions)
    if math.prod(d for d in shape if d) > MAX_ELEMENTS:  # a 0 must not hide an absurd size
        raise PackageError(f"{where}: shape {shape} holds more than {MAX_ELEMENTS} elements")
    return shape


def _dimension(dimension: Any, where: str) -> int | None:
    kind = dimension.WhichOneof("dimension")
    if kind == "constant":
        return int(dimension.constant.size)
    if kind == "unknown" and not dimension.unknown.variadic:
        return None
    raise PackageError(f"{where}: a dimension is neither a size nor unknown")
