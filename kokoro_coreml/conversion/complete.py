"""The cut `complete`: one package per bucket."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kokoro_coreml.bundle import normalise_package
from kokoro_coreml.bundle.contents import package_record
from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.conversion.job import (
    OPERATIONS_EXPECTED,
    PROBE_SPEED,
    Built,
    Job,
    require_interface,
    require_positions,
    require_room,
)
from kokoro_coreml.errors import ParityError, PhonemeError
from kokoro_coreml.executor import Program, TensorSpec
from kokoro_coreml.lowering import lower, trace
from kokoro_coreml.manifest import LegRecord, PackageRecord
from kokoro_coreml.modules.source import HARMONICS
from kokoro_coreml.parity.gate import (
    Case,
    leg,
    package_against_rewrite,
    package_against_upstream,
)
from kokoro_coreml.parity.metrics import snr_db
from kokoro_coreml.parity.reference import Reference, ReferenceSpeech, upstream_inputs
from kokoro_coreml.recipe import Bucket, Recipe, Sample
from kokoro_coreml.stages import Stage, complete_stage
from kokoro_coreml.synthesis import Spoken, Utterance, speak
from kokoro_coreml.vocabulary import Vocabulary
from kokoro_coreml.voices import VoicePack


def convert_complete(job: Job, weights: Checkpoint, packs: Sequence[VoicePack]) -> Built:
    """Build and judge the package of every bucket; the first voice speaks the sample."""
    cases = refer(job, weights, packs[0])
    built = [convert_bucket(job, weights, bucket, cases) for bucket in job.recipe.buckets]
    legs = [record for one in built for record in one.legs]
    legs += between_buckets(job.recipe, built)
    return Built(tuple(one.package for one in built), tuple(legs), built[0].spoken.audio)


@dataclass(frozen=True)
class BuiltBucket:
    """One package that was saved, what it said, and how that was judged."""

    bucket: Bucket
    package: PackageRecord
    spoken: Spoken
    legs: tuple[LegRecord, ...]


def refer(job: Job, weights: Checkpoint, voice: VoicePack) -> list[Case]:
    """Let upstream speak the sample, also faster, and refuse buckets that cannot hold it.

    Raises:
        PhonemeError: the checkpoint does not know one of the sample's phonemes.
        RecipeError: a bucket is too small for the sample, or too large for the checkpoint.
    """
    sample = job.recipe.sample
    ids = Vocabulary.from_config(weights.config).encode(sample.phonemes)
    require_room(job.recipe, "tokens", len(ids))
    require_positions(job.recipe, weights)
    row = voice.row(len(sample.phonemes))
    cases = []
    for speed in (sample.speed, sample.speed * PROBE_SPEED):
        with (
            job.timed("reference"),
            job.reporter.step(f"reference: upstream speaks the sample at speed {speed:g}"),
        ):
            speech = _upstream_says(weights, sample, voice, speed, job.recipe.noise.seed)
        require_room(job.recipe, "frames", int(speech.durations.sum()))
        utterance = Utterance(tuple(ids), row, speed)
        cases.append(Case(f"sample at speed {speed:g}", utterance, speech))
    return cases


def convert_bucket(
    job: Job, weights: Checkpoint, bucket: Bucket, cases: Sequence[Case]
) -> BuiltBucket:
    """Trace and lower one bucket, save it, and execute what was saved.

    Raises:
        ConversionError: it cannot be traced or lowered.
        PlacementError: its compute units cannot or must not run it.
        PackageError: what was saved cannot be executed.
        ParityError: what was saved says something that cannot be compared.
    """
    stage = complete_stage(weights, bucket, noise_seed=job.recipe.noise.seed)
    path = job.folder / f"{stage}.mlpackage"
    with job.timed("trace"), job.reporter.step(f"trace {stage}"):
        traced = trace(stage)
    with (
        job.timed("convert"),
        job.reporter.step(f"convert {stage}", total=OPERATIONS_EXPECTED) as advance,
    ):
        lower(traced, stage, job.recipe.build(stage.name), path, advance=advance)
        normalise_package(path)
    del traced
    gc.collect()  # coremltools' programs hold reference cycles
    record = package_record([stage], path, job.recipe)
    job.inspect(record)
    with (
        job.timed("check"),
        job.reporter.step(f"check {stage}: execute the saved package, compare"),
    ):
        spoken, legs = _judge(job, stage, _open(path, stage), cases)
    return BuiltBucket(bucket, record, spoken, legs)


def _judge(
    job: Job, stage: Stage, program: Program, cases: Sequence[Case]
) -> tuple[Spoken, tuple[LegRecord, ...]]:
    """Run every case; every input of the package moves in one of them."""
    limits = job.recipe.parity
    said = [_package_says(program, stage, case) for case in cases]
    legs = [
        package_against_upstream(
            f"package = upstream: {case.name} on {stage}", spoken, case, limits
        )
        for case, spoken in zip(cases, said, strict=True)
    ]
    probe = _with_phases(cases[-1])
    spoken = _package_says(program, stage, probe)
    name = f"package = rewrite: {probe.name} on {stage}"
    legs.append(package_against_rewrite(name, stage, spoken, said[-1], probe, limits))
    return said[0], tuple(legs)


def _with_phases(case: Case) -> Case:
    """The same case with harmonics that start elsewhere; upstream has no such input."""
    phases = tuple((i * 0.37) % 1.0 for i in range(1, HARMONICS + 1))
    utterance = dataclasses.replace(case.utterance, phases=phases)
    return dataclasses.replace(case, name=f"{case.name} with phases", utterance=utterance)


def _upstream_says(
    weights: Checkpoint, sample: Sample, voice: VoicePack, speed: float, seed: int
) -> ReferenceSpeech:
    ids, ref_s = upstream_inputs(weights.config, sample.phonemes, voice)
    return Reference(weights).speak(ids, ref_s, noise=seed, speed=speed)


def _open(path: Path, stage: Stage) -> Program:
    program = Program.load(path)
    require_interface(program, stage)
    _require_float32(program, stage)
    return program


def _package_says(program: Program, stage: Stage, case: Case) -> Spoken:
    try:
        return speak(program, case.utterance, stage.bucket.tokens)
    except PhonemeError as error:
        # upstream's speech was found to fit, so this one is too long because it is wrong
        raise ParityError(
            f"{case.name} on {stage}: the saved package overflows: {error}"
        ) from error


def _require_float32(program: Program, stage: Stage) -> None:
    """The executor computes half precision in float32, so its overflow must be kept out here."""
    half = [
        operation.name
        for operation in program.operations
        for _, spec in operation.outputs
        if isinstance(spec, TensorSpec) and spec.dtype == "fp16"
    ]
    if half:
        raise ParityError(
            f"{stage}: {len(half)} operations of a float32 package are in half precision, "
            f"the first is {half[0]}"
        )


def between_buckets(recipe: Recipe, built: Sequence[BuiltBucket]) -> list[LegRecord]:
    """Leg 2 on what was saved: the first bucket's audio against that of every other."""
    first, bound = built[0], {"bucket_snr_db": recipe.parity.bucket_snr_db}
    return [
        leg(
            f"bucket = bucket: sample on {first.bucket} and {other.bucket}",
            {"bucket_snr_db": _snr(first.spoken.audio, other.spoken.audio)},
            bound,
        )
        for other in built[1:]
    ]


def _snr(reference: np.ndarray, candidate: np.ndarray) -> float:
    if reference.shape != candidate.shape:
        return float("nan")
    return snr_db(reference=reference, candidate=candidate)
