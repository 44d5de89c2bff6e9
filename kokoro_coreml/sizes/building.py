"""The packages of one row: converted, and weighed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kokoro_coreml.cache import StageCache
from kokoro_coreml.conversion.building import Builder
from kokoro_coreml.conversion.job import Job
from kokoro_coreml.manifest import PackageRecord
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.progress import Reporter
from kokoro_coreml.recipe import PIPELINE, Recipe
from kokoro_coreml.sizes.results import RowSizes, StageSize

WEIGHTS = "weights"
"""Folder of a package that holds its weight files."""


def build(
    recipe: Recipe, network: PipelineNetwork, folder: Path, reporter: Reporter
) -> tuple[PackageRecord, ...]:
    """Convert every stage into `folder`; what was converted before comes from the cache.

    Raises:
        ConversionError: a stage cannot be lowered, or a weight cannot be stored as asked for.
        PlacementError: its compute units cannot or must not run it.
    """
    cache = StageCache.default(reporter=reporter)
    builder = Builder(Job(recipe, folder, reporter), network, cache)
    return tuple(record for name in PIPELINE for record in builder.build(name))


def weigh(folder: Path, packages: Sequence[PackageRecord]) -> RowSizes:
    """Sizes of the packages, by stage."""
    stages = []
    for name in PIPELINE:
        files = [
            path
            for package in packages
            if package.stage == name
            for path in (folder / package.file).rglob("*")
            if path.is_file()
        ]
        weights = [path for path in files if path.parent.name == WEIGHTS]
        stages.append(StageSize(name, _bytes(weights), _bytes(files)))
    return RowSizes(
        sum(stage.weight_bytes for stage in stages),
        sum(stage.package_bytes for stage in stages),
        tuple(stages),
    )


def _bytes(files: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in files)
