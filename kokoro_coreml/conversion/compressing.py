"""Compression within a budget: surveyed, measured and chosen, and the packages held against it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kokoro_coreml.cache import StageCache
from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.compression import named_by
from kokoro_coreml.compression.asked import require_pipeline
from kokoro_coreml.compression.budget import Plan, within_budget
from kokoro_coreml.compression.measured import Errors
from kokoro_coreml.compression.probe import Probe
from kokoro_coreml.compression.scheme import BLOB_ALIGNMENT
from kokoro_coreml.compression.survey import OPERATION_BYTES, Stored, Surveyed, survey
from kokoro_coreml.conversion.building import Builder
from kokoro_coreml.conversion.job import Job
from kokoro_coreml.conversion.pipeline import opening
from kokoro_coreml.errors import ConversionError
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.recipe import PIPELINE, TOKEN_STAGES, Recipe
from kokoro_coreml.stages import pipeline_stage
from kokoro_coreml.synthesis import Utterance
from kokoro_coreml.vocabulary import Vocabulary
from kokoro_coreml.voices import VoicePack


@dataclass
class Budget:
    """Chooses compression for a recipe and its weights; several budgets share what was measured."""

    job: Job
    weights: Checkpoint
    voice: VoicePack
    """That speaks the sample."""

    def __post_init__(self) -> None:
        recipe = self.job.recipe
        require_pipeline(recipe, "budget")
        self._network = PipelineNetwork(self.weights)
        with self.job.timed("survey"):
            self._surveys = self._surveyed()
        self._other = sum(self._other_bytes(name) for name in PIPELINE)
        reporter = self.job.reporter
        with self.job.timed("measure"), reporter.step("measure: the uncompressed network speaks"):
            probe = Probe(self._network, self._utterance(), noise_seed=recipe.noise.seed)
            self._errors = Errors(
                _once(one for sizes in self._surveys.values() for one in sizes.values()),
                probe,
                {name: 1 if self._merged else len(self._sizes(name)) for name in PIPELINE},
                recipe.target.minimum_deployment_target,
                reporter,
            )

    def plan(self, budget: int) -> Plan:
        """The choice for a budget; raises `RecipeError` if it is too small."""
        with self.job.timed("measure"):
            return within_budget(self._errors, budget, self._other)

    def recipe(self, budget: int) -> Recipe:
        """The recipe with the choice for a budget as its `[compression]`; raises as `plan`."""
        compression = self.plan(budget).compression(budget)
        self.job.reporter.note(f"compression: {compression.reason}")
        return replace(self.job.recipe, compression=compression)

    @property
    def _merged(self) -> bool:
        return self.job.recipe.target.multifunction

    def _sizes(self, name: str) -> tuple[int, ...]:
        recipe = self.job.recipe
        return recipe.tokens if name in TOKEN_STAGES else recipe.frames

    def _utterance(self) -> Utterance:
        sample = self.job.recipe.sample
        phonemes = opening(sample.phonemes)
        ids = Vocabulary.from_config(self.weights.config).encode(phonemes)
        return Utterance(tuple(ids), self.voice.row(len(phonemes)), sample.speed)

    def _surveyed(self) -> dict[str, dict[int, Surveyed]]:
        """Of every stage its smallest and its largest bucket, uncompressed."""
        recipe = replace(self.job.recipe, compression=None)
        job = Job(recipe, self.job.folder, self.job.reporter, self.job.seconds)
        builder = Builder(job, self._network, StageCache.default(reporter=job.reporter))
        name_of = named_by(dict(self._network.named_parameters()))
        found: dict[str, dict[int, Surveyed]] = {}
        for name in PIPELINE:
            sizes = self._sizes(name)
            for size in sorted({sizes[0], sizes[-1]}):
                one = self._survey(builder, name, size, name_of)
                found.setdefault(name, {})[size] = one
        return found

    def _survey(
        self, builder: Builder, name: str, size: int, name_of: Callable[[str, np.ndarray], str]
    ) -> Surveyed:
        # beside the bundle's own folder, so that nothing of it can be left in there
        with tempfile.TemporaryDirectory(dir=self.job.folder.parent) as scratch:
            path = Path(scratch) / f"{name}.mlpackage"
            builder.lower(pipeline_stage(self._network, name, size), path)
            return survey(path, name, name_of)

    def _other_bytes(self, name: str) -> int:
        """Of all packages of a stage, without their large weights.

        Programs and tables grow linearly with the bucket, so two buckets tell of the others.
        """
        sizes, surveyed = self._sizes(name), self._surveys[name]
        shared = set.intersection(*(set(one.small) for one in surveyed.values()))
        common = next(iter(surveyed.values())).small if self._merged else {}
        own = {size: self._own_bytes(one, shared) for size, one in sorted(surveyed.items())}
        total = float(np.interp(sizes, list(own), list(own.values())).sum())
        headers = BLOB_ALIGNMENT * len(sizes)
        return math.ceil(total) + headers + sum(common[key] for key in shared & common.keys())

    def _own_bytes(self, one: Surveyed, shared: set[tuple[int, bytes]]) -> int:
        """What one function adds to its package."""
        small = one.small_bytes
        if self._merged:
            small = sum(count for key, count in one.small.items() if key not in shared)
        return one.program_bytes + OPERATION_BYTES * len(one.weights) + small


def _once(surveyed: Iterable[Surveyed]) -> list[Stored]:
    """Every weight of a stage once, though several buckets hold it."""
    found = {(w.stage, w.path, w.values.shape): w for one in surveyed for w in one.weights}
    return list(found.values())


def require_fit(folder: Path, names: Sequence[str], budget: int) -> None:
    """Raises `ConversionError` where packages take more than they were predicted to."""
    sizes = {
        name: sum(p.stat().st_size for p in (folder / name).rglob("*") if p.is_file())
        for name in names
    }
    total = sum(sizes.values())
    if total > budget:
        raise ConversionError(
            f"the packages take {total} bytes, more than the budget of {budget}, for which their "
            f"compression was chosen; ask for {2 * budget - total} bytes"
        )
