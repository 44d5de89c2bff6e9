"""Writing a weight file in which blobs of equal content are stored once.

Source of the layout: coremltools, `mlmodel/src/MILBlob/Blob` (`StorageFormat.hpp`,
`StorageWriter.cpp`), storage version 2. `executor.package` reads it.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

from kokoro_coreml.executor.package import BLOB_ALIGNMENT, BLOB_SENTINEL, BLOB_VERSION

_HEADER = struct.Struct("<II56x")  # count, version
_METADATA = struct.Struct("<IIQQQ32x")  # sentinel, type, bytes, offset of the data, padding bits

_Identity = tuple[int, int, int, bytes]
"""Type, bytes, padding bits, SHA-256 of the data."""


class WeightFileWriter:
    """Appends blobs to a new file; leaving it as a context manager finishes the file.

    A file without a blob is not made: coremltools writes none either.
    """

    def __init__(self, path: Path) -> None:
        """`path`: of the file; its folder must exist."""
        self.path = path
        self._file = path.open("xb")
        self._file.write(bytes(_HEADER.size))
        self._places: dict[_Identity, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write the header, close the file, and remove it if no blob came."""
        with self._file:
            self._file.seek(0)
            self._file.write(_HEADER.pack(len(self._places), BLOB_VERSION))
        if not self._places:
            self.path.unlink()

    def place(self, kind: int, data: memoryview, padding_bits: int) -> int:
        """Store a blob unless an equal one is stored.

        Args:
            kind: `MILBlob::Blob::BlobDataType`; equal bytes of two types are two blobs.
            data: the bytes as they are stored.
            padding_bits: unused ones at the end of the last byte.

        Returns:
            The offset of its metadata, which a program refers to.
        """
        identity = (kind, data.nbytes, padding_bits, hashlib.sha256(data).digest())
        if identity not in self._places:
            self._places[identity] = self._append(kind, data, padding_bits)
        return self._places[identity]

    def _append(self, kind: int, data: memoryview, padding_bits: int) -> int:
        end = self._file.tell()
        offset = end + -end % BLOB_ALIGNMENT
        self._file.write(bytes(offset - end))
        start = offset + _METADATA.size
        self._file.write(_METADATA.pack(BLOB_SENTINEL, kind, data.nbytes, start, padding_bits))
        self._file.write(data)
        return offset
