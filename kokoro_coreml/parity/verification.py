"""`verify`: every leg of parity over a suite, for a bundle that was already written."""

from __future__ import annotations

import gc
import hashlib
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kokoro_coreml import __version__
from kokoro_coreml.bundle import verify_files
from kokoro_coreml.bundle.contents import tool_versions
from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.config import SAMPLE_RATE
from kokoro_coreml.coreml import COMPUTE_UNITS
from kokoro_coreml.errors import KokoroError, ParityError
from kokoro_coreml.executor import Program
from kokoro_coreml.executor.precision import Finding
from kokoro_coreml.lowering import trace
from kokoro_coreml.manifest import MANIFEST_NAME, Manifest
from kokoro_coreml.noise import source_noise
from kokoro_coreml.parity import devices, location, modules, packages
from kokoro_coreml.parity.judge import Judge, judged, merged, not_run, waived
from kokoro_coreml.parity.packages import Said
from kokoro_coreml.parity.recognition import Recogniser
from kokoro_coreml.parity.reference import Reference
from kokoro_coreml.parity.report import Listening
from kokoro_coreml.parity.request import (
    EVERY_LEG,
    RANGE,
    RANGE_THRESHOLDS,
    Request,
    check_request,
)
from kokoro_coreml.parity.results import (
    SCHEMA_VERSION,
    BundleFacts,
    DeviceUse,
    Leg,
    OperationError,
    PackageTiming,
    RangeFinding,
    Report,
    StageResult,
    Suspect,
    Threshold,
)
from kokoro_coreml.parity.suite import Suite, load_suite
from kokoro_coreml.parity.thresholds import (
    COREML_UPSTREAM,
    PACKAGE_REWRITE,
    PACKAGE_UPSTREAM,
    PADDED_EXACT,
    REWRITE_UPSTREAM,
    TRACED_EAGER,
    WORDS,
    thresholds_for,
)
from kokoro_coreml.parity.torchscript import TracedGraph
from kokoro_coreml.parity.trials import Trial, Trials, longest
from kokoro_coreml.parity.weights import weights_of
from kokoro_coreml.progress import SILENT, Reporter
from kokoro_coreml.recipe import Bucket, Thresholds, parse_recipe
from kokoro_coreml.stages import Stage, complete_stage
from kokoro_coreml.synthesis import Shape, shapes_of, speak
from kokoro_coreml.threads import fixed_threads


@dataclass(frozen=True)
class Verification:
    """A report, and what there is to listen to."""

    report: Report
    listenings: tuple[Listening, ...]


def verify(request: Request, *, reporter: Reporter = SILENT) -> Verification:
    """Run every leg that can be run here.

    A leg that raises is a failed leg; what is wrong with the request, the bundle's files or the
    weights is an error.

    Raises:
        ParityError: the runtime, precision or a leg is unknown, or the weights are not those the
            bundle was made from.
        BundleError: the bundle is not what was written.
        CoreMLUnavailableError: the runtime is `coreml` and this is no Mac.
        KokoroError: the suite, its voices or the weights cannot be had.
    """
    check_request(request)
    with fixed_threads():
        run = _open(request, reporter)
        run.everything()
        return run.result()


def _open(request: Request, reporter: Reporter) -> _Run:
    with reporter.step(f"check the files of {request.bundle.name}"):
        manifest = verify_files(request.bundle)
    suite = load_suite(request.suite)
    checkpoint = weights_of(manifest.checkpoint, request.checkpoint, reporter)
    recipe = parse_recipe(dict(manifest.recipe.content), document=MANIFEST_NAME)
    with reporter.step("build upstream's network"):
        reference = Reference(checkpoint)
    return _Run(
        request, manifest, suite, checkpoint, reference, recipe.parity, reporter, Recogniser
    )


