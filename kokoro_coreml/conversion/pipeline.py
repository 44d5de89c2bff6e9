"""The cut `pipeline`: a package per stage with a function per bucket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import zip_longest
from pathlib import Path

import numpy as np

from kokoro_coreml.cache import StageCache
from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.conversion.building import Builder
from kokoro_coreml.conversion.job import (
    PROBE_SPEED,
    Built,
    Job,
    require_interface,
    require_positions,
)
from kokoro_coreml.errors import RecipeError
from kokoro_coreml.executor import Program
from kokoro_coreml.manifest import LegRecord, PackageRecord
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.noise import merged_noise
from kokoro_coreml.parity.flows import EagerStages, ForcedDurations
from kokoro_coreml.parity.gate import (
    Case,
    compressed_against_upstream,
    package_against_upstream,
    stage_against_rewrite,
)
from kokoro_coreml.parity.reference import Reference, ReferenceSpeech, upstream_inputs
from kokoro_coreml.parity.stored import stored_network
from kokoro_coreml.recipe import PIPELINE, TOKEN_STAGES, Bucket
from kokoro_coreml.stages import pipeline_stage
from kokoro_coreml.synthesis.pipeline import Flow, Pipeline, Stages
from kokoro_coreml.synthesis.speech import Backend, Spoken, Utterance
from kokoro_coreml.synthesis.stages import PackagedStages
from kokoro_coreml.vocabulary import Vocabulary
from kokoro_coreml.voices import VoicePack

OPENING_TOKENS = 24
"""About how long the sample's opening is that small buckets are checked with."""


def convert_pipeline(job: Job, weights: Checkpoint, packs: Sequence[VoicePack]) -> Built:
    """Build every stage, execute what was saved, and judge it; the first voice speaks.

    Raises:
        RecipeError: a bucket cannot hold what it is checked with.
        ConversionError: a stage cannot be traced or lowered.
        PlacementError: the compute units of a stage cannot or must not run it.
        PackageError: what was saved cannot be executed.
        ParityError: what was saved says something that cannot be compared.
    """
    return build_pipeline(job, weights, packs, refer(job, weights, packs[0]))


def build_pipeline(
    job: Job, weights: Checkpoint, packs: Sequence[VoicePack], cases: Sequence[Case]
) -> Built:
    """As `convert_pipeline`, beside what `refer` gave."""
    network = PipelineNetwork(weights)
    builder = Builder(job, network, StageCache.default(reporter=job.reporter))
    packages = [record for name in PIPELINE for record in builder.build(name)]
    gate = _Gate(job, network, packages, weights)
    audio, legs = gate.against_upstream(cases)
    legs += gate.against_rewrite(cases)
    return Built(tuple(packages), tuple(legs), audio)


def refer(job: Job, weights: Checkpoint, voice: VoicePack) -> list[Case]:
    """Upstream's speech: the sample, the sample faster, and its opening for small buckets.

    Raises:
        RecipeError: a bucket is larger than the network takes, or cannot hold any of them.
    """
    require_positions(job.recipe, weights)
    recipe, sample = job.recipe, job.recipe.sample
    seed_weight = weights.state["decoder"]["generator.m_source.l_linear.weight"]
    reference, noise = Reference(weights), merged_noise(recipe.noise.seed, seed_weight)
    vocabulary = Vocabulary.from_config(weights.config)
    cases = []
    said = [
        ("sample", sample.phonemes, sample.speed),
        ("sample", sample.phonemes, sample.speed * PROBE_SPEED),
    ]
    first = opening(sample.phonemes)
    if first != sample.phonemes:
        said.append(("opening", first, sample.speed))
    for name, phonemes, speed in said:
        title = f"{name} at speed {speed:g}"
        with job.timed("reference"), job.reporter.step(f"reference: upstream speaks the {title}"):
            ids, row = upstream_inputs(weights.config, phonemes, voice)
            speech = reference.speak(ids, row, noise=noise, speed=speed)
        own = Utterance(tuple(vocabulary.encode(phonemes)), voice.row(len(phonemes)), speed)
        cases.append(Case(title, own, speech))
    for bucket in _buckets(job):
        _fitting(cases, bucket)
    return cases


def opening(phonemes: str) -> str:
    """The first words, or the first phonemes of a long word."""
    words = phonemes[:OPENING_TOKENS].rsplit(" ", 1)
    return words[0] if len(phonemes) > OPENING_TOKENS else phonemes


