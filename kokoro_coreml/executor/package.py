"""Reading a saved `.mlpackage`: the manifest, the model's protobuf, and its weight files.

Every path stays inside the package, and every offset and size is checked against the file before it
is used. Source of the weight file's layout: coremltools, `mlmodel/src/MILBlob/Blob`
(`StorageFormat.hpp`, `BlobDataType.hpp`), storage version 2.
"""

from __future__ import annotations

import json
import math
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from coremltools.proto import Model_pb2
from google.protobuf.message import DecodeError

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor.extremes import Extremes, extremes, pieces
from kokoro_coreml.executor.types import ElementType
from kokoro_coreml.executor.values import from_raw, packed_size

BLOB_SENTINEL = 0xDEADBEEF
BLOB_VERSION = 2
BLOB_ALIGNMENT = 64
"""Bytes; header, metadata and data of a weight file all start on a multiple of it."""

MAX_MANIFEST_BYTES = 2**20
MAX_MODEL_BYTES = 2**25
"""Of the protobuf, without weights; the whole of Kokoro takes 0.7 MB. In memory it can be 35 times
as large, where empty messages are repeated."""

_HEADER = struct.Struct("<II")  # count, version
_METADATA = struct.Struct("<IIQQQ")  # sentinel, type, bytes, offset of the data, padding bits
_MODEL_PATH = "@model_path/"


class WeightFile:
    """One memory-mapped weight file; pages are read when a weight is first touched."""

    def __init__(self, path: Path) -> None:
        """Map `path` and check its header; PackageError if it is missing or foreign."""
        self.path = path
        _regular(path, None)
        try:
            # Mode "c": torch wants writable memory, and the file must stay as it is.
            self._bytes = np.memmap(path, dtype=np.uint8, mode="c")
        except (OSError, ValueError, OverflowError) as error:
            raise PackageError(f"{path}: the weight file cannot be read ({error})") from error
        if self._bytes.size < BLOB_ALIGNMENT:
            raise PackageError(f"{path}: the weight file is truncated ({self._bytes.size} bytes)")
        _, version = _HEADER.unpack(self._bytes[: _HEADER.size].tobytes())
        if version != BLOB_VERSION:
            raise PackageError(
                f"{path}: weight storage version {version} found, {BLOB_VERSION} expected"
            )
        self._read: set[int] = set()
        self._taken = BLOB_ALIGNMENT

    def read(self, offset: int, element: ElementType, count: int) -> np.ndarray:
        """The raw bytes of the `count` elements whose metadata lies at `offset`; not copied.

        Raises:
            PackageError: the blob is outside the file, overlaps others, or is not of this element
                type and size.
        """
        where = f"{self.path.name}, blob at {offset}"
        total = self._bytes.size
        if offset % BLOB_ALIGNMENT or not BLOB_ALIGNMENT <= offset <= total - BLOB_ALIGNMENT:
            raise PackageError(
                f"{where}: not the place of a blob in a file of {total} bytes (truncated file?)"
            )
        sentinel, kind, stored, start, padding_bits = _METADATA.unpack(
            self._bytes[offset : offset + _METADATA.size].tobytes()
        )
        if sentinel != BLOB_SENTINEL:
            raise PackageError(f"{where}: no blob here (sentinel {sentinel:#x})")
        if kind != element.blob:
            raise PackageError(
                f"{where}: stored as blob type {kind}, but the program declares {element.name}"
            )
        size = packed_size(element, count)
        unused = 8 * size - element.bits * count
        if (stored, padding_bits) != (size, unused):
            raise PackageError(
                f"{where}: {stored} bytes stored, {size} expected for {count} elements of "
                f"{element.name}; {padding_bits} bits unused, {unused} expected"
            )
        if start % BLOB_ALIGNMENT or start + stored > total:
            raise PackageError(
                f"{where}: its data ({stored} bytes from {start}) is not inside the file of "
                f"{total} bytes (truncated file?)"
            )
        if start < BLOB_ALIGNMENT or offset - stored < start < offset + BLOB_ALIGNMENT:
            raise PackageError(f"{where}: its data (from {start}) overlaps a header")
        self._account(where, offset, stored)
        return self._bytes[start : start + stored]

    def _account(self, where: str, offset: int, stored: int) -> None:
        """Refuse blobs that together are larger than the file, so that decoding cannot explode."""
        if offset not in self._read:
            self._read.add(offset)
            self._taken += BLOB_ALIGNMENT + stored
        if self._taken > self._bytes.size:
            raise PackageError(
                f"{where}: the {len(self._read)} blobs read so far take {self._taken} bytes, the "
                f"file has {self._bytes.size}; they overlap"
            )


