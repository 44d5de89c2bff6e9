"""Legs 1 to 4 of the cut `pipeline`: every stage at every bucket, fed what the eager stages passed.

A bucket is judged with the longest case that belongs to it, or else with the longest that fits.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from kokoro_coreml.executor import Program
from kokoro_coreml.lowering import trace
from kokoro_coreml.modules.pipeline import PipelineNetwork
from kokoro_coreml.noise import merged_noise
from kokoro_coreml.parity import location, packages, pipeline_measures
from kokoro_coreml.parity.bounds import DISTANCE
from kokoro_coreml.parity.counterparts import pipeline_snr_db, shown
from kokoro_coreml.parity.flows import (
    COMPARED,
    Arrays,
    EagerStages,
    Lengths,
    Step,
    size_of,
    steps_until,
    values_of,
)
from kokoro_coreml.parity.judge import judged
from kokoro_coreml.parity.metrics import snr_db
from kokoro_coreml.parity.modules import LegResult, outputs_of, spoken_metrics, tensors_of
from kokoro_coreml.parity.pipeline_plan import Work, plan
from kokoro_coreml.parity.results import OperationError, Suspect
from kokoro_coreml.parity.run import Run
from kokoro_coreml.parity.thresholds import (
    PACKAGE_REWRITE,
    PACKAGE_UPSTREAM,
    PADDED_EXACT,
    REWRITE_UPSTREAM,
    TRACED_EAGER,
)
from kokoro_coreml.parity.torchscript import TracedGraph
from kokoro_coreml.parity.trials import Trial
from kokoro_coreml.recipe import FRAMES_PER_ROW, Bucket
from kokoro_coreml.stages import Stage
from kokoro_coreml.synthesis import Spoken
from kokoro_coreml.synthesis.pipeline import Pipeline
from kokoro_coreml.synthesis.stages import PackagedStages

LEGS = (REWRITE_UPSTREAM, PADDED_EXACT, TRACED_EAGER, PACKAGE_REWRITE)


class PipelineLegs:
    """Judges the stages, bucket by bucket."""

    def __init__(
        self,
        run: Run,
        network: PipelineNetwork,
        packaged: PackagedStages,
        stored: PipelineNetwork | None = None,
    ) -> None:
        """Bind.

        Args:
            run: what is verified.
            network: with the original weights.
            packaged: says where the functions are, and is not used to load any.
            stored: the network with the packages' weights, where they are others.
        """
        self.run, self.packaged = run, packaged
        self.config = run.checkpoint.config
        self.eager = EagerStages(network, packaged.tokens, packaged.frames)
        self.stored = self.eager
        if stored is not None and stored is not network:
            self.stored = EagerStages(stored, packaged.tokens, packaged.frames)
        self.seed = run.manifest.noise.seed
        self.noise = merged_noise(self.seed, network.source.l_linear.weight)
        self.labels: dict[tuple[str, int], dict[str, str]] = {}
        """Module of each operation, by stage and size."""
        self.located = False
        self.charted: set[str] = set()
        self.offset = 0
        """Operations of the stages charted so far."""

    def judge(self, trials: Sequence[Trial]) -> None:
        """Run the legs for every bucket."""
        run = self.run
        works, lost = plan(trials, self.packaged.tokens, self.packaged.frames)
        for function in lost:
            for name in (*LEGS, PACKAGE_UPSTREAM):
                if not run.left_out(name):
                    error = f"no case of the suite {run.suite.name} fits {function}"
                    run.legs.append(judged(name, [], 0.0, error=error))
        waived = [run.left_out(name) for name in LEGS]
        if all(waived):
            return
        for work in works:
            with run.attempt(*(name for name in LEGS if name not in run.request.waive)):
                self._judge(work)
            gc.collect()

    def _judge(self, work: Work) -> None:
        run = self.run
        with run.reporter.step(f"the rewrite speaks {work} in PyTorch"):
            steps = self._steps(work, work.bucket)
        if not run.left_out(REWRITE_UPSTREAM):
            with (
                run.attempt(REWRITE_UPSTREAM),
                run.reporter.step(f"rewrite = upstream: every stage, {work}"),
            ):
                self._rewrite(work, steps)
        if not run.left_out(PADDED_EXACT):
            with (
                run.attempt(PADDED_EXACT),
                run.reporter.step(f"padded = exact: every stage, {work}"),
            ):
                self._padded(work, steps)
        if {TRACED_EAGER, PACKAGE_REWRITE} <= set(run.request.waive):
            return
        for name in work.stages:
            self._stage(work, name, steps.pop(name))

    def _steps(self, work: Work, bucket: Bucket) -> dict[str, Step]:
        pipeline = Pipeline(self.eager, self.config, noise_seed=self.seed)
        return steps_until(pipeline, work.trial.utterance, work.stages[-1], bucket=bucket)

    def _lengths(self, work: Work, steps: Mapping[str, Step]) -> Lengths:
        frames = int(steps["Duration"].outputs["pred_dur"].sum())
        return Lengths(self.config, len(work.trial.utterance.ids), frames)

    # -- leg 1 ----------------------------------------------------------------------------------

    def _rewrite(self, work: Work, steps: Mapping[str, Step]) -> None:
        judge, began = self.run.judge, time.perf_counter()
        trial, leg = work.trial, REWRITE_UPSTREAM
        exact = self._lengths(work, steps).exact(values_of(steps), work.bucket.frames)
        found = pipeline_snr_db(self.run.reference, trial.utterance, exact, noise=self.noise)
        stages = [
            judge.stage(leg, name, str(work), value, "module_snr_db")
            for name, value in found.items()
        ]
        checks = [
            check
            for s in stages
            for check in judge.checks(
                leg, f"{s.name}, {work}", {"module_snr_db": s.snr_db}, only=["module_snr_db"]
            )
        ]
        if work.whole:
            whole = spoken_metrics(self._spoken(work, steps), trial)
            whole |= pipeline_measures.beside_rounding(trial, whole[DISTANCE])
            whole["exact_snr_db"] = whole["audio_snr_db"]
            other = ("module_snr_db", pipeline_measures.distance_that_does_not_apply(whole))
            rest = [m for m in judge.of_leg(leg) if m not in other]
            checks += judge.checks(leg, str(work), whole, only=rest)
        seconds = time.perf_counter() - began
        self.run.add(LegResult(judged(leg, checks, seconds), tuple(stages)), began)

    def _spoken(self, work: Work, steps: Mapping[str, Step]) -> Spoken:
        lengths = self._lengths(work, steps)
        audio = steps["Tail"].outputs["audio"].reshape(-1)
        samples = lengths.frames * self.config.samples_per_frame
        durations = steps["Duration"].outputs["pred_dur"].reshape(-1)[: lengths.tokens]
        return Spoken(audio[:samples], durations, audio[samples:])

    # -- leg 2 ----------------------------------------------------------------------------------

    def _larger(self, work: Work) -> Bucket:
        """The next larger sizes.

        Behind the last size of frames one more row of time; behind the last of tokens, which the
        network itself may end at, the exact number of tokens.
        """
        bucket, sizes = work.bucket, self.packaged
        tokens = next((t for t in sizes.tokens if t > bucket.tokens), len(work.trial.utterance.ids))
        more = bucket.frames + FRAMES_PER_ROW
        return Bucket(tokens, next((f for f in sizes.frames if f > bucket.frames), more))

    def _padded(self, work: Work, steps: Mapping[str, Step]) -> None:
        run, began, leg = self.run, time.perf_counter(), PADDED_EXACT
        larger, lengths = self._larger(work), self._lengths(work, steps)
        others = self._steps(work, larger)
        exact = lengths.exact(values_of(steps), work.bucket.frames)
        placed = lengths.placed(exact, larger.frames) if "asr" in exact else {}
        placed["encoded"] = _resized(steps["Encoder"].outputs["encoded"], larger.tokens)
        where = f"{work} beside {larger}"
        stages = []
        for name in work.stages:
            inputs = dict(_same(steps[name].inputs, others[name].inputs, placed))
            outputs = self.eager.stage(name, size_of(name, larger))(inputs)
            theirs = shown(lengths.exact(outputs, larger.frames))
            ours = shown({value: exact[value] for value in COMPARED[name]})
            for value in COMPARED[name]:
                near = snr_db(reference=theirs[value].numpy(), candidate=ours[value].numpy())
                label = f"{name}.{value}"
                stages.append(run.judge.stage(leg, label, str(work), near, "bucket_snr_db"))
        worst = min(s.snr_db for s in stages)
        metrics, wanted = {"bucket_snr_db": worst}, ["bucket_snr_db"]
        if work.whole:
            spoken, other = self._spoken(work, steps), self._spoken(work, others)
            metrics |= pipeline_measures.whole(spoken, other)
            wanted = list(run.judge.of_leg(leg))
        checks = run.judge.checks(leg, where, metrics, only=wanted)
        seconds = time.perf_counter() - began
        run.add(LegResult(judged(leg, checks, seconds, stages=stages), tuple(stages)), began)

    # -- legs 3 and 4 ---------------------------------------------------------------------------

    def _stage(self, work: Work, name: str, step: Step) -> None:
        run = self.run
        size = size_of(name, work.bucket)
        stage = self.stored.at(name, size)
        if self.stored is not self.eager:
            step = Step(step.inputs, self.stored.stage(name, size)(step.inputs))
        with run.attempt(*self._due(TRACED_EAGER, PACKAGE_REWRITE)):
            with run.reporter.step(f"trace {stage}"):
                traced = trace(stage)
            if not run.left_out(TRACED_EAGER):
                self._traced(stage, traced, step)
            graph = TracedGraph(traced, stage.module, [port.name for port in stage.outputs])
            del traced
            if not run.left_out(PACKAGE_REWRITE):
                self._package(work, stage, graph, step)

    def _due(self, *names: str) -> list[str]:
        return [name for name in names if name not in self.run.request.waive]

    def _traced(self, stage: Stage, traced: torch.jit.ScriptModule, step: Step) -> None:
        began, judge = time.perf_counter(), self.run.judge
        with self.run.attempt(TRACED_EAGER):
            with torch.inference_mode():
                outputs = outputs_of(stage, traced(*tensors_of(stage, step.inputs)))
            worst = pipeline_measures.worst_snr_db(step.outputs, outputs)
            found = judge.stage(TRACED_EAGER, stage.name, str(stage), worst, "traced_snr_db")
            checks = judge.checks(TRACED_EAGER, str(stage), {"traced_snr_db": worst})
            leg = judged(TRACED_EAGER, checks, 0.0)
            self.run.add(LegResult(leg, (found,)), began)

    def _package(self, work: Work, stage: Stage, graph: TracedGraph, step: Step) -> None:
        run, began = self.run, time.perf_counter()
        package, function = self.packaged.function(stage.name, size_of(stage.name, work.bucket))
        path = run.request.bundle / package.file
        before = len(run.suspects)
        with (
            run.attempt(PACKAGE_REWRITE),
            run.reporter.step(f"package = rewrite: {stage} in float32"),
        ):
            plain = Program.load(path, function.name)
            self.labels[stage.name, size_of(stage.name, work.bucket)] = packages.named(
                plain, graph.modules()
            )
            half = package.precision == "float16"
            metrics = pipeline_measures.package_metrics(
                stage.name, step.outputs, plain(step.inputs), self._samples(step), half=half
            )
            key = "half_rewrite_snr_db" if half else "rewrite_snr_db"
            case = f"{work.trial.case.id} at {stage.function}"
            found = run.judge.stage(PACKAGE_REWRITE, stage.name, case, metrics[key], key)
            checks = run.judge.checks(PACKAGE_REWRITE, str(stage), metrics, only=list(metrics))
            run.add(LegResult(judged(PACKAGE_REWRITE, checks, 0.0), (found,)), began)
        self._locate(stage, graph, step, path, function.name, wrong=len(run.suspects) > before)

    def _samples(self, step: Step) -> int | None:
        """Samples of speech, of a stage that is told them."""
        frames = step.inputs.get("frames")
        return None if frames is None else int(frames[0]) * self.config.samples_per_frame

    # -- operations -----------------------------------------------------------------------------

    def _locate(
        self,
        stage: Stage,
        graph: TracedGraph,
        step: Step,
        path: Path,
        function: str,
        *,
        wrong: bool,
    ) -> None:
        """Compare operations where the stage is wrong, and of every stage once for the chart."""
        run = self.run
        if wrong and not self.located:
            self.located = True
            title = f"{stage} in float32 beside the traced PyTorch module"
            with run.locating(PACKAGE_REWRITE, f"stage {stage.name}"), run.reporter.step(title):
                plain = Program.load(path, function)
                found = packages.errors_against_trace(plain, graph, stage, step.inputs)
                run.operations, run.operations_title = _of(stage.name, found, 0), title
                run.suspects += _named(
                    stage.name,
                    location.operation_faults(PACKAGE_REWRITE, found, plain.operations),
                )
        elif not self.located and stage.name not in self.charted:
            self.charted.add(stage.name)
            with run.locating(PACKAGE_UPSTREAM, f"stage {stage.name}"):
                self._chart(stage, graph, step, path, function)

    def _chart(
        self, stage: Stage, graph: TracedGraph, step: Step, path: Path, function: str
    ) -> None:
        """The stage's part of the chart over all stages, each fed the eager stages' values."""
        run, precision = self.run, self.run.request.precision
        plain = Program.load(path, function)
        if precision == "float32":
            title = "the saved packages in float32 beside the traced PyTorch modules"
            with run.reporter.step(f"error along the graph: {stage}"):
                found = packages.errors_against_trace(plain, graph, stage, step.inputs)
        elif packages.has_half(plain):
            title = f"the saved packages at {precision} precision beside themselves in float32"
            declared = Program.load(path, function, precision=precision)
            with run.reporter.step(f"error along the graph: {stage}"):
                found = packages.errors_of_rounding(plain, declared, graph, step.inputs)
            faults = location.operation_faults(PACKAGE_UPSTREAM, found, declared.operations)
            run.rounded = [*(run.rounded or []), *_named(stage.name, faults)]
        else:
            return
        run.operations_title = title
        run.operations += _of(stage.name, found, self.offset)
        self.offset += len(plain.operations)


def _of(stage: str, found: Sequence[OperationError], offset: int) -> list[OperationError]:
    """With the stage in front of the module, and positions counted through all stages."""
    return [
        replace(o, module=f"{stage}.{o.module}" if o.module else None, position=o.position + offset)
        for o in found
    ]


def _named(stage: str, suspects: Sequence[Suspect]) -> list[Suspect]:
    return [replace(s, where=f"{stage}: {s.where}") for s in suspects]


def _resized(encoded: np.ndarray, tokens: int) -> np.ndarray:
    """Another number of tokens: zeros behind, or padding cut off."""
    missing = tokens - encoded.shape[3]
    return F.pad(torch.from_numpy(encoded), (0, missing)).numpy()


def _same(small: Arrays, large: Arrays, placed: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    """Inputs for the larger bucket: what crossed in the small one, in the larger one's shape."""
    for name, value in large.items():
        if name in placed:
            yield name, placed[name]
        else:
            yield name, small[name] if small[name].shape == value.shape else value
