"""Makes a saved `.mlpackage` a function of its content.

coremltools gives every package two random identifiers (`Manifest.json`) and writes the day of the
conversion into the model; map fields of a protobuf are written in any order. All three are replaced
here, so that equal conversions give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

from kokoro_coreml.errors import PackageError

DATE_KEY = "com.github.apple.coremltools.conversion_date"
"""User-defined metadata of the model; the keys that name versions are kept."""

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "kokoro-coreml/package-item")


def normalise_package(path: Path) -> None:
    """Rewrite the model specification and `Manifest.json` of an `.mlpackage` deterministically.

    Running it again changes nothing.

    Raises:
        PackageError: the package is not laid out as coremltools 9.0 writes it.
    """
    index = _read_index(path)
    entries = index["itemInfoEntries"]
    root = entries[index["rootModelIdentifier"]]
    _normalise_model(_item(path, root))
    renamed = {old: _identifier(path, entry) for old, entry in entries.items()}
    index["itemInfoEntries"] = {renamed[old]: entry for old, entry in entries.items()}
    index["rootModelIdentifier"] = renamed[index["rootModelIdentifier"]]
    text = json.dumps(index, indent=4, sort_keys=True, ensure_ascii=False) + "\n"
    (path / "Manifest.json").write_text(text, encoding="utf-8")
    _make_readable(path)


def _make_readable(path: Path) -> None:
    """coremltools saves by way of a temporary folder, and leaves its private modes behind."""
    for item in (path, *path.rglob("*")):
        item.chmod(0o755 if item.is_dir() else 0o644)


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads((path / "Manifest.json").read_text(encoding="utf-8"))
        items = [index["itemInfoEntries"][index["rootModelIdentifier"]]]
        items += index["itemInfoEntries"].values()
        missing = [item["path"] for item in items if not _item(path, item).exists()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PackageError(f"'{path.name}' is not a Core ML package: {error!r}") from error
    if missing:
        raise PackageError(f"'{path.name}' lacks {missing[0]}, which its Manifest.json lists")
    result: dict[str, Any] = index
    return result


def _item(path: Path, entry: dict[str, str]) -> Path:
    return path / "Data" / entry["path"]


def _normalise_model(model: Path) -> None:
    from coremltools.proto import Model_pb2
    from google.protobuf.message import DecodeError

    spec = Model_pb2.Model()
    try:
        spec.ParseFromString(model.read_bytes())
    except DecodeError as error:
        raise PackageError(f"'{model.name}' is not a Core ML model: {error}") from error
    spec.description.metadata.userDefined.pop(DATE_KEY, None)
    model.write_bytes(spec.SerializeToString(deterministic=True))


def _identifier(path: Path, entry: dict[str, str]) -> str:
    item = _item(path, entry)
    files = [item] if item.is_file() else sorted(p for p in item.rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(path).as_posix()
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{name}\n{content}\n".encode())
    return str(uuid.uuid5(_NAMESPACE, digest.hexdigest()))
