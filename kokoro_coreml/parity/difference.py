"""`diff`: one package of a bundle, operation by operation, beside the module it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kokoro_coreml.bundle import verify_files
from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.errors import BundleError, PackageError, ParityError
from kokoro_coreml.executor import Program
from kokoro_coreml.lowering import trace
from kokoro_coreml.manifest import Manifest
from kokoro_coreml.parity.location import operation_faults
from kokoro_coreml.parity.packages import errors_against_trace, errors_of_rounding
from kokoro_coreml.parity.results import OperationError, Suspect
from kokoro_coreml.parity.suite import load_suite, suite_voice
from kokoro_coreml.parity.thresholds import PACKAGE_REWRITE, PACKAGE_UPSTREAM
from kokoro_coreml.parity.torchscript import TracedGraph
from kokoro_coreml.parity.weights import weights_of
from kokoro_coreml.progress import SILENT, Reporter
from kokoro_coreml.stages import complete_stage
from kokoro_coreml.synthesis import Shape, Utterance, shapes_of
from kokoro_coreml.threads import fixed_threads
from kokoro_coreml.vocabulary import Vocabulary
from kokoro_coreml.voices import load_voice

SUITE = "full"
"""Where the cases that can be asked for stand."""


@dataclass(frozen=True)
class Question:
    """Which package to look into, and with which words."""

    bundle: Path
    stage: str | None = None
    """Stage, package or file name; None where the bundle has one package."""
    function: str = "main"
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


def compare(question: Question, *, reporter: Reporter = SILENT) -> Answer:
    """Run the package beside its reference.

    Raises:
        BundleError: the bundle is not what was written, or has no such stage.
        ParityError: the weights are not the bundle's, or there is no such case.
        PackageError: the package cannot be run.
    """
    with fixed_threads():
        manifest = verify_files(question.bundle)
        shape = _choose(shapes_of(question.bundle, manifest), question)
        checkpoint = weights_of(manifest.checkpoint, question.checkpoint, reporter)
        utterance = _utterance(question, manifest, checkpoint, reporter)
        return _compare(question, shape, checkpoint, utterance, manifest.noise.seed, reporter)


def _compare(
    question: Question,
    shape: Shape,
    checkpoint: Checkpoint,
    utterance: Utterance,
    seed: int,
    reporter: Reporter,
) -> Answer:
    plain = Program.load(shape.package, shape.function)
    stage = complete_stage(checkpoint, shape.bucket, noise_seed=seed)
    inputs = utterance.inputs(shape.bucket.tokens)
    with reporter.step(f"trace {stage}"):
        traced = TracedGraph(trace(stage), stage.module, [p.name for p in stage.outputs])
    if question.precision == "float32":
        title = f"{shape} in float32 beside the traced PyTorch module"
        with reporter.step(title):
            found = errors_against_trace(plain, traced, stage, inputs)
        suspects = operation_faults(PACKAGE_REWRITE, found, plain.operations)
    else:
        title = f"{shape} at {question.precision} precision beside itself in float32"
        other = Program.load(shape.package, shape.function, precision=question.precision)
        with reporter.step(title):
            found = errors_of_rounding(plain, other, traced, inputs)
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
    found = [s for s in named if s.function == question.function]
    if len(found) == 1:
        return found[0]
    known = ", ".join(str(s) for s in shapes)
    if not found:
        raise BundleError(
            f"the bundle has no stage '{question.stage or 'any'}' with a function "
            f"'{question.function}'; it has: {known}"
        )
    raise BundleError(f"the bundle has several packages, name one with --stage: {known}")


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