@dataclass
class _Run:
    """One verification; every leg adds to the lists below."""

    request: Request
    manifest: Manifest
    suite: Suite
    checkpoint: Checkpoint
    reference: Reference
    recipe: Thresholds
    reporter: Reporter
    recogniser: type[Recogniser]
    legs: list[Leg] = field(default_factory=list)
    excused: set[str] = field(default_factory=set)
    """Legs that were not run because there was nothing for them to do."""
    stages: list[StageResult] = field(default_factory=list)
    operations: list[OperationError] = field(default_factory=list)
    operations_title: str = ""
    suspects: list[Suspect] = field(default_factory=list)
    timings: list[PackageTiming] = field(default_factory=list)
    devices: list[DeviceUse] = field(default_factory=list)
    findings: list[RangeFinding] = field(default_factory=list)
    executed: list[Said] = field(default_factory=list)
    """By the executor."""
    said: list[Said] = field(default_factory=list)
    """By the runtime that was asked for."""
    rounded: list[Suspect] | None = None
    """Operations that rounding harms most, if any was done; suspects if the leg with it fails."""
    labels: dict[str, str] = field(default_factory=dict)
    """Module of each operation, by package name."""
    eager_seconds: dict[Shape, tuple[float, ...]] = field(default_factory=dict)

    def everything(self) -> None:
        """Run the legs in the order in which an error travels."""
        shapes = shapes_of(self.request.bundle, self.manifest)
        self.programs = self._load(shapes)
        self.judge = Judge(self._thresholds())
        trials, self.skipped = Trials(
            self.manifest,
            self.checkpoint,
            self.reference,
            shapes,
            self.request.bundle / "voices",
            self.reporter,
        ).prepare(self.suite)
        if not trials:
            raise ParityError(
                f"no case of the suite {self.suite.name} fits a bucket of the bundle: "
                + ", ".join(f"{s.case.id} {s.reason}" for s in self.skipped)
            )
        self._inputs(trials)
        self._rewrite(trials)
        for shape in shapes:
            self._shape(shape, [t for t in trials if t.shape == shape])
        self._upstream(trials)
        self._range()
        self._coreml(trials)
        self._words()

    # -- packages -------------------------------------------------------------------------------

    def _load(self, shapes: Sequence[Shape]) -> dict[Shape, tuple[Program, Program]]:
        """Each function in float32 and at the precision asked for; the same object if equal."""
        found: dict[Shape, tuple[Program, Program]] = {}
        for shape in shapes:
            with (
                self._attempt(PACKAGE_REWRITE, PACKAGE_UPSTREAM),
                self.reporter.step(f"load {shape}"),
            ):
                plain = Program.load(shape.package, shape.function)
                judged_at = plain
                if self.request.precision != "float32" and packages.has_half(plain):
                    judged_at = Program.load(
                        shape.package, shape.function, precision=self.request.precision
                    )
                found[shape] = (plain, judged_at)
        return found

    @property
    def half(self) -> bool:
        """Whether half precision is declared anywhere and is rounded to."""
        return any(plain is not other for plain, other in self.programs.values())

    def _thresholds(self) -> tuple[Threshold, ...]:
        precision = "float16" if self.half else "float32"
        found = self.request.thresholds or thresholds_for(precision, self.recipe)
        inputs = Threshold(
            "input_differences",
            location.INPUTS_UPSTREAM,
            0.0,
            "lower",
            "ids and voice row are copied, not computed",
        )
        return (inputs, *found, *RANGE_THRESHOLDS)

    # -- legs -----------------------------------------------------------------------------------

    def _inputs(self, trials: Sequence[Trial]) -> None:
        name = location.INPUTS_UPSTREAM
        with self._attempt(name):
            if self._left_out(name):
                return
            faults = location.input_faults(trials)
            checks = []
            for trial in trials:
                count = sum(f.where.startswith(f"case {trial.case.id},") for f in faults)
                metrics = {"input_differences": float(count)}
                checks += self.judge.checks(name, trial.case.id, metrics)
            self.legs.append(judged(name, checks, 0.0))
            self.suspects += faults

    def _rewrite(self, trials: Sequence[Trial]) -> None:
        trial = longest(trials)
        assert trial is not None
        self.probe = trial
        if self._left_out(REWRITE_UPSTREAM):
            return
        with (
            self._attempt(REWRITE_UPSTREAM),
            self.reporter.step("rewrite = upstream: every module at the exact length"),
        ):
            began = time.perf_counter()
            heard = self._hear(trial, modules.exact_bucket(trial))
            samples = self.checkpoint.config.samples_per_frame * trial.frames
            noise = source_noise(self.manifest.noise.seed, samples)
            found = modules.rewrite_against_upstream(
                self.judge, self.reference, trial, heard, noise
            )
            self._add(found, began)

    def _hear(self, trial: Trial, bucket: Bucket) -> modules.Heard:
        seed = self.manifest.noise.seed
        stage = complete_stage(self.checkpoint, bucket, noise_seed=seed)
        return modules.hear(stage, trial.utterance)

    def _shape(self, shape: Shape, trials: Sequence[Trial]) -> None:
        """Legs 2 to 4 for one bucket."""
        trial = longest(trials)
        if trial is None:
            for name in (PADDED_EXACT, TRACED_EAGER, PACKAGE_REWRITE, PACKAGE_UPSTREAM):
                if not self._left_out(name):
                    error = f"no case of the suite {self.suite.name} belongs to {shape}"
                    self.legs.append(judged(name, [], 0.0, error=error))
            return
        seed = self.manifest.noise.seed
        stage = complete_stage(self.checkpoint, shape.bucket, noise_seed=seed)
        if not self._left_out(PADDED_EXACT):
            self._padded(stage, trial)
        with self._attempt(TRACED_EAGER, PACKAGE_REWRITE):
            eager = modules.Eager(stage)
            with self.reporter.step(f"the rewrite speaks at {shape.bucket} in PyTorch"):
                spoken = speak(eager, trial.utterance, shape.bucket.tokens)
            self.eager_seconds[shape] = tuple(eager.run_seconds)
            traced = self._traced(stage, trial, spoken)
            if shape in self.programs and not self._left_out(PACKAGE_REWRITE):
                self._package(shape, stage, trial, spoken, traced)
        gc.collect()

    def _padded(self, stage: Stage, trial: Trial) -> None:
        with (
            self._attempt(PADDED_EXACT),
            self.reporter.step(f"padded = exact: {trial.shape.bucket}"),
        ):
            began = time.perf_counter()
            exact = self._hear(trial, modules.exact_bucket(trial))
            steady = self._hear(trial, modules.exact_bucket(trial, multiple=modules.STEADY))
            padded = modules.hear(stage, trial.utterance)
            config = self.checkpoint.config
            found = modules.padded_against_exact(self.judge, config, trial, exact, steady, padded)
            self._add(found, began)

    def _traced(self, stage: Stage, trial: Trial, eager: Any) -> TracedGraph:
        with self.reporter.step(f"trace {stage}"):
            traced = trace(stage)
        if not self._left_out(TRACED_EAGER):
            with self._attempt(TRACED_EAGER), self.reporter.step("traced = eager"):
                began = time.perf_counter()
                found = modules.trace_against_eager(self.judge, traced, stage, trial, eager)
                self._add(found, began)
        return TracedGraph(traced, stage.module, [port.name for port in stage.outputs])

    def _package(
        self, shape: Shape, stage: Stage, trial: Trial, eager: Any, traced: TracedGraph
    ) -> None:
        plain, declared = self.programs[shape]
        inputs = trial.utterance.inputs(shape.bucket.tokens)
        self.labels.update(packages.named(plain, traced.modules()))
        with (
            self._attempt(PACKAGE_REWRITE),
            self.reporter.step(f"package = rewrite: {shape} in float32"),
        ):
            began = time.perf_counter()
            spoken = speak(plain, trial.utterance, shape.bucket.tokens)
            leg = packages.package_against_rewrite(self.judge, trial, spoken, eager)
            self._add(modules.LegResult(leg), began)
        failed = any(g.name == PACKAGE_REWRITE and g.verdict == "failed" for g in self.legs)
        if failed or (plain is declared and not self.operations):
            self._attribute_trace(plain, traced, stage, inputs)
        if plain is not declared and self.rounded is None:
            self._attribute_rounding(plain, declared, traced, inputs)

    def _attribute_trace(
        self, plain: Program, traced: TracedGraph, stage: Stage, inputs: dict[str, Any]
    ) -> None:
        title = "the saved package in float32 beside the traced PyTorch module"
        with self._locating(PACKAGE_REWRITE), self.reporter.step(f"error along the graph: {title}"):
            self.operations = packages.errors_against_trace(plain, traced, stage, inputs)
            self.operations_title = title
            self.suspects += location.operation_faults(
                PACKAGE_REWRITE, self.operations, plain.operations
            )

    def _attribute_rounding(
        self, plain: Program, declared: Program, traced: TracedGraph, inputs: dict[str, Any]
    ) -> None:
        title = f"the saved package at {declared.precision} precision beside itself in float32"
        with (
            self._locating(PACKAGE_UPSTREAM),
            self.reporter.step(f"error along the graph: {title}"),
        ):
            self.operations = packages.errors_of_rounding(plain, declared, traced, inputs)
            self.operations_title = title
            self.rounded = location.operation_faults(
                PACKAGE_UPSTREAM, self.operations, declared.operations
            )

    @contextmanager
    def _locating(self, leg: str) -> Iterator[None]:
        """A package that cannot even be run is located by the error it gives."""
        try:
            yield
        except Exception as error:
            self.suspects.append(Suspect(leg, "the saved package", None, _told(error)))

    def _upstream(self, trials: Sequence[Trial]) -> None:
        if self._left_out(PACKAGE_UPSTREAM):
            return
        runnable = [t for t in trials if t.shape in self.programs]
        began = time.perf_counter()
        runs: dict[Shape, list[float]] = {}
        said: list[Said] = []
        with (
            self._attempt(PACKAGE_UPSTREAM),
            self.reporter.step(
                f"package = upstream: the suite {self.suite.name} at {self._precision()}",
                len(runnable),
            ) as one,
        ):
            for trial in runnable:
                program = self.programs[trial.shape][1]
                said.append(packages.say(program, trial))
                self._note_findings(trial, program.findings)
                runs.setdefault(trial.shape, []).append(round(program.run_seconds or 0.0, 3))
                one(1)
            seconds = time.perf_counter() - began
            leg = packages.against_upstream(
                self.judge, PACKAGE_UPSTREAM, said, seconds, self._detail()
            )
            self.legs.append(leg)
        self.executed = said
        self._time(runs)
        if self.request.runtime == "executor":
            self.said = said
        self._blame_rounding()

    def _blame_rounding(self) -> None:
        """Where the float32 package is right, what is wrong came with the rounding."""
        verdicts = {leg.name: leg.verdict for leg in self.legs}
        wrong = verdicts.get(PACKAGE_UPSTREAM) == "failed"
        if wrong and self.half and verdicts.get(PACKAGE_REWRITE) == "passed":
            self.suspects += self.rounded or []

    def _detail(self) -> str | None:
        parts = [f"precision {self._precision()}"]
        if self.skipped:
            cases = ", ".join(f"{s.case.id} {s.reason}" for s in self.skipped)
            parts.append(f"{len(self.skipped)} cases fit no bucket of the bundle: {cases}")
        return "; ".join(parts)

    def _precision(self) -> str:
        if self.request.precision != "float32" and not self.half:
            return f"{self.request.precision} (nothing is declared in half precision)"
        return self.request.precision

    def _note_findings(self, trial: Trial, found: Sequence[Finding]) -> None:
        for finding in found:
            self.findings.append(
                RangeFinding(
                    finding.kind,
                    trial.case.id,
                    str(finding.operation),
                    self.labels.get(finding.name),
                    finding.count,
                    finding.elements,
                    min(finding.largest, 1e30) if finding.kind != "nan" else 0.0,
                )
            )

    def _range(self) -> None:
        if self.request.precision != "stress" or self._left_out(RANGE):
            return
        if not self.half:
            self.excused.add(RANGE)
            self.legs.append(not_run(RANGE, "nothing is declared in half precision"))
            return
        checks = []
        for trial in [one.trial for one in self.executed if one.spoken is not None]:
            wrong = [f for f in self.findings if f.case == trial.case.id and f.kind != "subnormal"]
            count = {"values_out_of_range": float(sum(f.count for f in wrong))}
            checks += self.judge.checks(RANGE, trial.case.id, count)
        self.legs.append(judged(RANGE, checks, 0.0))
        first = next((f for f in self.findings if f.kind != "subnormal"), None)
        if first is not None:
            where = first.module or "no module known"
            evidence = f"{first.kind}: {first.count} of {first.elements}, largest {first.largest:g}"
            self.suspects.append(Suspect(RANGE, where, first.operation, evidence))

    def _time(self, runs: dict[Shape, list[float]]) -> None:
        for shape, seconds in runs.items():
            self.timings.append(
                PackageTiming(
                    package=shape.package.name,
                    function=shape.function,
                    compute_units="executor",
                    load_seconds=round(self.programs[shape][1].load_seconds, 3),
                    run_seconds=tuple(seconds),
                    eager_seconds=tuple(round(s, 3) for s in self.eager_seconds.get(shape, ())),
                )
            )

    def _coreml(self, trials: Sequence[Trial]) -> None:
        name = COREML_UPSTREAM
        if self._left_out(name):
            return
        if self.request.runtime != "coreml":
            self.excused.add(name)
            reason = "needs macOS: run `kokoro-coreml verify BUNDLE --runtime coreml` on a Mac"
            self.legs.append(not_run(name, reason))
            return
        with tempfile.TemporaryDirectory(prefix="kokoro-coreml-") as compiled:
            for unit in self._units():
                found = devices.Device(unit, Path(compiled), self.reporter)
                began = time.perf_counter()
                with self._attempt(name):
                    found.speak(trials)
                    seconds = time.perf_counter() - began
                    leg = packages.against_upstream(self.judge, name, found.said, seconds, unit)
                    self.legs.append(leg)
                self.said += found.said
                self.timings += found.timings
                self.devices += found.uses

    def _words(self) -> None:
        self.heard: dict[str, packages.Heard | None] = {}
        if self._left_out(WORDS):
            return
        asked = [one for one in self.said if one.trial.case.recognise and one.spoken is not None]
        if not asked:
            self.excused.add(WORDS)
            self.legs.append(not_run(WORDS, "no case of the suite asks for it"))
            return
        if not self.recogniser.available():
            self.legs.append(
                not_run(WORDS, "install the recogniser: pip install 'kokoro-coreml[asr]'")
            )
            return
        began = time.perf_counter()
        with (
            self._attempt(WORDS),
            self.reporter.step("words: speech recognition of both audios", len(asked)) as one,
        ):
            recogniser = self.recogniser()
            for said in asked:
                self.heard[said.name] = packages.recognise(recogniser, said)
                one(1)
            seconds = time.perf_counter() - began
            self.legs.append(packages.words_leg(self.judge, self.heard, seconds))

    # -- bookkeeping ----------------------------------------------------------------------------

    @contextmanager
    def _attempt(self, *names: str) -> Iterator[None]:
        """An error inside fails the legs it belongs to, and the next ones still run."""
        began = time.perf_counter()
        try:
            yield
        except Exception as error:
            for name in names:
                seconds = time.perf_counter() - began
                self.legs.append(judged(name, [], seconds, error=_told(error)))
                self.suspects.append(Suspect(name, "raised an error", None, _told(error)))

    def _left_out(self, name: str) -> bool:
        if name not in self.request.waive:
            return False
        if not any(leg.name == name for leg in self.legs):
            self.legs.append(waived(name))
        return True

    def _add(self, found: modules.LegResult, began: float) -> None:
        """Keep a leg with its tables; `began` is when its first run was started."""
        seconds = round(time.perf_counter() - began, 3)
        self.legs.append(replace(found.leg, seconds=seconds))
        self.stages += found.stages
        self.suspects += location.stage_faults(found.stages)

    def result(self) -> Verification:
        """The report of all that was added."""
        present = {leg.name for leg in self.legs}
        due = [n for n in EVERY_LEG if n != RANGE or self.request.precision == "stress"]
        self.legs += [judged(n, [], 0.0, error="was lost") for n in due if n not in present]
        legs = merged(self.legs)
        legs.sort(key=lambda leg: EVERY_LEG.index(leg.name))
        ran = {leg.name: leg.verdict for leg in legs}
        good = all(
            verdict in ("passed", "waived") or (verdict == "not run" and name in self.excused)
            for name, verdict in ran.items()
        )
        self.suspects += location.unlocated(legs, self.suspects)
        report = Report(
            schema_version=SCHEMA_VERSION,  # type: ignore[arg-type]
            project_version=__version__,
            verdict="passed" if good and ran[self._needed()] == "passed" else "failed",
            bundle=self._facts(),
            runtime=self.request.runtime,  # type: ignore[arg-type]
            precision=self.request.precision,
            compute_units=self._units(),
            suite=self.suite.name,
            versions=tool_versions(),
            machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            thresholds=self.judge.thresholds,
            legs=tuple(legs),
            stages=tuple(self.stages),
            cases=tuple(self._cases(legs)),
            operations=tuple(self.operations),
            operations_title=self.operations_title,
            suspects=tuple(dict.fromkeys(self.suspects)),
            timings=tuple(self.timings),
            devices=tuple(self.devices),
            findings=tuple(self.findings),
        )
        return Verification(report, tuple(self._listenings()))

    def _needed(self) -> str:
        """The leg without which nothing was shown of the package itself."""
        return COREML_UPSTREAM if self.request.runtime == "coreml" else PACKAGE_UPSTREAM

    def _facts(self) -> BundleFacts:
        record = self.manifest.checkpoint
        digest = hashlib.sha256((self.request.bundle / MANIFEST_NAME).read_bytes()).hexdigest()
        return BundleFacts(
            self.request.bundle.resolve().name,
            self.manifest.recipe.name,
            f"{record.source}, {record.location}",
            digest,
        )

    def _units(self) -> tuple[str, ...]:
        if self.request.runtime != "coreml":
            return ()
        return self.request.compute_units or tuple(COMPUTE_UNITS)

    def _cases(self, legs: Sequence[Leg]) -> Iterator[Any]:
        for one in self.said:
            name = one.name
            failed = [
                c.metric
                for leg in legs
                if leg.name in (location.INPUTS_UPSTREAM, PACKAGE_UPSTREAM, COREML_UPSTREAM, WORDS)
                for c in leg.checks
                if c.where == name and c.verdict == "failed"
            ]
            failed += ["not heard"] if one.error else []
            yield packages.case_result(one, dict.fromkeys(failed), self.heard.get(name))

    def _listenings(self) -> Iterator[Listening]:
        for one in self.said:
            if one.spoken is not None:
                yield Listening(one.name, one.trial.reference.audio, one.spoken.audio, SAMPLE_RATE)


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, KokoroError) else f"{type(error).__name__}: {error}"