@dataclass
class Package:
    """A parsed `.mlpackage`. `model` is coremltools' `Model_pb2.Model`."""

    path: Path
    model: Any
    _model_folder: Path
    _files: dict[Path, WeightFile] = field(default_factory=dict)
    _decoded: dict[tuple[Path, int, str, int], torch.Tensor] = field(default_factory=dict)
    _extremes: dict[tuple[Path, int, str, int], Extremes | None] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> Package:
        """Read the package at `path`; weights are mapped, not read.

        Raises:
            PackageError: the folder, its manifest, or its model is missing or corrupt, or the model
                is not an ML Program.
        """
        root = Path(path)
        model_path = _model_path(root)
        model = Model_pb2.Model()
        try:
            model.ParseFromString(_contents(model_path, MAX_MODEL_BYTES))
        except DecodeError as error:
            raise PackageError(f"{model_path}: not a Core ML model ({error})") from error
        kind = model.WhichOneof("Type")
        if kind != "mlProgram":
            raise PackageError(f"{root}: expected an ML Program (mlProgram), found {kind}")
        return cls(root, model, model_path.parent)

    @property
    def program(self) -> Any:
        """The `MILSpec.Program`."""
        return self.model.mlProgram

    def read_blob(
        self, file_name: str, offset: int, element: ElementType, shape: tuple[int, ...]
    ) -> torch.Tensor:
        """One blob as a tensor of `element`'s carrier type; see `WeightFile.read` for errors.

        float32 stays mapped to the file. Every blob is decoded once, however often it is read, and
        is kept as long as the package.
        """
        path, count = self._weights(file_name), math.prod(shape)
        key = (path, offset, element.name, count)
        if key not in self._decoded:
            raw = self._files[path].read(offset, element, count)
            self._decoded[key] = from_raw(raw, element, (count,))
        return self._decoded[key].reshape(shape)

    def extremes(
        self, file_name: str, offset: int, element: ElementType, count: int
    ) -> Extremes | None:
        """Extremes of one blob, None if it is empty; see `WeightFile.read` for errors.

        It is read in pieces, once, and nothing of it is kept.
        """
        path = self._weights(file_name)
        key = (path, offset, element.name, count)
        if key not in self._extremes:
            raw = self._files[path].read(offset, element, count)
            self._extremes[key] = extremes(pieces(raw, element, count))
        return self._extremes[key]

    def _weights(self, file_name: str) -> Path:
        """Open a weight file if it is not open yet; its place."""
        if not file_name.startswith(_MODEL_PATH):
            raise PackageError(f"{self.path}: weight file {file_name!r} is not in {_MODEL_PATH}")
        path = _inside(self.path, self._model_folder / file_name.removeprefix(_MODEL_PATH))
        if path not in self._files:
            self._files[path] = WeightFile(path)
        return path


def _model_path(root: Path) -> Path:
    manifest_path = _inside(root, root / "Manifest.json")
    try:
        manifest = json.loads(_contents(manifest_path, MAX_MANIFEST_BYTES))
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{manifest_path}: not valid JSON ({error})") from error
    try:
        item = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
        relative = item["path"]
    except (LookupError, TypeError) as error:
        raise PackageError(f"{manifest_path}: names no root model ({error!r})") from error
    if not isinstance(relative, str):
        raise PackageError(f"{manifest_path}: the root model's path is {relative!r}")
    return _inside(root, root / "Data" / relative)


def _inside(root: Path, path: Path) -> Path:
    try:
        resolved = path.resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise PackageError(f"{root}: {str(path)!r} is not a path ({error})") from error
    if not resolved.is_relative_to(root.resolve()):
        raise PackageError(f"{root}: {str(path)!r} leads out of the package")
    return resolved


def _regular(path: Path, limit: int | None) -> None:
    """Refuse what is not a plain file: opening a pipe waits for ever, a device has no end."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise PackageError(f"{path}: cannot be read ({error})") from error
    if not stat.S_ISREG(status.st_mode):
        raise PackageError(f"{path}: cannot be read (not a regular file)")
    if limit is not None and status.st_size > limit:
        raise PackageError(f"{path}: {status.st_size} bytes found, at most {limit} expected")


def _contents(path: Path, limit: int) -> bytes:
    _regular(path, limit)
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise PackageError(f"{path}: cannot be read ({error})") from error
