"""Reading a saved `.mlpackage`: the manifest, the model's protobuf, and its weight files.

Every path stays inside the package, and every offset and size is checked against the file before it
is used. Source of the weight file's layout: coremltools, `mlmodel/src/MILBlob/Blob`
(`StorageFormat.hpp`, `BlobDataType.hpp`), storage version 2.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from coremltools.proto import Model_pb2
from google.protobuf.message import DecodeError

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor.types import ElementType

BLOB_SENTINEL = 0xDEADBEEF
BLOB_VERSION = 2
BLOB_ALIGNMENT = 64
"""Bytes; header, metadata and data of a weight file all start on a multiple of it."""

_HEADER = struct.Struct("<II")  # count, version
_METADATA = struct.Struct("<IIQQQ")  # sentinel, type, bytes, offset of the data, padding bits
_MODEL_PATH = "@model_path/"


class WeightFile:
    """One memory-mapped weight file; pages are read when a weight is first touched."""

    def __init__(self, path: Path) -> None:
        """Map `path` and check its header; PackageError if it is missing or foreign."""
        self.path = path
        try:
            # Mode "c": torch wants writable memory, and the file must stay as it is.
            self._bytes = np.memmap(path, dtype=np.uint8, mode="c")
        except (OSError, ValueError) as error:
            raise PackageError(f"{path}: the weight file cannot be read ({error})") from error
        if self._bytes.size < BLOB_ALIGNMENT:
            raise PackageError(f"{path}: the weight file is truncated ({self._bytes.size} bytes)")
        _, version = _HEADER.unpack(self._bytes[: _HEADER.size].tobytes())
        if version != BLOB_VERSION:
            raise PackageError(
                f"{path}: weight storage version {version} found, {BLOB_VERSION} expected"
            )

    def read(self, offset: int, element: ElementType, size: int) -> np.ndarray:
        """The `size` raw bytes of the blob whose metadata lies at `offset`; not copied.

        Raises:
            PackageError: the blob is outside the file, or not of this element type and size.
        """
        where = f"{self.path.name}, blob at {offset}"
        total = self._bytes.size
        if offset % BLOB_ALIGNMENT or offset + BLOB_ALIGNMENT > total:
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
        if stored != size or padding_bits >= 8:
            raise PackageError(f"{where}: {stored} bytes stored, {size} expected for its type")
        if start % BLOB_ALIGNMENT or start + stored > total:
            raise PackageError(
                f"{where}: its data ({stored} bytes from {start}) is not inside the file of "
                f"{total} bytes (truncated file?)"
            )
        return self._bytes[start : start + stored]


@dataclass
class Package:
    """A parsed `.mlpackage`. `model` is coremltools' `Model_pb2.Model`."""

    path: Path
    model: Any
    _model_folder: Path
    _files: dict[Path, WeightFile] = field(default_factory=dict)

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
            model.ParseFromString(model_path.read_bytes())
        except OSError as error:
            raise PackageError(f"{model_path}: cannot be read ({error})") from error
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

    def read_blob(self, file_name: str, offset: int, element: ElementType, size: int) -> np.ndarray:
        """Raw bytes of one blob; see `WeightFile.read`."""
        if not file_name.startswith(_MODEL_PATH):
            raise PackageError(f"{self.path}: weight file {file_name!r} is not in {_MODEL_PATH}")
        path = _inside(self.path, self._model_folder / file_name.removeprefix(_MODEL_PATH))
        if path not in self._files:
            self._files[path] = WeightFile(path)
        return self._files[path].read(offset, element, size)


def _model_path(root: Path) -> Path:
    manifest_path = root / "Manifest.json"
    try:
        manifest = json.loads(manifest_path.read_bytes())
    except OSError as error:
        raise PackageError(f"{manifest_path}: cannot be read ({error})") from error
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{manifest_path}: not valid JSON ({error})") from error
    try:
        item = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
        relative = item["path"]
    except (KeyError, TypeError) as error:
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
        raise PackageError(f"{root}: {path} leads out of the package")
    return resolved
