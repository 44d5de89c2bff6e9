"""Decoding of constants: immediates in the protobuf, and blobs in `weight.bin`.

Raw bytes (all of a blob; fp16, int8, uint8, uint32 and sub-byte immediates) are little-endian,
row-major; elements below 8 bits are packed from the least significant bit up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor.types import (
    STRING,
    ElementType,
    TensorSpec,
    declared_shape,
    element_type,
    value_spec,
)

Value = Any
"""A tensor, a str, or a (nested) tuple of values."""

BlobReader = Callable[[str, int, ElementType, tuple[int, ...]], torch.Tensor]
"""(file name, offset of the metadata, element type, shape) -> its tensor."""

_FIELDS = {
    "bools": "b",
    "ints": "i",
    "longInts": "i",
    "floats": "f",
    "doubles": "f",
    "strings": "",
}


def decode_value(value: Any, read_blob: BlobReader, where: str) -> Value:
    """Decode a `MILSpec.Value`.

    Returns:
        A tensor in its carrier type (float32 weights stay mapped to the file), a str for a string
        scalar, a tuple for string tensors, lists and tuples.

    Raises:
        PackageError: the value does not fit its declared type, or its bytes are not in the file.
    """
    kind = value.WhichOneof("value")
    if kind is None:
        raise PackageError(f"{where}: the constant has no value")
    if kind == "immediateValue":
        return _immediate(value, read_blob, where)
    spec = value_spec(value.type, where)
    if not isinstance(spec, TensorSpec):
        raise PackageError(f"{where}: a {spec} cannot be stored in a weight file")
    element = element_type(value.type.tensorType.dataType, where)
    _count(spec, where)
    blob = value.blobFileValue
    return read_blob(blob.fileName, blob.offset, element, _fixed(spec))


def packed_size(element: ElementType, count: int) -> int:
    """Bytes that `count` elements take."""
    return (element.bits * count + 7) // 8


def from_raw(raw: np.ndarray, element: ElementType, shape: tuple[int, ...]) -> torch.Tensor:
    """Turn raw bytes into a tensor of `element`'s carrier type; float32 is not copied."""
    count = math.prod(shape)
    if element.bits < 8:
        array = _unpack(raw, element, count)
    elif element.name == "bool":
        array = raw.view(np.uint8) != 0
    else:
        array = raw.view(element.storage)
    if count == 0:
        return torch.empty(shape, dtype=element.carrier)
    if element.name in ("uint16", "uint32"):
        array = array.astype(np.int64)
    return torch.from_numpy(array.reshape(shape)).to(element.carrier)


def _unpack(raw: np.ndarray, element: ElementType, count: int) -> np.ndarray:
    bits = np.unpackbits(raw, bitorder="little")[: count * element.bits]
    weights = (1 << np.arange(element.bits)).astype(np.uint8)
    unsigned: np.ndarray = (bits.reshape(count, element.bits) * weights).sum(axis=1, dtype=np.uint8)
    if element.storage.kind == "u":
        return unsigned
    shift = 8 - element.bits
    signed: np.ndarray = (unsigned << shift).astype(np.int8) >> shift
    return signed


def _immediate(value: Any, read_blob: BlobReader, where: str) -> Value:
    immediate = value.immediateValue
    kind = immediate.WhichOneof("value")
    if kind == "tensor":
        return _immediate_tensor(value.type, immediate.tensor, where)
    if kind in ("tuple", "list"):
        items = getattr(immediate, kind).values
        return tuple(decode_value(v, read_blob, f"{where}[{i}]") for i, v in enumerate(items))
    raise PackageError(f"{where}: an immediate of kind {kind} is not supported")


def _immediate_tensor(value_type: Any, tensor: Any, where: str) -> Value:
    if value_type.WhichOneof("type") != "tensorType":
        raise PackageError(
            f"{where}: a tensor value is declared as {value_spec(value_type, where)}"
        )
    field = tensor.WhichOneof("value")
    if value_type.tensorType.dataType == STRING:
        return _strings(value_type.tensorType, tensor, field, where)
    spec = value_spec(value_type, where)
    if not isinstance(spec, TensorSpec):
        raise PackageError(f"{where}: a tensor value is declared as {spec}")
    element = element_type(value_type.tensorType.dataType, where)
    count = _count(spec, where)
    if field == "bytes":
        return _from_bytes(tensor.bytes.values, element, spec, where)
    allowed = _FIELDS.get(field or "", "")
    if not allowed or allowed not in _kinds(element):
        raise PackageError(f"{where}: a value declared {spec} is stored in the field {field}")
    stored = getattr(tensor, field).values
    if len(stored) != count:
        raise PackageError(f"{where}: declared {spec}, but {len(stored)} values are stored")
    array = np.fromiter(stored, {"b": bool, "i": np.int64, "f": np.float64}[allowed], count)
    return torch.from_numpy(_narrow(array, element, where).reshape(_fixed(spec)))


def _kinds(element: ElementType) -> str:
    return "i" if element.storage.kind in "iu" else element.storage.kind


def _narrow(array: np.ndarray, element: ElementType, where: str) -> np.ndarray:
    if array.size and element.storage.kind in "iu":
        half = 1 << (element.bits - 1)
        low, high = (0, 2 * half - 1) if element.storage.kind == "u" else (-half, half - 1)
        if array.min() < low or array.max() > high:
            raise PackageError(f"{where}: a value does not fit {element.name}")
    carrier = torch.empty(0, dtype=element.carrier).numpy().dtype
    if element.name == "fp16":
        return array.astype(np.float16).astype(carrier)
    return array.astype(carrier)


def _from_bytes(raw: bytes, element: ElementType, spec: TensorSpec, where: str) -> torch.Tensor:
    wanted = packed_size(element, _count(spec, where))
    if len(raw) != wanted:
        raise PackageError(
            f"{where}: declared {spec}, which takes {wanted} bytes, but {len(raw)} are stored"
        )
    return from_raw(np.frombuffer(bytearray(raw), np.uint8), element, _fixed(spec))


def _strings(tensor_type: Any, tensor: Any, field: str | None, where: str) -> str | tuple[str, ...]:
    values = tuple(tensor.strings.values)
    if field != "strings":
        raise PackageError(f"{where}: a string is declared, found the field {field}")
    shape = declared_shape(tensor_type, where)
    if None in shape or len(values) != math.prod(d for d in shape if d is not None):
        raise PackageError(
            f"{where}: strings of shape {list(shape)} are declared, {len(values)} are stored"
        )
    return values if shape else values[0]


def _count(spec: TensorSpec, where: str) -> int:
    if None in spec.shape:
        raise PackageError(f"{where}: a constant has an open shape: {spec}")
    return math.prod(_fixed(spec))


def _fixed(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(d for d in spec.shape if d is not None)
