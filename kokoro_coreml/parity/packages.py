"""Legs 4 to 7: the saved package against the rewrite and upstream, on either runtime; the words."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kokoro_coreml.config import SAMPLE_RATE
from kokoro_coreml.errors import KokoroError
from kokoro_coreml.executor import Program
from kokoro_coreml.executor.types import TensorSpec
from kokoro_coreml.parity.attribution import Named, attribute, half_precision
from kokoro_coreml.parity.judge import Judge, judged
from kokoro_coreml.parity.metrics import (
    AUDIO_METRICS,
    audio_metrics,
    better,
    duration_errors,
    opening_snr_db,
    padding_peak,
    snr_db,
    tail_snr_db,
    word_errors,
)
from kokoro_coreml.parity.modules import spoken_metrics, tensors_of
from kokoro_coreml.parity.recognition import Recogniser
from kokoro_coreml.parity.results import CaseResult, Check, Leg, OperationError, finite
from kokoro_coreml.parity.thresholds import PACKAGE_REWRITE, WORDS, YARDSTICK_MARGIN
from kokoro_coreml.parity.torchscript import TracedGraph
from kokoro_coreml.parity.trials import Trial
from kokoro_coreml.stages import Stage
from kokoro_coreml.synthesis import Backend, Spoken, speak

SAME_VALUE = ("_has_output_shape", "_cast_fp16", "_has_output_shape_cast_fp16")
"""What coremltools appends to a name when it moves a value but does not change it."""

_DERIVED = re.compile(r"(_has_output_shape|_cast_fp16|_batch_first|_transpose|_\d+)$")
"""What it appends to the names of the operations that one of torch's becomes."""

SUITE_DURATIONS = "suite_duration_errors_percent"
"""Share of all tokens of the suite whose durations differ."""


@dataclass(frozen=True)
class Said:
    """What the package said to one trial, and how far it is from upstream."""

    trial: Trial
    name: str
    """Of the case, with the compute units where there are several."""
    spoken: Spoken | None
    """None where it could not be heard."""
    metrics: Mapping[str, float]
    yardstick: Mapping[str, float]
    error: str | None = None
    excused: frozenset[str] = frozenset()
    """Thresholds that do not apply to the case, because others of the leg stand for them."""
    note: str | None = None
    """What a reader of the metrics must know."""


def has_half(program: Program) -> bool:
    """Whether anything in the program is declared in half precision."""
    return any(
        isinstance(spec, TensorSpec) and spec.dtype == "fp16"
        for operation in program.operations
        for _, spec in operation.outputs
    )


def package_against_rewrite(judge: Judge, trial: Trial, package: Spoken, eager: Spoken) -> Leg:
    """Leg 4: the saved package, executed in float32, against the module it was traced from."""
    began = time.perf_counter()
    pair = {"reference": eager.audio, "candidate": package.audio}
    same = eager.audio.shape == package.audio.shape
    errors = duration_errors(reference=eager.durations, candidate=package.durations)
    metrics = {
        "duration_errors": float(errors),
        "length_difference_samples": float(abs(eager.audio.size - package.audio.size)),
        "padding_peak": padding_peak(package.padding),
    }
    if same:
        metrics |= {
            "rewrite_snr_db": snr_db(**pair),
            "opening_snr_db": opening_snr_db(**pair, sample_rate=SAMPLE_RATE),
            "tail_snr_db": tail_snr_db(**pair, sample_rate=SAMPLE_RATE),
        }
    checks = judge.checks(PACKAGE_REWRITE, f"{trial.case.id} on {trial.bucket}", metrics)
    return judged(PACKAGE_REWRITE, checks, time.perf_counter() - began)


def say(backend: Backend, trial: Trial, *, units: str | None = None) -> Said:
    """Let a package speak one trial and measure it beside upstream's own two runs.

    Args:
        backend: runs the package.
        trial: what to say.
        units: compute units it runs on, for the name.
    """
    name, yardstick = case_name(trial, units), yardstick_of(trial)
    try:
        spoken = speak(backend, trial.utterance, trial.bucket.tokens)
    except KokoroError as error:
        # upstream's speech fits the bucket, so one that does not is wrong
        return Said(trial, name, None, {}, yardstick, f"{name}: {error}")
    metrics = spoken_metrics(spoken, trial)
    metrics[YARDSTICK_MARGIN] = metrics["audio_snr_db"] - yardstick["audio_snr_db"]
    return Said(trial, name, spoken, metrics, yardstick)


def unheard(trial: Trial, units: str | None, reason: str) -> Said:
    """A trial of which there is nothing to measure, so that every threshold fails."""
    name = case_name(trial, units)
    return Said(trial, name, None, {}, yardstick_of(trial), f"{name}: {reason}")


def case_name(trial: Trial, units: str | None = None) -> str:
    """Of the case, with the compute units where there are several."""
    return f"{trial.case.id} on {units}" if units else trial.case.id


def yardstick_of(trial: Trial) -> dict[str, float]:
    """The metrics between upstream's own two runs."""
    first, again = trial.reference, trial.again
    errors = duration_errors(reference=first.durations, candidate=again.durations)
    return {
        "duration_errors": float(errors),
        **audio_metrics(reference=first.audio, candidate=again.audio, sample_rate=SAMPLE_RATE),
    }


