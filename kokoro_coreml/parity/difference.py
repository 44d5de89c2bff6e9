"""`diff`: one package of a bundle, operation by operation, beside the module it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kokoro_coreml.bundle import verify_files
from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.errors import BundleError, PackageError, ParityError
from kokoro_coreml.executor import Program
from kokoro_coreml.lowering import trace
from kokoro_coreml.manifest import FunctionRecord, Manifest, PackageRecord
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.parity.flows import inputs_of
from kokoro_coreml.parity.location import operation_faults
from kokoro_coreml.parity.packages import errors_against_trace, errors_of_rounding
from kokoro_coreml.parity.results import OperationError, Suspect
from kokoro_coreml.parity.suite import load_suite, suite_voice
from kokoro_coreml.parity.thresholds import PACKAGE_REWRITE, PACKAGE_UPSTREAM
from kokoro_coreml.parity.torchscript import TracedGraph
from kokoro_coreml.parity.weights import weights_of
from kokoro_coreml.progress import SILENT, Reporter
from kokoro_coreml.recipe import PIPELINE, TOKEN_STAGES, Bucket
from kokoro_coreml.stages import Stage, complete_stage, pipeline_stage
from kokoro_coreml.synthesis import Backend, Shape, Utterance, shapes_of
from kokoro_coreml.synthesis.pipeline import Pipeline
from kokoro_coreml.synthesis.stages import PackagedStages
from kokoro_coreml.threads import fixed_threads
from kokoro_coreml.vocabulary import Vocabulary
from kokoro_coreml.voices import load_voice

SUITE = "full"
"""Where the cases that can be asked for stand."""

MAIN = "main"
"""The function of a package of the cut `complete` unless another is named."""


@dataclass(frozen=True)
class Question:
    """Which package to look into, and with which words."""

    bundle: Path
    stage: str | None = None
    """Stage, package or file name; None where the bundle has one package."""
    function: str | None = None
    """None is the only one, or that of the buckets the words need."""
    precision: str = "float32"
    """`float32` compares with the traced module, the other modes with float32."""
    case: str | None = None
    """Of the suite `full`; None is the bundle's sample."""
    checkpoint: str | None = None


@dataclass(frozen=True)
class Answer:
    """What every operation adds."""

    title: str
    executed: int
    """Operations of the function, constants left out."""
    operations: tuple[OperationError, ...]
    """Those that could be compared, in program order."""
    suspects: tuple[Suspect, ...]

    def worst(self, count: int) -> list[OperationError]:
        """Those that add most error on right inputs first."""
        return sorted(self.operations, key=lambda o: (o.local_snr_db, o.snr_db))[:count]


@dataclass(frozen=True)
class _Subject:
    """One function, the module it was made from, and what to feed both."""

    package: Path
    function: str
    stage: Stage
    inputs: Mapping[str, np.ndarray]

    def __str__(self) -> str:
        return f"{self.package.name}:{self.function}"


def compare(question: Question, *, reporter: Reporter = SILENT) -> Answer:
    """Run the package beside its reference.

    Raises:
        BundleError: the bundle is not what was written, or has no such stage.
        ParityError: the weights are not the bundle's, or there is no such case.
        PhonemeError: no bucket, or not the one asked for, holds the words.
        PackageError: the package cannot be run.
    """
    with fixed_threads():
        manifest = verify_files(question.bundle)
        pipeline = any(package.cut == "pipeline" for package in manifest.packages)
        chosen = _choose_stage(manifest, question) if pipeline else None
        shape = None if pipeline else _choose(shapes_of(question.bundle, manifest), question)
        checkpoint = weights_of(manifest.checkpoint, question.checkpoint, reporter)
        utterance = _utterance(question, manifest, checkpoint, reporter)
        if shape is not None:
            subject = _complete(shape, checkpoint, utterance, manifest.noise.seed)
        else:
            assert chosen is not None
            subject = _stage(question, manifest, checkpoint, utterance, chosen, reporter)
        return _compare(question, subject, reporter)


def _complete(shape: Shape, checkpoint: Checkpoint, utterance: Utterance, seed: int) -> _Subject:
    stage = complete_stage(checkpoint, shape.bucket, noise_seed=seed)
    inputs = utterance.inputs(shape.bucket.tokens)
    return _Subject(shape.package, shape.function, stage, inputs)


def _compare(question: Question, subject: _Subject, reporter: Reporter) -> Answer:
    plain, stage = Program.load(subject.package, subject.function), subject.stage
    with reporter.step(f"trace {stage}"):
        traced = TracedGraph(trace(stage), stage.module, [p.name for p in stage.outputs])
    if question.precision == "float32":
        title = f"{subject} in float32 beside the traced PyTorch module"
        with reporter.step(title):
            found = errors_against_trace(plain, traced, stage, subject.inputs)
        suspects = operation_faults(PACKAGE_REWRITE, found, plain.operations)
    else:
        title = f"{subject} at {question.precision} precision beside itself in float32"
        other = Program.load(subject.package, subject.function, precision=question.precision)
        with reporter.step(title):
            found = errors_of_rounding(plain, other, traced, subject.inputs)
        suspects = operation_faults(PACKAGE_UPSTREAM, found, other.operations)
    executed = sum(o.type != "const" for o in plain.operations)
    return Answer(title, executed, tuple(found), tuple(suspects))


