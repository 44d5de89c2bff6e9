"""What an uncompressed package holds: its large weights, and the bytes of everything else.

The weights are those that `lowering.compress` would compress, found in the saved program by the
same rules, so that sizes can be predicted before anything is compressed.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kokoro_coreml.compression.quantise import Weight
from kokoro_coreml.compression.scheme import BLOB_ALIGNMENT, Opset, Scheme, bytes_of
from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor.package import BLOB_SENTINEL, Package
from kokoro_coreml.executor.types import ELEMENT_TYPES
from kokoro_coreml.lowering.compress import CHANNELS, THRESHOLD

OPERATION_BYTES = 256
"""Of a program, that a compressed weight takes beyond an uncompressed one, at most; in each
function. Measured on the stages of the 82 M checkpoint: 138 to 201 on average."""

_METADATA = struct.Struct("<IIQQ")
"""Sentinel, type, bytes and offset of a blob's data; `executor.package` reads the rest of it."""

NameOf = Callable[[str, np.ndarray], str]


@dataclass(frozen=True, eq=False)
class Stored:
    """A large weight as one stage stores it."""

    stage: str
    path: str
    """Of the parameter; the constant's name where it is none's."""
    values: Weight
    """float16 or float32, in the shape of the constant."""
    axis: int
    """Of the output channels."""

    def size(self, scheme: Scheme | None, opset: Opset) -> int:
        """Bytes of the weight file."""
        return bytes_of(scheme, self.values.shape, self.values.dtype, axis=self.axis, opset=opset)

    def obstacle(self, scheme: Scheme, opset: Opset) -> str | None:
        """Why it cannot be stored so."""
        return scheme.obstacle(self.values.shape, axis=self.axis, opset=opset)


@dataclass(frozen=True)
class Surveyed:
    """One function's package."""

    weights: tuple[Stored, ...]
    program_bytes: int
    """Everything but the weight file."""
    small: Mapping[tuple[int, bytes], int]
    """Type and digest of every other blob, to its bytes in the weight file."""
    small_bytes: int
    """Of all of them; those of equal content are stored each, until functions are merged."""


def survey(package: Path, stage: str, name_of: NameOf) -> Surveyed:
    """Read the package of one function.

    Args:
        package: uncompressed, as `lowering.lower` wrote it.
        stage: that it holds.
        name_of: from `named_by`.

    Raises:
        PackageError: it is missing, corrupt, or has several weight files.
    """
    program = Package.load(package).program
    (function,) = program.functions.values()
    block = function.block_specializations[function.opset]
    files = [path for path in package.rglob("*") if path.is_file()]
    weight_files = [path for path in files if path.parent.name == "weights"]
    if len(weight_files) > 1:
        raise PackageError(f"{package.name}: expected one weight file, found {len(weight_files)}")
    blobs = dict(_blobs(weight_files[0])) if weight_files else {}
    weights: list[Stored] = []
    large: set[int] = set()
    for name, value, axis in _large(block):
        offset = value.blobFileValue.offset
        element = ELEMENT_TYPES[value.type.tensorType.dataType]
        shape = [dim.constant.size for dim in value.type.tensorType.dimensions]
        values = np.frombuffer(blobs[offset].data, element.storage).reshape(shape)
        weights.append(Stored(stage, name_of(name.removesuffix("_to_fp16"), values), values, axis))
        large.add(offset)
    small = [blob for at, blob in blobs.items() if at not in large]
    program_bytes = sum(path.stat().st_size for path in files if path not in weight_files)
    return Surveyed(
        tuple(weights),
        program_bytes,
        {blob.identity: blob.size for blob in small},
        sum(blob.size for blob in small),
    )


@dataclass(frozen=True)
class _Blob:
    kind: int
    data: bytes

    @property
    def size(self) -> int:
        """With its metadata and padding."""
        return BLOB_ALIGNMENT + len(self.data) + -len(self.data) % BLOB_ALIGNMENT

    @property
    def identity(self) -> tuple[int, bytes]:
        return self.kind, hashlib.sha256(self.data).digest()


def _blobs(path: Path) -> Iterator[tuple[int, _Blob]]:
    """Every blob by the offset of its metadata; they lie one behind the other."""
    content = path.read_bytes()
    offset = BLOB_ALIGNMENT
    while offset + _METADATA.size <= len(content):
        sentinel, kind, size, start = _METADATA.unpack_from(content, offset)
        if sentinel != BLOB_SENTINEL:
            raise PackageError(f"{path}: no blob at {offset}; convert the stage again")
        yield offset, _Blob(kind, content[start : start + size])
        offset = start + size + -size % BLOB_ALIGNMENT


def _large(block: Any) -> Iterator[tuple[str, Any, int]]:
    """Name, value and axis of the output channels of every weight that would be compressed."""
    operations = list(block.operations)
    for operation in operations:
        for inner in operation.blocks:
            yield from _large(inner)
    uses: dict[str, list[tuple[Any, str]]] = {}
    for operation in operations:
        for slot, given in operation.inputs.items():
            for argument in given.arguments:
                if argument.WhichOneof("binding") == "name":
                    uses.setdefault(argument.name, []).append((operation, slot))
    constants = {op.outputs[0].name: op.attributes["val"] for op in operations if _is_const(op)}
    for name, value in constants.items():
        if not _is_large(value) or name in block.outputs:
            continue
        rank = len(value.type.tensorType.dimensions)
        axes = [_axis(user, slot, rank, constants) for user, slot in _single(uses.get(name, []))]
        if axes and axes[0] is not None and None not in axes:
            yield name, value, axes[0]


def _is_const(operation: Any) -> bool:
    return bool(operation.type == "const")


def _is_large(value: Any) -> bool:
    if value.WhichOneof("value") != "blobFileValue":
        return False
    declared = value.type.tensorType
    element = ELEMENT_TYPES.get(declared.dataType)
    shape = [dim.constant.size for dim in declared.dimensions]
    floating = element is not None and element.name in ("fp16", "fp32")
    return floating and len(shape) >= 2 and int(np.prod(shape)) > THRESHOLD


def _single(uses: Sequence[tuple[Any, str]]) -> Iterator[tuple[Any, str | None]]:
    """Users with the slot they take a value in; None for one that takes it twice."""
    for user, slot in uses:
        slots = [other for owner, other in uses if owner is user]
        yield user, slot if len(slots) == 1 else None


def _axis(user: Any, slot: str | None, rank: int, constants: Mapping[str, Any]) -> int | None:
    axis = CHANNELS.get((user.type, slot)) if slot is not None else None
    if axis is None:
        return None
    if user.type == "matmul" and _true(user.inputs[f"transpose_{slot}"].arguments, constants):
        axis = -3 - axis
    return axis % rank


def _true(arguments: Iterable[Any], constants: Mapping[str, Any]) -> bool:
    """A boolean input, given by name or in place; one that is not given is false."""
    for argument in arguments:
        value = constants[argument.name] if argument.name else argument.value
        return bool(value.immediateValue.tensor.bools.values[0])
    return False