def against_upstream(
    judge: Judge, name: str, said: Sequence[Said], seconds: float, detail: str | None
) -> Leg:
    """Leg 5 or 6: what was said to every trial, against upstream under the same noise."""
    per_case = [m for m in judge.of_leg(name) if m != SUITE_DURATIONS]
    checks = [
        check
        for one in said
        for check in judge.checks(
            name, one.name, one.metrics, only=[m for m in per_case if m not in one.excused]
        )
    ]
    notes = "; ".join(one.note for one in said if one.note)
    detail = "; ".join(part for part in (detail, notes) if part) or None
    if SUITE_DURATIONS in judge.of_leg(name) and said:
        tokens = sum(len(one.trial.utterance.ids) for one in said)
        wrong = sum(
            one.metrics.get("duration_errors", len(one.trial.utterance.ids)) for one in said
        )
        share = {SUITE_DURATIONS: 100.0 * wrong / tokens}
        checks += judge.checks(name, "the suite", share, only=[SUITE_DURATIONS])
    errors = "; ".join(one.error for one in said if one.error)
    return judged(name, checks, seconds, detail=detail, error=errors or None)


@dataclass(frozen=True)
class Heard:
    """What speech recognition made of both audios of one trial."""

    reference: str
    candidate: str
    errors: int
    voted: bool = False
    """Whether a single hearing told them apart, so that the majority of five decided."""
    torn: tuple[str, ...] = ()
    """Where upstream's own hearings have both, which counts as no error; others may be wrong."""


def recognise(recogniser: Recogniser, one: Said) -> Heard | None:
    """Words of both audios; None where the case does not ask for them or there is no audio."""
    if not one.trial.case.recognise or one.spoken is None:
        return None
    found = recogniser.compare(one.trial.reference.audio, one.spoken.audio)
    errors = word_errors(reference=found.reference, candidate=found.settled)
    reference, candidate = " ".join(found.reference), " ".join(found.candidate)
    return Heard(reference, candidate, errors, found.voted, found.torn)


def words_leg(judge: Judge, heard: Mapping[str, Heard | None], seconds: float) -> Leg:
    """Leg 7: the same words in both audios.

    A case in which nothing was recognised in upstream's own audio proves nothing and fails.
    """
    checks: list[Check] = []
    deaf = []
    for case, found in heard.items():
        if found is None:
            continue
        if not found.reference:
            deaf.append(case)
        checks += judge.checks(WORDS, case, {"word_errors": float(found.errors)})
    error = f"no word was recognised in upstream's audio of {', '.join(deaf)}" if deaf else None
    said = {case: found for case, found in heard.items() if found is not None}
    voted = [case for case, found in said.items() if found.voted]
    torn = [f"{case} ({', '.join(found.torn)})" for case, found in said.items() if found.torn]
    details = []
    if voted:
        details.append(f"decided by the majority of five hearings: {', '.join(voted)}")
    if torn:
        details.append(f"no error: {', '.join(torn)}")
    return judged(WORDS, checks, seconds, error=error, detail="; ".join(details) or None)


def case_result(one: Said, failed: Iterable[str], heard: Heard | None) -> CaseResult:
    """One row of the report."""
    case = one.trial.case
    metrics = dict(one.metrics) or dict.fromkeys(AUDIO_METRICS, float("nan"))
    yardstick = dict(one.yardstick)
    if heard is not None:
        metrics["word_errors"] = float(heard.errors)
    return CaseResult(
        name=one.name,
        text=case.text,
        phonemes=case.phonemes,
        language=case.language,
        voice=case.voice,
        speed=case.speed,
        bucket=str(one.trial.bucket),
        tokens=len(one.trial.utterance.ids),
        frames=one.trial.frames,
        seconds=round(one.trial.reference.audio.size / SAMPLE_RATE, 4),
        metrics={name: _finite(name, value) for name, value in metrics.items()},
        yardstick={name: _finite(name, value) for name, value in yardstick.items()},
        failed=tuple(failed),
        words_reference=heard.reference if heard else None,
        words_candidate=heard.candidate if heard else None,
    )


def errors_against_trace(
    program: Program, traced: TracedGraph, stage: Stage, inputs: Mapping[str, np.ndarray]
) -> list[OperationError]:
    """Every operation of a float32 package beside the traced module; see `attribution`."""
    modules = traced.modules()
    tensors = tensors_of(stage, inputs)
    names = {name + suffix for name in modules for suffix in ("", *SAME_VALUE)}
    references = (_renamed(traced.run(tensors)), _renamed(traced.run(tensors)))
    return attribute(program, inputs, references, names, named(program, modules))


def _renamed(values: Named) -> Named:
    for name, value in values:
        yield name, value
        yield from ((name + suffix, value) for suffix in SAME_VALUE)


def errors_of_rounding(
    float32: Program,
    declared: Program,
    traced: TracedGraph,
    inputs: Mapping[str, np.ndarray],
) -> list[OperationError]:
    """What declared half precision does, operation by operation; see `attribution`."""
    return half_precision(float32, declared, inputs, named(float32, traced.modules()))


def named(program: Program, modules: Mapping[str, str]) -> dict[str, str]:
    """Module of every operation; one that a pass added belongs to the next that is known."""
    labels: dict[str, str] = {}
    label: str | None = None
    for operation in reversed(program.operations):
        for name, _ in operation.outputs:
            label = next((modules[n] for n in _origins(name) if modules.get(n)), label)
            if label is not None:
                labels[name] = label
    return labels


def _origins(name: str) -> Iterator[str]:
    """The name, and what it may have been derived from, nearest first."""
    yield name
    while (shorter := _DERIVED.sub("", name)) != name:
        name = shorter
        yield name


def _finite(name: str, value: float) -> float:
    return finite(value, "higher" if name == YARDSTICK_MARGIN else better(name))