def _choose(shapes: Sequence[Shape], question: Question) -> Shape:
    named = [
        s
        for s in shapes
        if question.stage is None
        or question.stage in (s.package.name, s.package.stem, s.package.stem.split("_")[0])
    ]
    function = question.function or MAIN
    found = [s for s in named if s.function == function]
    if len(found) == 1:
        return found[0]
    known = ", ".join(str(s) for s in shapes)
    if not found:
        raise BundleError(
            f"the bundle has no stage '{question.stage or 'any'}' with a function "
            f"'{function}'; it has: {known}"
        )
    raise BundleError(f"the bundle has several packages, name one with --stage: {known}")


# -- pipeline -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Chosen:
    """A stage of a pipeline, at a size or at that of the words."""

    stage: str
    size: int | None


def _choose_stage(manifest: Manifest, question: Question) -> _Chosen:
    places = [
        (package, function)
        for package in manifest.packages
        for function in package.functions
        if question.stage in (package.stage, package.file, Path(package.file).stem)
    ]
    if question.stage is None:
        raise BundleError(
            f"the bundle is a pipeline, name a stage with --stage: {', '.join(PIPELINE)}"
        )
    found = [p for p in places if question.function in (None, *_names(*p))]
    if not found:
        known = ", ".join(f"{p.file}:{f.name}" for p in manifest.packages for f in p.functions)
        raise BundleError(
            f"the bundle has no stage '{question.stage}' with a function "
            f"'{question.function or 'any'}'; it has: {known}"
        )
    package, function = found[0]
    assert package.stage is not None  # the manifest of a pipeline has it
    size = function.bucket.tokens or function.bucket.frames
    return _Chosen(package.stage, size if len(found) == 1 else None)


def _names(package: PackageRecord, function: FunctionRecord) -> tuple[str, ...]:
    """What a function can be asked for as, also where it is the only one of its package."""
    bucket = function.bucket
    if bucket.tokens is not None:
        return function.name, f"tokens_{bucket.tokens}"
    return function.name, f"frames_{bucket.frames}"


def _stage(
    question: Question,
    manifest: Manifest,
    checkpoint: Checkpoint,
    utterance: Utterance,
    chosen: _Chosen,
    reporter: Reporter,
) -> _Subject:
    """Run the packages in front of the stage, in float32, for its inputs."""

    def load(path: Path, function: str, _units: str) -> Backend:
        return Program.load(path, function)

    stages = PackagedStages(question.bundle, manifest.packages, load)
    pipeline = Pipeline(stages, checkpoint.config, noise_seed=manifest.noise.seed)
    bucket = _bucket(stages, chosen, len(utterance.ids))
    with reporter.step(f"run the pipeline up to {chosen.stage}"):
        size, inputs = inputs_of(pipeline, utterance, chosen.stage, bucket=bucket)
    package, function = stages.function(chosen.stage, size)
    stage = pipeline_stage(PipelineNetwork(checkpoint), chosen.stage, size)
    return _Subject(question.bundle / package.file, function.name, stage, inputs)


def _bucket(stages: PackagedStages, chosen: _Chosen, needed: int) -> Bucket | None:
    """The bucket that leads to the size asked for; None is that of the words."""
    if chosen.size is None:
        return None
    if chosen.stage in TOKEN_STAGES:
        if needed > chosen.size:
            raise BundleError(f"the words need {needed} tokens, more than {chosen.size}")
        return Bucket(chosen.size, stages.frames[-1])
    tokens = next((size for size in stages.tokens if size >= needed), stages.tokens[-1])
    return Bucket(tokens, chosen.size)


# -- words --------------------------------------------------------------------------------------


def _utterance(
    question: Question, manifest: Manifest, checkpoint: Checkpoint, reporter: Reporter
) -> Utterance:
    vocabulary = Vocabulary.from_config(checkpoint.config)
    folder = question.bundle / "voices"
    if question.case is not None:
        cases = {case.id: case for case in load_suite(SUITE).cases}
        if question.case not in cases:
            raise ParityError(
                f"the suite '{SUITE}' has no case '{question.case}'; it has: {', '.join(cases)}"
            )
        case = cases[question.case]
        voice = suite_voice(case, checkpoint.config, search=[folder], reporter=reporter)
        ids = vocabulary.encode(case.phonemes)
        return Utterance(tuple(ids), voice.row(len(case.phonemes)), case.speed)
    sample = manifest.sample
    if sample is None:
        raise PackageError("the bundle has no sample; name a case with --case")
    voice = load_voice(sample.voice, config=checkpoint.config, search=[folder], reporter=reporter)
    ids = vocabulary.encode(sample.phonemes)
    return Utterance(tuple(ids), voice.row(len(sample.phonemes)), sample.speed)
