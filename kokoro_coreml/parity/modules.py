"""Legs 1 to 3: the rewritten network against upstream, against itself padded, and its trace."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kokoro_coreml.config import SAMPLE_RATE, ModelConfig
from kokoro_coreml.modules.complete import Boundaries, KokoroCompleteCoreML
from kokoro_coreml.parity.judge import Judge, judged
from kokoro_coreml.parity.metrics import audio_metrics, duration_errors, padding_peak, snr_db
from kokoro_coreml.parity.reference import Reference
from kokoro_coreml.parity.results import Check, Leg, StageResult
from kokoro_coreml.parity.stages import TAPS, exact_length, stage_snr_db
from kokoro_coreml.parity.thresholds import PADDED_EXACT, REWRITE_UPSTREAM, TRACED_EAGER
from kokoro_coreml.parity.trials import Trial
from kokoro_coreml.recipe import Bucket
from kokoro_coreml.stages import Stage
from kokoro_coreml.synthesis import Spoken, Utterance, speak

STEADY = 64
"""Between lengths that are multiples of it, torch's kernels add every sum in one order: 16 is
enough with AVX2 and AVX-512, 32 was needed on a processor with AMX."""


@dataclass(frozen=True)
class Heard:
    """What the rewrite said in PyTorch, with everything between its modules."""

    spoken: Spoken
    taps: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class LegResult:
    """A leg with its table of stages."""

    leg: Leg
    stages: tuple[StageResult, ...] = ()


@dataclass
class Eager:
    """A stage's module behind the interface of a package."""

    stage: Stage
    run_seconds: list[float] = field(default_factory=list)

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run `forward`; the time it takes is kept."""
        tensors = tensors_of(self.stage, inputs)
        began = time.perf_counter()
        with torch.inference_mode():
            results = self.stage.module(*tensors)
        self.run_seconds.append(time.perf_counter() - began)
        return outputs_of(self.stage, results)


def tensors_of(stage: Stage, inputs: Mapping[str, np.ndarray]) -> list[Tensor]:
    """The inputs of a stage in the order of its ports."""
    return [torch.from_numpy(inputs[port.name]) for port in stage.inputs]


def outputs_of(stage: Stage, results: tuple[Tensor, ...]) -> dict[str, np.ndarray]:
    """The results of a stage by the names of its ports."""
    names = [port.name for port in stage.outputs]
    return {name: value.numpy() for name, value in zip(names, results, strict=True)}


def hear(stage: Stage, utterance: Utterance) -> Heard:
    """Run the rewrite and keep what passes between its modules.

    Raises:
        PhonemeError: the utterance does not fit the bucket.
        ParityError: the audio cannot be.
    """
    module = stage.module
    assert isinstance(module, KokoroCompleteCoreML)
    taps: dict[str, np.ndarray] = {}

    def backend(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            at: Boundaries = module.boundaries(*tensors_of(stage, inputs))
        taps.update({name: getattr(at, name).numpy() for name in TAPS})
        samples = taps["durations"].sum(axis=1) * module.samples_per_frame
        return {
            "audio": taps["audio"],
            "audio_length_samples": samples.astype(np.int32),
            "pred_dur": taps["durations"].astype(np.int32),
        }

    return Heard(speak(backend, utterance, stage.bucket.tokens), taps)


def exact_bucket(trial: Trial, *, multiple: int = 1) -> Bucket:
    """The bucket without padding, or with the frames rounded up to a multiple."""
    return Bucket(len(trial.utterance.ids), -(-trial.frames // multiple) * multiple)


def steady_buckets(trial: Trial) -> tuple[Bucket, Bucket]:
    """The next steady length without padding, and the first behind it that holds the bucket."""
    exact = exact_bucket(trial, multiple=STEADY)
    least = max(trial.bucket.frames, exact.frames + 1)
    return exact, Bucket(trial.bucket.tokens, -(-least // STEADY) * STEADY)


def rewrite_against_upstream(
    judge: Judge, reference: Reference, trial: Trial, exact: Heard, noise: Tensor
) -> LegResult:
    """Leg 1: every module fed the same inputs, and the whole, at the exact length.

    Args:
        judge: holds the thresholds.
        reference: upstream.
        trial: the case.
        exact: what the rewrite made of it without padding.
        noise: that both were given, [1, samples, 9].
    """
    began, case, heard = time.perf_counter(), trial.case.id, exact
    found = stage_snr_db(reference, trial.utterance, heard.taps, noise=noise)
    stages = [
        judge.stage(REWRITE_UPSTREAM, name, case, value, "module_snr_db")
        for name, value in found.items()
    ]
    checks = [c for s in stages for c in _stage_check(judge, s, "module_snr_db")]
    whole = spoken_metrics(heard.spoken, trial)
    whole["exact_snr_db"] = whole["audio_snr_db"]
    rest = [m for m in judge.of_leg(REWRITE_UPSTREAM) if m != "module_snr_db"]
    checks += judge.checks(REWRITE_UPSTREAM, case, whole, only=rest)
    seconds = time.perf_counter() - began
    leg = judged(REWRITE_UPSTREAM, checks, seconds, detail=f"case {case}, no padding")
    return LegResult(leg, tuple(stages))


def padded_against_exact(
    judge: Judge,
    config: ModelConfig,
    trial: Trial,
    exact: Heard,
    padded: Heard,
    steady: tuple[Heard, Heard],
) -> LegResult:
    """Leg 2: the bucket against the exact length, and two steady lengths against one another.

    The second comparison is the sharp one and is made module by module: no sum changes its order
    between two steady lengths, so whatever padding leaks in stands alone.

    Args:
        judge: holds the thresholds.
        config: of the network.
        trial: the case.
        exact: what the rewrite made of it without padding.
        padded: in the bucket.
        steady: in each of `steady_buckets`.
    """
    began, case = time.perf_counter(), trial.case.id
    short, long = steady
    metrics = {
        **_timing(exact.spoken, padded.spoken),
        "padded_snr_db": _snr(exact.spoken.audio, padded.spoken.audio),
        "bucket_snr_db": _snr(short.spoken.audio, long.spoken.audio),
        "padding_peak": max(padding_peak(h.spoken.padding) for h in (padded, long)),
    }
    checks = judge.checks(PADDED_EXACT, case, metrics)
    theirs, ours = (exact_length(config, trial.utterance, heard.taps) for heard in steady)
    stages = [
        judge.stage(PADDED_EXACT, name, case, _snr(theirs[name], ours[name]), "bucket_snr_db")
        for name in theirs
    ]
    between = " and ".join(str(bucket) for bucket in steady_buckets(trial))
    detail = f"case {case}, {exact_bucket(trial)} in {trial.bucket}; modules between {between}"
    seconds = time.perf_counter() - began
    leg = judged(PADDED_EXACT, checks, seconds, stages=stages, detail=detail)
    return LegResult(leg, tuple(stages))


def trace_against_eager(
    judge: Judge, traced: torch.jit.ScriptModule, stage: Stage, trial: Trial, eager: Spoken
) -> LegResult:
    """Leg 3: the trace computes what the module computes."""
    began = time.perf_counter()

    def backend(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return outputs_of(stage, traced(*tensors_of(stage, inputs)))

    spoken = speak(backend, trial.utterance, stage.bucket.tokens)
    metrics = {
        **_timing(eager, spoken),
        "traced_snr_db": _snr(eager.audio, spoken.audio),
    }
    checks = judge.checks(TRACED_EAGER, str(stage), metrics)
    return LegResult(judged(TRACED_EAGER, checks, time.perf_counter() - began))


def spoken_metrics(spoken: Spoken, trial: Trial) -> dict[str, float]:
    """All metrics of what was said to a trial, against upstream."""
    pair = {"reference": trial.reference.audio, "candidate": spoken.audio}
    errors = duration_errors(reference=trial.reference.durations, candidate=spoken.durations)
    return {
        "duration_errors": float(errors),
        **audio_metrics(**pair, sample_rate=SAMPLE_RATE),
        "padding_peak": padding_peak(spoken.padding),
    }


def _timing(reference: Spoken, candidate: Spoken) -> dict[str, float]:
    errors = duration_errors(reference=reference.durations, candidate=candidate.durations)
    return {
        "duration_errors": float(errors),
        "length_difference_samples": float(abs(reference.audio.size - candidate.audio.size)),
    }


def _stage_check(judge: Judge, stage: StageResult, metric: str) -> list[Check]:
    return judge.checks(stage.leg, stage.name, {metric: stage.snr_db}, only=[metric])


def _snr(reference: np.ndarray, candidate: np.ndarray) -> float:
    if reference.shape != candidate.shape:
        return float("nan")
    return snr_db(reference=reference, candidate=candidate)
