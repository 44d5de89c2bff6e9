"""`sizes`: every row converted, weighed, executed and compared."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from kokoro_coreml import __version__
from kokoro_coreml.bench.lines import chosen
from kokoro_coreml.bundle.contents import build_manifest, tool_versions
from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.compression.exact import UNCOMPRESSED
from kokoro_coreml.conversion.compressing import Budget
from kokoro_coreml.conversion.job import Job, require_positions
from kokoro_coreml.executor import Program
from kokoro_coreml.manifest import PackageRecord, ParityRecord
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.parity.recognition import Recogniser
from kokoro_coreml.parity.reference import Reference
from kokoro_coreml.parity.run import told
from kokoro_coreml.parity.suite import Suite, load_suite, suite_voice, suite_voices_folder
from kokoro_coreml.parity.trials import Skipped, Trial, Trials
from kokoro_coreml.progress import SILENT, Reporter
from kokoro_coreml.recipe import Bucket, Recipe, load_recipe
from kokoro_coreml.sizes.building import build, weigh
from kokoro_coreml.sizes.comparison import compare, quality_of, same_words, smallest
from kokoro_coreml.sizes.errors import SizesError
from kokoro_coreml.sizes.measuring import NO_RECOGNISER, Fitting, Measurer, recogniser_name
from kokoro_coreml.sizes.request import SizesRequest, at_one_bucket
from kokoro_coreml.sizes.results import (
    SCHEMA_VERSION,
    NotMeasured,
    Row,
    Said,
    SizeReport,
    Variation,
)
from kokoro_coreml.sizes.text import line
from kokoro_coreml.sizes.tolerances import TOLERANCES, VARIATION
from kokoro_coreml.synthesis import Backend
from kokoro_coreml.synthesis.stages import PackagedStages
from kokoro_coreml.threads import THREADS, fixed_threads

FROM_8_BITS = "dequantized from 8 bits"
"""In the notes on a checkpoint that was read from an 8-bit export (`checkpoint.onnx_export`)."""

PRECISION = "declared"
"""Numeric mode of the executor: every operation is rounded as the package declares it."""

Choice = Callable[[], Recipe]
"""The recipe of a row; raises where it cannot be had."""

OnRow = Callable[[SizeReport], None]


def sizes(
    request: SizesRequest, *, reporter: Reporter = SILENT, on_row: OnRow | None = None
) -> SizeReport:
    """Measure every row; one that fails is reported as failed, and the others are still measured.

    Args:
        request: what to measure.
        reporter: told of every step, and of every row.
        on_row: given the report as far as it is, after each row.

    Raises:
        SizesError: the recipe is of another cut, or no case fits its bucket.
        RecipeError: the recipe, a compression or a budget is none.
        KokoroError: the suite, its voices or the weights cannot be had.
    """
    recipe = at_one_bucket(load_recipe(request.recipe), request.tokens, request.frames)
    # what is misspelt must not be found after an hour
    uniform, limits = request.uniform(recipe), request.limits()
    suite = load_suite(request.suite)
    if request.cases:
        suite = replace(suite, cases=tuple(chosen(suite, request.cases)))
    with fixed_threads(), tempfile.TemporaryDirectory(prefix="kokoro-coreml-sizes-") as folder:
        work = _prepare(request, recipe, suite, Path(folder), reporter)
        choices: dict[str, Choice] = {n: partial(replace, one) for n, one in uniform.items()}
        choices |= {name: partial(work.within, size) for name, size in limits.items()}
        for name, choice in choices.items():
            work.add(name, choice)
            if on_row is not None:
                on_row(work.report())
        return work.report()


def failures(report: SizeReport) -> list[str]:
    """Rows that failed, each with its reason."""
    return [f"{row.name}: {row.reason}" for row in report.rows if row.verdict == "failed"]


def _prepare(
    request: SizesRequest, recipe: Recipe, suite: Suite, folder: Path, reporter: Reporter
) -> _Work:
    weights = Job(recipe, folder, reporter).load(request.checkpoint)
    require_positions(recipe, weights)
    network = PipelineNetwork(weights)
    with reporter.step("build upstream's network"):
        reference = Reference(weights)
    fitting = Fitting([Bucket(recipe.tokens[0], recipe.frames[0])], network)
    trials, skipped = _trials(recipe, weights, reference, fitting, suite, reporter)
    seed = recipe.noise.seed
    recogniser = Recogniser() if Recogniser.available() else None
    measurer = Measurer(reference, trials, fitting.noise(seed), seed, reporter, recogniser)
    with reporter.step("upstream beside its second run"):
        said, again = measurer.said(), measurer.variation()
    variation = Variation(quality_of(again, said), again)
    return _Work(
        recipe, suite, weights, network, measurer, folder, reporter, said, variation, skipped
    )


def _trials(
    recipe: Recipe,
    weights: Checkpoint,
    reference: Reference,
    fitting: Fitting,
    suite: Suite,
    reporter: Reporter,
) -> tuple[list[Trial], list[Skipped]]:
    voice = suite_voice(suite.cases[0], weights.config)
    # never written: it tells the trials the seed and the longest text
    manifest = build_manifest(recipe, weights, [voice], (), ParityRecord("failed", "executor", ()))
    made = Trials(manifest, weights, reference, fitting, suite_voices_folder(), reporter)
    trials, skipped = made.prepare(suite)
    if not trials:
        reasons = ", ".join(f"{one.case.id} {one.reason}" for one in skipped)
        raise SizesError(
            f"no case of the suite {suite.name} fits {fitting.buckets[0]} (tokens x frames): "
            f"{reasons}; choose larger buckets or another suite"
        )
    return trials, skipped


@dataclass
class _Work:
    """The table as far as it is."""

    recipe: Recipe
    suite: Suite
    weights: Checkpoint
    network: PipelineNetwork
    measurer: Measurer
    folder: Path
    reporter: Reporter
    said: tuple[Said, ...]
    variation: Variation
    skipped: list[Skipped]

    def __post_init__(self) -> None:
        self.rows: list[Row] = []
        self._budget: Budget | None = None

    def within(self, size: int) -> Recipe:
        """The recipe with the compression that harms least within a budget in bytes.

        Raises:
            RecipeError: the budget is too small.
            VoiceError: the voice of the recipe's sample cannot be had.
        """
        if self._budget is None:
            job = Job(self.recipe, self.folder / "budget", self.reporter)
            (voice,) = job.voices(self.weights, [self.recipe.sample.voice])
            self._budget = Budget(job, self.weights, voice)
        return self._budget.recipe(size)

    def add(self, name: str, choice: Choice) -> None:
        """Measure one row; what goes wrong is its reason."""
        blank = Row(name, None, "failed", None, None, None, None, None, None, ())
        with self.reporter.step(f"row {name}"):
            try:
                row = self._row(blank, choice())
            except Exception as error:
                row = replace(blank, reason=told(error))
        self.rows.append(row)
        self.reporter.note(line(row))
        gc.collect()  # coremltools' programs hold reference cycles

    def _row(self, blank: Row, recipe: Recipe) -> Row:
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            folder = Path(scratch) / "packages"
            folder.mkdir()
            packages = build(recipe, self.network, folder, self.reporter)
            weighed = weigh(folder, packages)
            cases = self.measurer.measure(_stages(folder, packages))
        base = next((row for row in self.rows if row.name == UNCOMPRESSED), None)
        return replace(
            blank,
            compression=recipe.compression,
            verdict="measured",
            sizes=weighed,
            quality=quality_of(cases, self.said),
            same_words=same_words(cases),
            against_uncompressed=(
                compare(cases, base.cases, TOLERANCES)
                if base is not None and base.verdict == "measured"
                else None
            ),
            against_variation=compare(cases, self.variation.cases, VARIATION),
            cases=cases,
        )

    def report(self) -> SizeReport:
        """The whole of it."""
        source = self.weights.provenance
        missing = [NotMeasured(f"case {one.case.id}", one.reason) for one in self.skipped]
        if self.measurer.recogniser is None:
            missing.append(NotMeasured("words", NO_RECOGNISER))
        return SizeReport(
            schema_version=SCHEMA_VERSION,  # type: ignore[arg-type]
            project_version=__version__,
            recipe=self.recipe.name,
            weights=f"{source.source}, {source.location}",
            weights_from_8_bits=any(FROM_8_BITS in note for note in source.notes),
            tokens=self.recipe.tokens[0],
            frames=self.recipe.frames[0],
            precision=PRECISION,
            suite=self.suite.name,
            threads=THREADS,
            versions=tool_versions(),
            recogniser=recogniser_name(),
            tolerances=TOLERANCES,
            said=self.said,
            variation=self.variation,
            rows=tuple(self.rows),
            smallest=smallest(self.rows, UNCOMPRESSED),
            not_measured=tuple(missing),
        )


def _stages(folder: Path, packages: tuple[PackageRecord, ...]) -> PackagedStages:
    def load(path: Path, function: str, _units: str) -> Backend:
        return Program.load(path, function, precision=PRECISION)

    return PackagedStages(folder, packages, load)