@dataclass(frozen=True)
class _Gate:
    """Executes the packages as they will be shipped."""

    job: Job
    network: PipelineNetwork
    packages: Sequence[PackageRecord]
    weights: Checkpoint

    def against_upstream(self, cases: Sequence[Case]) -> tuple[np.ndarray, list[LegRecord]]:
        """Leg 5: every case at its own bucket and the declared precision; the sample's audio."""
        pipeline, legs, audio = self._pipeline("declared"), [], []
        for case in cases:
            title = f"check: {case.name} at declared precision"
            with self.job.timed("check"), self.job.reporter.step(title):
                flow = pipeline.speak(case.utterance)
            legs += self._against_upstream(case, flow, pipeline)
            audio.append(flow.spoken.audio)
        return audio[0], legs

    def _against_upstream(self, case: Case, flow: Flow, pipeline: Pipeline) -> list[LegRecord]:
        """Where weights lost something, upstream only bounds how much that may be.

        The packages are then held, as strictly as others to upstream, to the network in PyTorch
        with the weights they hold.
        """
        where, limits = f"{case.name} on {flow.bucket}", self.job.recipe.parity
        name = f"package = upstream: {where}"
        if self.stored is self.network:
            return [package_against_upstream(name, flow.spoken, case, limits)]

        def speech(stages: Stages) -> Spoken:
            again = Pipeline(stages, pipeline.config, noise_seed=pipeline.noise_seed)
            return again.speak(case.utterance).spoken

        eager = speech(EagerStages(self.stored, pipeline.stages.tokens, pipeline.stages.frames))
        own = replace(case, reference=ReferenceSpeech(eager.audio, eager.durations))
        forced = speech(ForcedDurations(pipeline.stages, case.reference.durations))
        return [
            compressed_against_upstream(name, flow.spoken, forced, case),
            package_against_upstream(
                f"package = network of its weights: {where}", flow.spoken, own, limits
            ),
        ]

    @cached_property
    def stored(self) -> PipelineNetwork:
        """With the weights that the packages hold."""
        compression = self.job.recipe.compression
        if compression is None or not compression.lossy:
            return self.network  # nothing need be read for that
        stages = self._pipeline("float32").stages
        assert isinstance(stages, PackagedStages)
        return stored_network(self.network, compression, stages)

    def against_rewrite(self, cases: Sequence[Case]) -> list[LegRecord]:
        """Leg 4: every function in float32, beside the module it was traced from."""
        legs: dict[str, LegRecord] = {}
        pipeline = self._pipeline("float32")
        for bucket in _buckets(self.job):
            case = _fitting(cases, bucket)
            title = f"check: {case.name} on {bucket} beside the modules"
            with self.job.timed("check"), self.job.reporter.step(title):
                beside = partial(self._compare, bucket, legs)
                pipeline.speak(case.utterance, bucket=bucket, on_stage=beside)
        return list(legs.values())

    def _compare(
        self,
        bucket: Bucket,
        legs: dict[str, LegRecord],
        name: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Mapping[str, np.ndarray],
    ) -> None:
        size = bucket.tokens if name in TOKEN_STAGES else bucket.frames
        stage = pipeline_stage(self.stored, name, size)
        title = f"package = rewrite: {stage}"
        if title in legs:
            return
        half = self.job.recipe.build(name).precision == "float16"
        legs[title] = stage_against_rewrite(
            title, stage, inputs, outputs, self.job.recipe.parity, half=half
        )

    def _pipeline(self, precision: str) -> Pipeline:
        def load(path: Path, function: str, _units: str) -> Backend:
            return Program.load(path, function, precision=precision)

        stages = PackagedStages(self.job.folder, self.packages, load)
        for name in PIPELINE:
            for size in stages.tokens if name in TOKEN_STAGES else stages.frames:
                program = stages.stage(name, size)
                assert isinstance(program, Program)
                require_interface(program, pipeline_stage(self.network, name, size))
        return Pipeline(stages, self.weights.config, noise_seed=self.job.recipe.noise.seed)


def _buckets(job: Job) -> list[Bucket]:
    """Pairs that reach every token and every frame bucket."""
    tokens, frames = job.recipe.tokens, job.recipe.frames
    return [Bucket(t or tokens[-1], f or frames[-1]) for t, f in zip_longest(tokens, frames)]


def _fitting(cases: Sequence[Case], bucket: Bucket) -> Case:
    """The first case that fits a bucket.

    Raises:
        RecipeError: none does.
    """
    for case in cases:
        frames = int(case.reference.durations.sum())
        if len(case.utterance.ids) <= bucket.tokens and frames <= bucket.frames:
            return case
    raise RecipeError(
        f"{bucket} (tokens x frames) holds neither the sample nor its opening of up to "
        f"{OPENING_TOKENS} phonemes, so that it could not be checked; enlarge the bucket"
    )
