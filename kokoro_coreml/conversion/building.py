"""From the stages of the pipeline to saved packages: lowered, or taken from a cache, and merged."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kokoro_coreml.bundle import normalise_package
from kokoro_coreml.bundle.contents import package_record
from kokoro_coreml.cache import StageCache
from kokoro_coreml.compression import Opset, Scheme, named_by
from kokoro_coreml.compression.exact import scheme_of
from kokoro_coreml.conversion.job import OPERATIONS_EXPECTED, Job
from kokoro_coreml.fingerprint import (
    Key,
    changed_since_import,
    source_digest,
    source_files,
    stage_key,
    tensors_digest,
)
from kokoro_coreml.lowering import lower, trace
from kokoro_coreml.lowering.compress import Choose
from kokoro_coreml.lowering.functions import merge_functions
from kokoro_coreml.manifest import PackageRecord
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.recipe import TOKEN_STAGES
from kokoro_coreml.stages import Stage, pipeline_stage

SHAPED_BY = (
    "kokoro_coreml.stages",
    "kokoro_coreml.lowering.lower",
    "kokoro_coreml.lowering.tracing",
    "kokoro_coreml.lowering.compress",
    "kokoro_coreml.compression.exact",
    "kokoro_coreml.compression.naming",
    "kokoro_coreml.bundle.packages",
)
"""Code that decides the bytes of a lowered stage, with all that it imports; besides this file."""


@dataclass
class Builder:
    """Builds the packages of one recipe."""

    job: Job
    network: PipelineNetwork
    cache: StageCache | None
    """None builds everything anew."""
    _digests: dict[str, str] = field(default_factory=dict)

    def build(self, name: str) -> Iterator[PackageRecord]:
        """Build one stage at all its buckets; one record per package that was saved.

        Raises:
            ConversionError: it cannot be traced, lowered or merged.
            PlacementError: its compute units cannot or must not run it.
        """
        sizes = self.job.recipe.tokens if name in TOKEN_STAGES else self.job.recipe.frames
        stages = [pipeline_stage(self.network, name, size) for size in sizes]
        # beside the bundle's own folder, so that nothing of it can be left in there
        with tempfile.TemporaryDirectory(dir=self.job.folder.parent) as scratch:
            paths = {stage.function: Path(scratch) / f"{stage}.mlpackage" for stage in stages}
            for stage in stages:
                self.lower(stage, paths[stage.function])
            for record in self._placed(stages, paths):
                self.job.inspect(record)
                yield record

    def _placed(self, stages: list[Stage], paths: Mapping[str, Path]) -> Iterator[PackageRecord]:
        """Put the packages into the bundle."""
        folder, recipe = self.job.folder, self.job.recipe
        if recipe.target.multifunction:
            path = folder / f"{stages[0].name}.mlpackage"
            title = f"merge the functions of {stages[0].name}"
            with self.job.timed("merge"), self.job.reporter.step(title):
                merge_functions(paths, path, default=stages[0].function)
                normalise_package(path)
            yield package_record(stages, path, recipe, functions=True)
            return
        for stage in stages:
            path = folder / f"{stage}.mlpackage"
            paths[stage.function].rename(path)
            yield package_record([stage], path, recipe)

    def lower(self, stage: Stage, path: Path) -> None:
        """Write the package of one stage at one bucket, from the cache if it holds it.

        Raises:
            ConversionError: it cannot be traced or lowered.
        """
        cache = self.cache if self._unchanged() else None
        key = None if cache is None else self.key(stage)
        if cache is not None and key is not None and cache.get(key, path):
            self.job.reporter.note(f"{stage}: as converted before")
            return
        with self.job.timed("trace"), self.job.reporter.step(f"trace {stage}"):
            traced = trace(stage)
        with (
            self.job.timed("convert"),
            self.job.reporter.step(f"convert {stage}", total=OPERATIONS_EXPECTED) as advance,
        ):
            build = self.job.recipe.build(stage.name)
            lower(traced, stage, build, path, choose=self._choose(stage), advance=advance)
            normalise_package(path)
        del traced
        gc.collect()  # coremltools' programs hold reference cycles
        if cache is not None and key is not None and self._unchanged():
            cache.put(key, path)

    def key(self, stage: Stage) -> Key:
        """Of everything that decides the bytes of a stage's package."""
        if stage.name not in self._digests:
            # names, not only values: they choose the compression
            weights = {
                **dict(stage.module.named_parameters()),
                **dict(stage.module.named_buffers()),
            }
            self._digests[stage.name] = tensors_digest(weights)
        build = self.job.recipe.build(stage.name)
        compression = self.job.recipe.compression
        return stage_key(
            {
                "stage": str(stage),
                "build": vars(build),
                "compression": None if compression is None else compression.to_dict(),
                "weights": self._digests[stage.name],
                "paths": self._paths if compression is not None and compression.weights else None,
                "config": self._config,
                "code": self._code,
            }
        )

    def _unchanged(self) -> bool:
        """Whether the code on disk, which the key is of, is what runs here."""
        if self.cache is None:
            return False
        if not changed_since_import(self._sources):
            return True
        self.job.reporter.note("The code was changed while it runs: no finished stages are used.")
        return False

    @cached_property
    def _config(self) -> dict[str, Any]:
        """What of the network is no tensor: layers that share weights, heads, dilations, slopes."""
        found = dataclasses.asdict(self.network.config)
        del found["raw"]
        return found

    @cached_property
    def _sources(self) -> list[Path]:
        return [Path(__file__), *source_files(*SHAPED_BY).values()]

    @cached_property
    def _code(self) -> list[str]:
        own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        return [own, source_digest(*SHAPED_BY)]

    @cached_property
    def _paths(self) -> str:
        """Of all weights: a value that several have is compressed as the first of them."""
        return tensors_digest(dict(self.network.named_parameters()))

    @cached_property
    def _path_of(self) -> Callable[[str, np.ndarray], str]:
        return named_by(dict(self.network.named_parameters()))

    def _choose(self, stage: Stage) -> Choose | None:
        compression = self.job.recipe.compression
        if compression is None:
            return None

        def choose(name: str, value: np.ndarray, axis: int, opset: Opset) -> Scheme | None:
            text = compression.text(stage.name, self._path_of(name, value))
            return scheme_of(text, value, axis, opset)

        return choose
