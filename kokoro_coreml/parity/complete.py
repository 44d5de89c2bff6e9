"""The legs of the cut `complete`: the whole network in one package."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kokoro_coreml.executor import Program
from kokoro_coreml.lowering import trace
from kokoro_coreml.noise import source_noise
from kokoro_coreml.parity import location, modules, packages
from kokoro_coreml.parity.devices import Device
from kokoro_coreml.parity.judge import judged
from kokoro_coreml.parity.packages import Said
from kokoro_coreml.parity.results import PackageTiming
from kokoro_coreml.parity.run import Run
from kokoro_coreml.parity.thresholds import (
    PACKAGE_REWRITE,
    PACKAGE_UPSTREAM,
    PADDED_EXACT,
    REWRITE_UPSTREAM,
    TRACED_EAGER,
)
from kokoro_coreml.parity.torchscript import TracedGraph
from kokoro_coreml.parity.trials import Trial, longest
from kokoro_coreml.progress import Reporter
from kokoro_coreml.recipe import Bucket
from kokoro_coreml.stages import Stage, complete_stage
from kokoro_coreml.synthesis import Shape, Spoken, speak

REPLAYED = ("audio", "audio_length_samples", "pred_dur")
"""What a Mac's result must hold of every case."""


class CompleteCut:
    """See `run.Cut`."""

    def __init__(self, run: Run, shapes: Sequence[Shape]) -> None:
        """Load every function in float32 and at the precision asked for.

        Args:
            run: to add to.
            shapes: functions, from the quickest to the slowest.
        """
        self.run, self.shapes = run, shapes
        self.by_bucket = {shape.bucket: shape for shape in shapes}
        self.labels: dict[str, str] = {}
        self.eager_seconds: dict[Shape, tuple[float, ...]] = {}
        self.programs = self._load()

    @property
    def buckets(self) -> Sequence[Bucket]:
        """Of the functions."""
        return list(self.by_bucket)

    @property
    def half(self) -> bool:
        """Whether a program that declares half precision was loaded to be rounded."""
        return any(plain is not other for plain, other in self.programs.values())

    @property
    def staged(self) -> bool:
        """One package, whose bins at the branch cut flip as those of the whole do."""
        return False

    def noise(self, seed: int) -> int:
        """The seed itself: both sides draw noise for every harmonic."""
        return seed

    def double(self) -> None:
        """Not asked for: fixed bounds judge every length this cut is built for."""

    def parts(self, case: str) -> dict[str, str]:
        """One package, whose operations begin with anything."""
        return {"": case}

    def _load(self) -> dict[Shape, tuple[Program, Program]]:
        """Each function in float32 and at the precision asked for; the same object if equal."""
        found: dict[Shape, tuple[Program, Program]] = {}
        precision = self.run.request.precision
        for shape in self.shapes:
            with (
                self.run.attempt(PACKAGE_REWRITE, PACKAGE_UPSTREAM),
                self.run.reporter.step(f"load {shape}"),
            ):
                plain = Program.load(shape.package, shape.function)
                judged_at = plain
                if precision != "float32" and packages.has_half(plain):
                    judged_at = Program.load(shape.package, shape.function, precision=precision)
                found[shape] = (plain, judged_at)
        return found

    # -- legs 1 to 4 ----------------------------------------------------------------------------

    def judge_modules(self, trials: Sequence[Trial]) -> None:
        """Judge the rewrite without padding, then every bucket."""
        self._rewrite(trials)
        for shape in self.shapes:
            self._shape(shape, [t for t in trials if t.bucket == shape.bucket])

    def _rewrite(self, trials: Sequence[Trial]) -> None:
        run, trial = self.run, longest(trials)
        assert trial is not None
        if run.left_out(REWRITE_UPSTREAM):
            return
        with (
            run.attempt(REWRITE_UPSTREAM),
            run.reporter.step("rewrite = upstream: every module at the exact length"),
        ):
            began = time.perf_counter()
            heard = self._hear(trial, modules.exact_bucket(trial))
            samples = run.checkpoint.config.samples_per_frame * trial.frames
            noise = source_noise(run.manifest.noise.seed, samples)
            found = modules.rewrite_against_upstream(run.judge, run.reference, trial, heard, noise)
            run.add(found, began)

    def _stage(self, bucket: Bucket) -> Stage:
        return complete_stage(self.run.checkpoint, bucket, noise_seed=self.run.manifest.noise.seed)

    def _hear(self, trial: Trial, bucket: Bucket) -> modules.Heard:
        return modules.hear(self._stage(bucket), trial.utterance)

    def _shape(self, shape: Shape, trials: Sequence[Trial]) -> None:
        """Legs 2 to 4 for one bucket."""
        run, trial = self.run, longest(trials)
        if trial is None:
            for name in (PADDED_EXACT, TRACED_EAGER, PACKAGE_REWRITE, PACKAGE_UPSTREAM):
                if not run.left_out(name):
                    error = f"no case of the suite {run.suite.name} belongs to {shape}"
                    run.legs.append(judged(name, [], 0.0, error=error))
            return
        stage = self._stage(shape.bucket)
        if not run.left_out(PADDED_EXACT):
            self._padded(stage, trial)
        with run.attempt(TRACED_EAGER, PACKAGE_REWRITE):
            eager = modules.Eager(stage)
            with run.reporter.step(f"the rewrite speaks at {shape.bucket} in PyTorch"):
                spoken = speak(eager, trial.utterance, shape.bucket.tokens)
            self.eager_seconds[shape] = tuple(eager.run_seconds)
            traced = self._traced(stage, trial, spoken)
            if shape in self.programs and not run.left_out(PACKAGE_REWRITE):
                self._package(shape, stage, trial, spoken, traced)
        gc.collect()

    def _padded(self, stage: Stage, trial: Trial) -> None:
        run = self.run
        with (
            run.attempt(PADDED_EXACT),
            run.reporter.step(f"padded = exact: {trial.bucket}"),
        ):
            began = time.perf_counter()
            exact = self._hear(trial, modules.exact_bucket(trial))
            padded = modules.hear(stage, trial.utterance)
            short, long = (self._hear(trial, b) for b in modules.steady_buckets(trial))
            config, steady = run.checkpoint.config, (short, long)
            found = modules.padded_against_exact(run.judge, config, trial, exact, padded, steady)
            run.add(found, began)

    def _traced(self, stage: Stage, trial: Trial, eager: Spoken) -> TracedGraph:
        run = self.run
        with run.reporter.step(f"trace {stage}"):
            traced = trace(stage)
        if not run.left_out(TRACED_EAGER):
            with run.attempt(TRACED_EAGER), run.reporter.step("traced = eager"):
                began = time.perf_counter()
                found = modules.trace_against_eager(run.judge, traced, stage, trial, eager)
                run.add(found, began)
        return TracedGraph(traced, stage.module, [port.name for port in stage.outputs])

    def _package(
        self, shape: Shape, stage: Stage, trial: Trial, eager: Spoken, traced: TracedGraph
    ) -> None:
        run = self.run
        plain, declared = self.programs[shape]
        inputs = trial.utterance.inputs(shape.bucket.tokens)
        self.labels.update(packages.named(plain, traced.modules()))
        with (
            run.attempt(PACKAGE_REWRITE),
            run.reporter.step(f"package = rewrite: {shape} in float32"),
        ):
            began = time.perf_counter()
            spoken = speak(plain, trial.utterance, shape.bucket.tokens)
            leg = packages.package_against_rewrite(run.judge, trial, spoken, eager)
            run.add(modules.LegResult(leg), began)
        if run.failed(PACKAGE_REWRITE) or (plain is declared and not run.operations):
            self._attribute_trace(plain, traced, stage, inputs)
        if plain is not declared and run.rounded is None:
            self._attribute_rounding(plain, declared, traced, inputs)

    def _attribute_trace(
        self, plain: Program, traced: TracedGraph, stage: Stage, inputs: Mapping[str, np.ndarray]
    ) -> None:
        run = self.run
        title = "the saved package in float32 beside the traced PyTorch module"
        with run.locating(PACKAGE_REWRITE), run.reporter.step(f"error along the graph: {title}"):
            run.operations = packages.errors_against_trace(plain, traced, stage, inputs)
            run.operations_title = title
            run.suspects += location.operation_faults(
                PACKAGE_REWRITE, run.operations, plain.operations
            )

    def _attribute_rounding(
        self, plain: Program, declared: Program, traced: TracedGraph, inputs: Mapping[str, Any]
    ) -> None:
        run = self.run
        title = f"the saved package at {declared.precision} precision beside itself in float32"
        with run.locating(PACKAGE_UPSTREAM), run.reporter.step(f"error along the graph: {title}"):
            run.operations = packages.errors_of_rounding(plain, declared, traced, inputs)
            run.operations_title = title
            run.rounded = location.operation_faults(
                PACKAGE_UPSTREAM, run.operations, declared.operations
            )

    # -- legs 5 and 6 ---------------------------------------------------------------------------

    def say(self, trials: Sequence[Trial]) -> list[Said]:
        """What the executor says to every trial."""
        run = self.run
        runnable = [t for t in trials if self.by_bucket[t.bucket] in self.programs]
        runs: dict[Shape, list[float]] = {}
        said: list[Said] = []
        title = f"package = upstream: the suite {run.suite.name} at {run.request.precision}"
        with run.reporter.step(title, len(runnable)) as one:
            for trial in runnable:
                shape = self.by_bucket[trial.bucket]
                program = self.programs[shape][1]
                said.append(packages.say(program, trial))
                for finding in program.findings:
                    run.note(trial, finding, self.labels.get(finding.name))
                runs.setdefault(shape, []).append(round(program.run_seconds or 0.0, 3))
                one(1)
        self._time(runs)
        return said

    def _time(self, runs: Mapping[Shape, Sequence[float]]) -> None:
        for shape, seconds in runs.items():
            self.run.timings.append(
                PackageTiming(
                    package=shape.package.name,
                    function=shape.function,
                    compute_units="executor",
                    load_seconds=round(self.programs[shape][1].load_seconds, 3),
                    run_seconds=tuple(seconds),
                    eager_seconds=tuple(round(s, 3) for s in self.eager_seconds.get(shape, ())),
                )
            )

    def device(self, units: str, compiled: Path, reporter: Reporter) -> Device:
        """The package on one choice of compute units."""
        return Device(units, compiled, reporter, self.by_bucket)

    def replay(self, trial: Trial, values: Mapping[str, np.ndarray], units: str) -> Said:
        """What the package gave on a Mac, measured beside upstream; an error is kept."""
        lacking = [name for name in REPLAYED if name not in values]
        if lacking:
            return packages.unheard(trial, units, f"the result lacks {', '.join(lacking)}")
        return packages.say(lambda _inputs: dict(values), trial, units=units)
