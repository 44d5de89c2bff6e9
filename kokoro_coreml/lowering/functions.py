"""Merging single-function packages into one multifunction package that stores its weights once.

The programs are copied as protobufs: nothing in them changes but the offsets of their weights.
coremltools' own `save_multifunction` reads every program and every weight into its graph and
writes them anew; what it leaves out (metadata, the program's attributes) is kept here.
Source of the fields: coremltools, `Model.proto`, `MIL.proto` and `models/utils.py`.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coremltools.proto import MIL_pb2, Model_pb2

from kokoro_coreml.errors import ConversionError, PackageError
from kokoro_coreml.executor.package import MAX_MODEL_BYTES, Package, WeightFile
from kokoro_coreml.executor.types import BY_NAME, TensorSpec, value_spec
from kokoro_coreml.executor.values import packed_size
from kokoro_coreml.lowering.weights_file import WeightFileWriter

SPECIFICATION_VERSION = 9
OPSET = "CoreML8"
"""Those of iOS 18, the first that knows packages of several functions."""

MAIN = "main"
"""The function of a package that holds one."""

_MODEL_ITEM = "com.apple.CoreML/model.mlmodel"
_WEIGHTS_ITEM = "com.apple.CoreML/weights"
_ITEMS = {_MODEL_ITEM: "CoreML Model Specification", _WEIGHTS_ITEM: "CoreML Model Weights"}
"""Path below `Data/` and description of each item, as coremltools writes them."""

_WEIGHT_FILE = "weight.bin"
_WEIGHT_REFERENCE = f"@model_path/weights/{_WEIGHT_FILE}"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DATE_KEY = "com.github.apple.coremltools.conversion_date"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "kokoro-coreml/merged-package-item")

_VALUE = MIL_pb2.Value.DESCRIPTOR
_MODEL_FIELDS = {"specificationVersion", "description", "mlProgram"}
_FEATURE_FIELDS = ("input", "output", "state", "predictedFeatureName", "predictedProbabilitiesName")


def merge_functions(packages: Mapping[str, Path], out: Path, *, default: str) -> None:
    """Merge single-function packages into one; blobs of equal content are stored once.

    Equal inputs give equal bytes. Metadata that may differ between the packages (the description
    and the day of conversion) are those of the default function's.

    Args:
        packages: name of the function in the merged package to the `.mlpackage` whose function
            `main` it becomes; iOS 18 programs. Functions and weights are stored in this order.
        out: the `.mlpackage` to write; it must not exist. It appears whole or not at all.
        default: the function an app gets when it asks for none.

    Raises:
        ConversionError: a name is not an identifier or not there, a package is not a
            single-function one for iOS 18, packages contradict one another, or `out` exists or
            cannot be written.
        PackageError: a package is missing or corrupt.
    """
    _require_names(packages, default)
    merged = Model_pb2.Model(specificationVersion=SPECIFICATION_VERSION)
    merged.description.defaultFunctionName = default
    with _written_whole(out) as folder:
        weights = folder / "Data" / _WEIGHTS_ITEM
        weights.mkdir(parents=True)
        with WeightFileWriter(weights / _WEIGHT_FILE) as writer:
            common = None
            for name, path in packages.items():
                model = _single_function(path)
                common = _require_common(common, path, model)
                _move_blobs(model.mlProgram, path, writer)
                _append(merged, name, model, with_rest=name == default)
        _write_model(folder, merged)


def _require_names(packages: Mapping[str, Path], default: str) -> None:
    wrong = [name for name in packages if not _NAME.fullmatch(name)]
    if wrong:
        raise ConversionError(
            f"function names must be letters, digits and '_', no digit first; found {wrong}"
        )
    if default not in packages:
        known = ", ".join(packages) or "none"
        raise ConversionError(f"the default function {default!r} is not among the given: {known}")


def _single_function(path: Path) -> Any:
    """The model of a package, if it is of the only kind that can be merged."""
    package = Package.load(path)
    model = package.model
    _require_layout(path)
    version = model.specificationVersion
    if version != SPECIFICATION_VERSION:
        raise ConversionError(
            f"{path}: specification version {version} found, {SPECIFICATION_VERSION} expected; "
            "convert it for iOS 18"
        )
    functions = sorted(model.mlProgram.functions)
    if functions != [MAIN] or model.description.functions:
        raise ConversionError(
            f"{path}: expected one function, '{MAIN}', found {functions} described as "
            f"{[f.name for f in model.description.functions] or 'a single one'}"
        )
    main = model.mlProgram.functions[MAIN]
    if main.opset != OPSET or list(main.block_specializations) != [OPSET]:
        raise ConversionError(
            f"{path}: opset {main.opset} with blocks for {sorted(main.block_specializations)} "
            f"found, {OPSET} alone expected; convert it for iOS 18"
        )
    extra = _set_fields(model) - _MODEL_FIELDS
    extra |= _set_fields(model.description) - {*_FEATURE_FIELDS, "metadata"}
    if extra:
        raise ConversionError(f"{path}: {sorted(extra)} cannot be kept in a multifunction package")
    return model


def _require_layout(path: Path) -> None:
    """Weights are looked for where coremltools puts them, so the model must be there as well."""
    manifest = json.loads((path / "Manifest.json").read_bytes())
    found = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    if found != _MODEL_ITEM:
        raise ConversionError(f"{path}: the model is at {found!r}, expected at {_MODEL_ITEM!r}")


def _set_fields(message: Any) -> set[str]:
    return {field.name for field, _ in message.ListFields()}


_Common = tuple[Path, dict[str, object]]
"""The first package, and what all others must have like it."""


def _require_common(first: _Common | None, path: Path, model: Any) -> _Common:
    """Refuse a package whose metadata contradict those of the first; the merged has room for one.

    Raises:
        ConversionError: naming both packages and all that differs.
    """
    facts = _facts(model)
    if first is None:
        return path, facts
    origin, expected = first
    different = [key for key in {**expected, **facts} if expected.get(key) != facts.get(key)]
    if different:
        texts = (f"{key} {facts.get(key)!r}, not {expected.get(key)!r}" for key in different)
        raise ConversionError(
            f"{path} cannot be merged with {origin}, it has {'; '.join(texts)}; convert both alike"
        )
    return first


def _facts(model: Any) -> dict[str, object]:
    metadata, program = model.description.metadata, model.mlProgram
    facts: dict[str, object] = {
        "author": metadata.author,
        "license": metadata.license,
        "version": metadata.versionString,
        "program version": program.version,
        "program documentation": program.docString,
    }
    for key, text in metadata.userDefined.items():
        if key != _DATE_KEY:
            facts[f"metadata '{key}'"] = text
    for key, value in program.attributes.items():
        facts[f"program attribute '{key}'"] = value.SerializeToString(deterministic=True)
    return facts


def _append(merged: Any, name: str, model: Any, *, with_rest: bool) -> None:
    """Add one function and its description; `with_rest`, the metadata of its package as well."""
    described = merged.description.functions.add(name=name)
    description = model.description
    for field in _FEATURE_FIELDS[:3]:
        getattr(described, field).extend(getattr(description, field))
    described.predictedFeatureName = description.predictedFeatureName
    described.predictedProbabilitiesName = description.predictedProbabilitiesName
    program = model.mlProgram
    merged.mlProgram.functions[name].CopyFrom(program.functions[MAIN])
    if with_rest:
        merged.description.metadata.CopyFrom(description.metadata)
        del program.functions[MAIN]
        merged.mlProgram.MergeFrom(program)


def _move_blobs(program: Any, path: Path, writer: WeightFileWriter) -> None:
    """Store every blob that a program refers to, and let it refer to the new places.

    Raises:
        PackageError: a blob is missing, or not what the program declares.
    """
    values = sorted(_values_in_files(program), key=lambda value: value.blobFileValue.offset)
    if not values:
        return
    file = WeightFile(path / "Data" / _WEIGHTS_ITEM / _WEIGHT_FILE)
    moved: dict[tuple[int, int], int] = {}
    try:
        for value in values:
            _move_blob(value, file, writer, moved)
    except PackageError as error:
        raise PackageError(f"{path}: {error}") from error


def _move_blob(
    value: Any, file: WeightFile, writer: WeightFileWriter, moved: dict[tuple[int, int], int]
) -> None:
    blob = value.blobFileValue
    if blob.fileName != _WEIGHT_REFERENCE:
        raise PackageError(f"weights in {blob.fileName!r} found, {_WEIGHT_REFERENCE!r} expected")
    spec = value_spec(value.type, f"weight at {blob.offset}")
    if not isinstance(spec, TensorSpec) or None in spec.shape:
        raise PackageError(f"the weight at {blob.offset} is declared as {spec}, not as a tensor")
    element = BY_NAME[spec.dtype]
    count = math.prod(size or 0 for size in spec.shape)
    data = file.read(blob.offset, element, count)
    assert element.blob is not None  # read() compared it with what is stored
    key = (blob.offset, count)
    if key not in moved:
        unused = 8 * packed_size(element, count) - element.bits * count
        moved[key] = writer.place(element.blob, data.data, unused)
    blob.offset = moved[key]


def _values_in_files(message: Any) -> Iterator[Any]:
    """Every `MILSpec.Value` at or below `message` whose content is in a weight file.

    They stand in attributes, in arguments, in nested blocks, lists and dictionaries, and even in
    the attributes of a type; so all that is set is visited.
    """
    if message.DESCRIPTOR is _VALUE and message.HasField("blobFileValue"):
        yield message
    for field, content in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            children = content.values()
        else:
            children = content if field.is_repeated else (content,)
        for child in children:
            yield from _values_in_files(child)


def _write_model(folder: Path, merged: Any) -> None:
    content = merged.SerializeToString(deterministic=True)
    if len(content) > MAX_MODEL_BYTES:
        raise ConversionError(
            f"the merged program takes {len(content)} bytes without its weights, more than "
            f"{MAX_MODEL_BYTES}; merge fewer functions"
        )
    (folder / "Data" / _MODEL_ITEM).write_bytes(content)
    identifiers = {item: str(uuid.uuid5(_NAMESPACE, item)) for item in _ITEMS}
    index = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {
            identifiers[item]: {
                "author": "com.apple.CoreML",
                "description": text,
                "name": Path(item).name,
                "path": item,
            }
            for item, text in _ITEMS.items()
        },
        "rootModelIdentifier": identifiers[_MODEL_ITEM],
    }
    (folder / "Manifest.json").write_text(json.dumps(index, indent=4) + "\n", encoding="utf-8")


@contextmanager
def _written_whole(out: Path) -> Iterator[Path]:
    """A folder to write into, beside `out`, that becomes `out` when nothing fails."""
    if out.suffix != ".mlpackage" or out.exists() or out.is_symlink():
        raise ConversionError(
            f"{out}: expected the name of a new .mlpackage; remove what is there, or name another"
        )
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as parent:
            folder = Path(parent) / out.name
            folder.mkdir()
            yield folder
            folder.rename(out)
    except OSError as error:
        raise ConversionError(f"{out}: cannot be written ({error})") from error
