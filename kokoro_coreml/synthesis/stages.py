"""The stages of a pipeline as a bundle's packages hold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kokoro_coreml.errors import BundleError
from kokoro_coreml.manifest import FunctionRecord, PackageRecord
from kokoro_coreml.recipe import FRAME_STAGES, PIPELINE, TOKEN_STAGES
from kokoro_coreml.synthesis.speech import Backend

Load = Callable[[Path, str, str], Backend]
"""From package, function and compute units to what runs it."""


@dataclass(frozen=True)
class _Place:
    package: PackageRecord
    function: FunctionRecord


class PackagedStages:
    """Loads functions when they are first asked for."""

    def __init__(
        self,
        folder: Path,
        packages: Sequence[PackageRecord],
        load: Load,
        *,
        keep_all: bool = False,
    ) -> None:
        """Index the functions of the cut `pipeline`.

        Args:
            folder: of the packages.
            packages: their records.
            load: opens one function.
            keep_all: keep every function that was loaded; otherwise one of each stage.

        Raises:
            BundleError: a stage is missing, or its stages do not share their buckets.
        """
        self._folder, self._load, self._keep_all = folder, load, keep_all
        self._places: dict[tuple[str, int], _Place] = {}
        for package in packages:
            for function in package.functions if package.cut == "pipeline" else ():
                size = function.bucket.tokens or function.bucket.frames
                if package.stage is not None and size is not None:
                    self._places[package.stage, size] = _Place(package, function)
        self.tokens = self._common(TOKEN_STAGES)
        self.frames = self._common(FRAME_STAGES)
        self._loaded: dict[tuple[str, int], Backend] = {}

    def _common(self, names: Sequence[str]) -> tuple[int, ...]:
        sizes = {name: tuple(sorted(s for n, s in self._places if n == name)) for name in names}
        if len(set(sizes.values())) != 1 or not sizes[names[0]]:
            found = ", ".join(f"{name} {list(found)}" for name, found in sizes.items())
            raise BundleError(
                f"'{self._folder}': the stages of a pipeline must have the same buckets, found "
                f"{found}; a whole pipeline has the stages {', '.join(PIPELINE)}"
            )
        return sizes[names[0]]

    def function(self, name: str, size: int) -> tuple[PackageRecord, FunctionRecord]:
        """The package and function of a stage at a bucket."""
        place = self._places[name, size]
        return place.package, place.function

    def inputs(self, name: str, size: int) -> tuple[str, ...]:
        """Names of the stage's inputs."""
        return tuple(port.name for port in self._places[name, size].function.inputs)

    def stage(self, name: str, size: int) -> Backend:
        """What runs a stage at a bucket; see `load` for errors."""
        key = (name, size)
        if key not in self._loaded:
            if not self._keep_all:
                self._loaded = {k: v for k, v in self._loaded.items() if k[0] != name}
            place = self._places[key]
            path = self._folder / place.package.file
            self._loaded[key] = self._load(path, place.function.name, place.package.compute_units)
        return self._loaded[key]
