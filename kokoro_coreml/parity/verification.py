"""`verify`: every leg of parity over a suite, for a bundle that was already written."""

from __future__ import annotations

import hashlib
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kokoro_coreml import __version__
from kokoro_coreml.bundle import verify_files
from kokoro_coreml.bundle.contents import tool_versions
from kokoro_coreml.config import SAMPLE_RATE
from kokoro_coreml.coreml import COMPUTE_UNITS
from kokoro_coreml.errors import ParityError
from kokoro_coreml.manifest import MANIFEST_NAME, Manifest
from kokoro_coreml.parity import location, packages
from kokoro_coreml.parity.complete import CompleteCut
from kokoro_coreml.parity.judge import Judge, all_good, judged, merged, not_run, whole
from kokoro_coreml.parity.merging import Merged, Merging, read_merged
from kokoro_coreml.parity.modules import LegResult
from kokoro_coreml.parity.packages import Said
from kokoro_coreml.parity.pipelines import PipelineCut
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
    CaseResult,
    Leg,
    Report,
    Suspect,
    Threshold,
)
from kokoro_coreml.parity.run import Cut, Run
from kokoro_coreml.parity.suite import load_suite
from kokoro_coreml.parity.thresholds import (
    COREML_UPSTREAM,
    PACKAGE_REWRITE,
    PACKAGE_UPSTREAM,
    WORDS,
    thresholds_for,
)
from kokoro_coreml.parity.trials import Skipped, Trial, Trials
from kokoro_coreml.parity.weights import weights_of
from kokoro_coreml.progress import SILENT, Reporter
from kokoro_coreml.recipe import Recipe, parse_recipe
from kokoro_coreml.synthesis import shapes_of
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
        ParityError: the runtime, precision or a leg is unknown, the weights are not those the
            bundle was made from, or a result to merge is of another bundle or other recordings.
        BundleError: the bundle is not what was written.
        CoreMLUnavailableError: the runtime is `coreml` and this is no Mac.
        KokoroError: the suite, its voices or the weights cannot be had.
    """
    check_request(request)
    with fixed_threads():
        return _open(request, reporter).everything()


def _open(request: Request, reporter: Reporter) -> _Verifier:
    with reporter.step(f"check the files of {request.bundle.name}"):
        manifest = verify_files(request.bundle)
    merged = _merged(request)
    suite = load_suite(request.suite)
    if any(case.recognise for case in suite.cases) and WORDS not in request.waive:
        _warn_of_deafness(reporter)
    checkpoint = weights_of(manifest.checkpoint, request.checkpoint, reporter)
    recipe = parse_recipe(dict(manifest.recipe.content), document=MANIFEST_NAME)
    with reporter.step("build upstream's network"):
        reference = Reference(checkpoint)
    run = Run(request, manifest, suite, checkpoint, reference, reporter, Judge(()))
    cut = _cut(run, manifest, recipe)
    run.judge = Judge(_thresholds(run, cut, recipe))
    return _Verifier(run, cut, merged)


def _warn_of_deafness(reporter: Reporter) -> None:
    """What hears comes last, and without it nothing passes: that is told before the long legs."""
    if not Recogniser.available():
        reporter.warn(
            f"the leg '{WORDS}' cannot run, so this report cannot pass: install the recogniser "
            f"(pip install 'kokoro-coreml[asr]') or leave the leg out (--waive {WORDS})"
        )


def _merged(request: Request) -> Merged | None:
    if not request.merge:
        return None
    return read_merged(request.merge, request.recordings, _manifest_sha256(request.bundle))


def _manifest_sha256(bundle: Path) -> str:
    return hashlib.sha256((bundle / MANIFEST_NAME).read_bytes()).hexdigest()


def _cut(run: Run, manifest: Manifest, recipe: Recipe) -> Cut:
    if recipe.cut == "pipeline":
        return PipelineCut(run, recipe.compression)
    return CompleteCut(run, shapes_of(run.request.bundle, manifest))


def _thresholds(run: Run, cut: Cut, recipe: Recipe) -> tuple[Threshold, ...]:
    precision = "float16" if cut.half else "float32"
    lossy = recipe.compression is not None and recipe.compression.lossy
    found = run.request.thresholds or thresholds_for(
        precision, recipe.parity, recipe.cut, lossy=lossy
    )
    inputs = Threshold(
        "input_differences",
        location.INPUTS_UPSTREAM,
        0.0,
        "lower",
        "ids and voice row are copied, not computed",
    )
    return (inputs, *found, *RANGE_THRESHOLDS)


class _Verifier:
    """The legs that all cuts have in common, and the report."""

    def __init__(self, run: Run, cut: Cut, merged: Merged | None) -> None:
        self.run, self.cut, self.request = run, cut, run.request
        self.merged = merged
        self.excused: set[str] = set()
        """Legs that were not run because there was nothing for them to do."""
        self.executed: list[Said] = []
        """By the executor."""
        self.said: list[Said] = []
        """By the runtime that was asked for."""
        self.heard: dict[str, packages.Heard | None] = {}
        self.skipped: list[Skipped] = []

    def everything(self) -> Verification:
        """Run the legs in the order in which an error travels."""
        trials = self._prepare()
        self._inputs(trials)
        self.cut.judge_modules(trials)
        self._upstream(trials)
        self._range()
        self._coreml(trials)
        self._words()
        return self._result()

    def _prepare(self) -> list[Trial]:
        run = self.run
        trials, self.skipped = self._trials().prepare(run.suite)
        if not trials:
            raise ParityError(
                f"no case of the suite {run.suite.name} fits a bucket of the bundle: "
                + ", ".join(f"{s.case.id} {s.reason}" for s in self.skipped)
            )
        return trials

    def _trials(self) -> Trials:
        run, voices = self.run, self.request.bundle / "voices"
        double = self.cut.double()
        return Trials(
            run.manifest, run.checkpoint, run.reference, self.cut, voices, run.reporter, double
        )

    # -- legs -----------------------------------------------------------------------------------

    def _inputs(self, trials: Sequence[Trial]) -> None:
        run, name = self.run, location.INPUTS_UPSTREAM
        with run.attempt(name):
            if run.left_out(name):
                return
            faults = location.input_faults(trials)
            checks = []
            for trial in trials:
                count = sum(f.where.startswith(f"case {trial.case.id},") for f in faults)
                metrics = {"input_differences": float(count)}
                checks += run.judge.checks(name, trial.case.id, metrics)
            run.legs.append(judged(name, checks, 0.0))
            run.suspects += faults

    def _upstream(self, trials: Sequence[Trial]) -> None:
        run = self.run
        if run.left_out(PACKAGE_UPSTREAM):
            return
        began = time.perf_counter()
        with run.attempt(PACKAGE_UPSTREAM):
            self.executed = self.cut.say(trials)
            seconds = time.perf_counter() - began
            leg = packages.against_upstream(
                run.judge, PACKAGE_UPSTREAM, self.executed, seconds, self._detail()
            )
            run.legs.append(leg)
        if self.request.runtime == "executor":
            self.said = self.executed
        self._blame_rounding()

    def _blame_rounding(self) -> None:
        """Where the float32 package is right, what is wrong came with the rounding."""
        verdicts = {leg.name: leg.verdict for leg in merged(self.run.legs)}
        wrong = verdicts.get(PACKAGE_UPSTREAM) == "failed"
        if wrong and self.cut.half and verdicts.get(PACKAGE_REWRITE) == "passed":
            self.run.suspects += self.run.rounded or []

    def _detail(self) -> str | None:
        parts = [f"precision {self._precision()}"]
        if self.skipped:
            cases = ", ".join(f"{s.case.id} {s.reason}" for s in self.skipped)
            parts.append(f"{len(self.skipped)} cases fit no bucket of the bundle: {cases}")
        return "; ".join(parts)

    def _precision(self) -> str:
        if self.request.precision != "float32" and not self.cut.half:
            return f"{self.request.precision} (nothing is declared in half precision)"
        return self.request.precision

    def _range(self) -> None:
        run = self.run
        if self.request.precision != "stress" or run.left_out(RANGE):
            return
        if not self.cut.half:
            self.excused.add(RANGE)
            run.legs.append(not_run(RANGE, "nothing is declared in half precision"))
            return
        checks = []
        grave = [f for f in run.findings if f.kind != "subnormal"]
        for trial in [one.trial for one in self.executed if one.spoken is not None]:
            for part, where in self.cut.parts(trial.case.id).items():
                mine = [f for f in grave if f.case == trial.case.id]
                count = sum(f.count for f in mine if f.operation.startswith(part))
                metrics = {"values_out_of_range": float(count)}
                checks += run.judge.checks(RANGE, where, metrics)
        run.legs.append(judged(RANGE, checks, 0.0))
        if grave:
            first = grave[0]
            where = first.module or "no module known"
            evidence = f"{first.kind}: {first.count} of {first.elements}, largest {first.largest:g}"
            run.suspects.append(Suspect(RANGE, where, first.operation, evidence))

    def _coreml(self, trials: Sequence[Trial]) -> None:
        run, name = self.run, COREML_UPSTREAM
        if run.left_out(name):
            return
        if self.merged is not None:
            with run.attempt(name):
                self._merge(self.merged)
            return
        if self.request.runtime != "coreml":
            self.excused.add(name)
            reason = (
                "needs macOS: run `kokoro-coreml verify BUNDLE --runtime coreml` on a Mac, or "
                "`kokoro-harness verify` there and merge its result with --merge"
            )
            run.legs.append(not_run(name, reason))
            return
        with tempfile.TemporaryDirectory(prefix="kokoro-coreml-") as compiled:
            for unit in self._units():
                found = self.cut.device(unit, Path(compiled), run.reporter)
                began = time.perf_counter()
                with run.attempt(name):
                    found.speak(trials)
                    seconds = time.perf_counter() - began
                    leg = packages.against_upstream(run.judge, name, found.said, seconds, unit)
                    run.legs.append(leg)
                self.said += found.said
                run.timings += found.timings
                run.devices += found.uses

    def _merge(self, merged: Merged) -> None:
        """Judge what Macs measured, on every choice of compute units that is due."""
        run, name = self.run, COREML_UPSTREAM
        suite = merged.recordings.suite()
        trials, skipped = self._trials().prepare(suite)
        if skipped:
            reasons = ", ".join(f"{s.case.id} {s.reason}" for s in skipped)
            raise ParityError(f"no bucket of the bundle holds what was recorded: {reasons}")
        merging = Merging(merged, self.cut, run.judge, run.manifest.packages)
        run.legs += [leg for leg in [merging.functions()] if leg is not None]
        for units in self._units():
            found = merged.unit(units)
            if found is None:
                error = f"{units}: no result to merge holds these compute units"
                run.legs.append(judged(name, [], 0.0, error=error))
                continue
            report, unit = found
            with run.attempt(name), run.reporter.step(f"{name}: {units}, merged"):
                began = time.perf_counter()
                said = merging.said(unit, report, trials)
                run.legs.append(merging.leg(unit, report, said))
                self.said += said
                if self.cut.staged:
                    leg, stages = merging.stages(unit)
                    run.add(LegResult(leg, stages), began)
            run.timings += unit.timings
            run.devices += unit.devices

    def _words(self) -> None:
        run = self.run
        if run.left_out(WORDS):
            return
        asked = [one for one in self.said if one.trial.case.recognise and one.spoken is not None]
        if not asked:
            self.excused.add(WORDS)
            run.legs.append(not_run(WORDS, "no case of the suite asks for it"))
            return
        if not Recogniser.available():
            run.legs.append(
                not_run(WORDS, "install the recogniser: pip install 'kokoro-coreml[asr]'")
            )
            return
        began = time.perf_counter()
        with (
            run.attempt(WORDS),
            run.reporter.step("words: speech recognition of both audios", len(asked)) as one,
        ):
            recogniser = Recogniser()
            for said in asked:
                self.heard[said.name] = packages.recognise(recogniser, said)
                one(1)
            seconds = time.perf_counter() - began
            run.legs.append(packages.words_leg(run.judge, self.heard, seconds))

    # -- report ---------------------------------------------------------------------------------

    def _result(self) -> Verification:
        """The report of all that was added."""
        run = self.run
        legs = self._legs()
        run.suspects += location.unlocated(legs, run.suspects)
        good = all_good(legs, needed=self._needed(), excused=self.excused)
        report = Report(
            schema_version=SCHEMA_VERSION,  # type: ignore[arg-type]
            project_version=__version__,
            verdict="passed" if good else "failed",
            bundle=self._facts(),
            runtime=self.request.runtime,  # type: ignore[arg-type]
            precision=self.request.precision,
            compute_units=self._units(),
            suite=run.suite.name,
            versions=tool_versions(),
            machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            thresholds=run.judge.thresholds,
            legs=tuple(legs),
            stages=tuple(run.stages),
            cases=tuple(self._cases(legs)),
            operations=tuple(run.operations),
            operations_title=run.operations_title,
            suspects=tuple(dict.fromkeys(run.suspects)),
            timings=tuple(run.timings),
            devices=tuple(run.devices),
            findings=tuple(run.findings),
        )
        return Verification(report, tuple(self._listenings()))

    def _legs(self) -> list[Leg]:
        due = [n for n in EVERY_LEG if n != RANGE or self.request.precision == "stress"]
        legs = whole(self.run.legs, due)
        return sorted(legs, key=lambda leg: EVERY_LEG.index(leg.name))

    def _needed(self) -> str:
        """The leg without which nothing was shown of the package itself."""
        return COREML_UPSTREAM if self.request.runtime == "coreml" else PACKAGE_UPSTREAM

    def _facts(self) -> BundleFacts:
        manifest = self.run.manifest
        record = manifest.checkpoint
        digest = _manifest_sha256(self.request.bundle)
        return BundleFacts(
            self.request.bundle.resolve().name,
            manifest.recipe.name,
            f"{record.source}, {record.location}",
            digest,
        )

    def _units(self) -> tuple[str, ...]:
        if self.request.runtime != "coreml" and self.merged is None:
            return ()
        return self.request.compute_units or tuple(COMPUTE_UNITS)

    def _cases(self, legs: Sequence[Leg]) -> Iterator[CaseResult]:
        for one in self.said:
            failed = [
                c.metric
                for leg in legs
                if leg.name in (location.INPUTS_UPSTREAM, PACKAGE_UPSTREAM, COREML_UPSTREAM, WORDS)
                for c in leg.checks
                if c.where == one.name and c.verdict == "failed"
            ]
            failed += ["not heard"] if one.error else []
            yield packages.case_result(one, dict.fromkeys(failed), self.heard.get(one.name))

    def _listenings(self) -> Iterator[Listening]:
        for one in self.said:
            if one.spoken is not None:
                yield Listening(one.name, one.trial.reference.audio, one.spoken.audio, SAMPLE_RATE)
