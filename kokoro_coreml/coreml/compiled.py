"""Compiling a package for Core ML: once, into a folder of ours, for all compute units.

`MLModel("x.mlpackage")` compiles into a temporary folder at every load. Here the package is
compiled into a given folder and found there again; the folder's owner deletes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kokoro_coreml.coreml.errors import CoreMLError
from kokoro_coreml.coreml.mac import require_specification
from kokoro_coreml.errors import KokoroError
from kokoro_coreml.executor.interface import DescribedArray
from kokoro_coreml.executor.package import Package

SUFFIX = ".mlmodelc"
"""Core ML takes a folder for a compiled model by its name."""

_DIGITS = 16
"""Of the model's SHA-256, in a compiled model's name."""


@dataclass(frozen=True)
class Interface:
    """What the model description says of one function."""

    inputs: dict[str, DescribedArray]
    outputs: dict[str, DescribedArray]
    stateful: bool
    multifunction: bool
    default_function: bool
    """Whether Core ML chooses this function when none is named."""


@dataclass(frozen=True)
class CompiledModel:
    """A compiled package."""

    path: Path
    seconds: float | None
    """Time it took, or None if it was compiled before."""


def read_interface(package: Package, function: str) -> Interface:
    """Read the description of `function`, and check that this macOS can run it.

    Raises:
        CoreMLUnavailableError: macOS is too old for the package.
        PackageError: there is no such function, or it takes or gives something but multi-arrays.
    """
    name = package.path.name
    require_specification(package.model.specificationVersion, name)
    description = package.model.description
    functions = {f.name: f for f in description.functions}
    known = functions or {"main": description}
    if function not in known:
        raise CoreMLError(f"{name} has no function '{function}'; it has: {', '.join(known)}")
    described = known[function]
    return Interface(
        inputs={f.name: DescribedArray.read(f, "input") for f in described.input},
        outputs={f.name: DescribedArray.read(f, "output") for f in described.output},
        stateful=len(described.state) > 0,
        multifunction=bool(functions),
        default_function=not functions or description.defaultFunctionName == function,
    )


def compile_package(
    package: Package, folder: Path, *, default_function: str | None = None
) -> CompiledModel:
    """Compile a package into `folder`, unless it was compiled there before.

    Args:
        package: what to compile.
        folder: where compiled models are kept; it must exist.
        default_function: make this function the one Core ML chooses when none is named.

    Raises:
        CoreMLError: Core ML refuses the package.
    """
    variant = f"-{default_function}" if default_function else ""
    target = folder / f"{package.path.stem}-{model_sha256(package)[:_DIGITS]}{variant}{SUFFIX}"
    if target.is_dir():
        return CompiledModel(target, None)
    scratch = folder / f"compiling-{os.getpid()}"
    scratch.mkdir()
    try:
        source = package.path
        if default_function:
            source = _with_default_function(package, default_function, scratch)
        started = time.perf_counter()
        compiled = _compile(source, scratch / target.name)
        seconds = time.perf_counter() - started
        try:
            compiled.rename(target)
        except OSError:
            if not target.is_dir():
                raise
        return CompiledModel(target, seconds)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def model_sha256(package: Package) -> str:
    """SHA-256 of the model specification; a bundle's manifest lists the same file."""
    return hashlib.sha256(_model_path(package).read_bytes()).hexdigest()


@contextmanager
def refusals(doing: str) -> Iterator[None]:
    """Turn whatever coremltools raises into a `CoreMLError` that says what was being done."""
    try:
        yield
    except KokoroError:
        raise
    # coremltools raises bare Exception, and its binding RuntimeError for every NSError.
    except Exception as error:
        reason = " ".join(str(error).split())  # an NSError's dictionary comes in many lines
        raise CoreMLError(f"Core ML failed while {doing}: {reason}") from error


def _compile(source: Path, target: Path) -> Path:
    from coremltools.models.utils import compile_model

    with refusals(f"compiling {source.name}"):
        return Path(compile_model(str(source), destination_path=str(target)))


def _with_default_function(package: Package, function: str, folder: Path) -> Path:
    """A copy of the package whose default function is `function`; weights are linked, not copied.

    coremltools 9.0 loads an `MLComputePlan` without naming a function, so it is of the default one.
    """
    model: Any = type(package.model)()
    model.CopyFrom(package.model)
    model.description.defaultFunctionName = function
    relative = _model_path(package).relative_to(package.path)
    copy = folder / package.path.name
    copy.mkdir()
    for path in sorted(package.path.rglob("*")):
        place = copy / path.relative_to(package.path)
        if path.is_dir():
            place.mkdir()
        elif path.relative_to(package.path) != relative:
            _link_or_copy(path, place)
    # Never through a link: the model is written as a file of its own.
    (copy / relative).write_bytes(model.SerializeToString(deterministic=True))
    return copy


def _model_path(package: Package) -> Path:
    """Of the model specification; `Package.load` has checked the manifest that names it."""
    index = json.loads((package.path / "Manifest.json").read_bytes())
    path: str = index["itemInfoEntries"][index["rootModelIdentifier"]]["path"]
    return package.path / "Data" / path


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
