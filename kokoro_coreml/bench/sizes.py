"""Sizes of a bundle: of every package, and of every function within it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kokoro_coreml.bench.results import BundleSize, FunctionSize, PackageSize
from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor.package import BLOB_SENTINEL, Package
from kokoro_coreml.manifest import MANIFEST_NAME, FunctionRecord, Manifest, PackageRecord

_METADATA = struct.Struct("<IIQ")
"""Sentinel, type and bytes of a blob; `executor.package` reads the rest of it."""

_GRAPH_SUFFIX = ".mlmodel"


def bundle_size(bundle: Path, manifest: Manifest) -> BundleSize:
    """Measure a bundle whose files were verified.

    Raises:
        PackageError: a package cannot be read.
    """
    own = (bundle / MANIFEST_NAME).read_bytes()
    record = manifest.checkpoint
    return BundleSize(
        name=bundle.resolve().name,
        recipe=manifest.recipe.name,
        weights=f"{record.source}, {record.location}",
        manifest_sha256=hashlib.sha256(own).hexdigest(),
        total_bytes=sum(file.bytes for file in manifest.files.values()) + len(own),
        packages=tuple(_package(bundle, manifest, package) for package in manifest.packages),
    )


def _package(bundle: Path, manifest: Manifest, record: PackageRecord) -> PackageSize:
    inside = f"{record.file}/"
    files = {n: f.bytes for n, f in manifest.files.items() if n.startswith(inside)}
    package = Package.load(bundle / record.file)
    weights = _Weights(bundle / record.file)
    return PackageSize(
        file=record.file,
        stage=record.stage,
        precision=record.precision,
        compute_units=record.compute_units,
        graph_bytes=sum(size for name, size in files.items() if name.endswith(_GRAPH_SUFFIX)),
        weight_bytes=sum(size for name, size in files.items() if "/weights/" in name),
        total_bytes=sum(files.values()),
        functions=tuple(_function(package, weights, one) for one in record.functions),
    )


def _function(package: Package, weights: _Weights, record: FunctionRecord) -> FunctionSize:
    proto = package.program.functions[record.name]
    block = proto.block_specializations[proto.opset]
    operations = list(_operations(block))
    return FunctionSize(
        name=record.name,
        tokens=record.bucket.tokens,
        frames=record.bucket.frames,
        operations=len(operations),
        graph_bytes=proto.ByteSize(),
        weight_bytes=sum(weights.size(*place) for place in _places(operations)),
    )


def _operations(block: Any) -> Iterator[Any]:
    """All of a block, those of its inner blocks included."""
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _operations(inner)


def _places(operations: Iterable[Any]) -> set[tuple[str, int]]:
    """File and offset of every value in a weight file, once each."""
    values = (value for one in operations for value in _values(one))
    return {
        (value.blobFileValue.fileName, value.blobFileValue.offset)
        for value in values
        if value.WhichOneof("value") == "blobFileValue"
    }


def _values(operation: Any) -> Iterator[Any]:
    yield from operation.attributes.values()
    for given in operation.inputs.values():
        for argument in given.arguments:
            if argument.WhichOneof("binding") == "value":
                yield argument.value


class _Weights:
    """Sizes of the values in a package's weight files, by the metadata in front of each."""

    def __init__(self, package: Path) -> None:
        self._package = package
        self._files: dict[str, Path] = {}

    def size(self, file_name: str, offset: int) -> int:
        """Bytes of the value at `offset`; PackageError if there is none."""
        path = self._path(file_name)
        with path.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(_METADATA.size)
        if len(data) == _METADATA.size:
            sentinel, _, size = _METADATA.unpack(data)
            if sentinel == BLOB_SENTINEL:
                return int(size)
        raise PackageError(f"{path.name}: no value at {offset}; convert the bundle again")

    def _path(self, file_name: str) -> Path:
        if file_name not in self._files:
            name = Path(file_name).name
            found = [path for path in self._package.rglob(name) if path.is_file()]
            if len(found) != 1:
                raise PackageError(
                    f"{self._package.name}: expected one weight file '{name}', found {len(found)}"
                )
            self._files[file_name] = found[0]
        return self._files[file_name]
