"""The gate of `convert`: what was saved is executed and compared before it may leave.

Each leg gives a `LegRecord`; the bundle is refused unless all of them passed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from kokoro_coreml.errors import ParityError
from kokoro_coreml.manifest import LegRecord, ParityRecord
from kokoro_coreml.parity.bounds import COMPRESSED
from kokoro_coreml.parity.metrics import (
    duration_errors,
    level_difference_db,
    log_spectral_distance_db,
    padding_peak,
    snr_db,
)
from kokoro_coreml.parity.modules import Eager
from kokoro_coreml.parity.pipeline_measures import worst_snr_db
from kokoro_coreml.parity.reference import ReferenceSpeech
from kokoro_coreml.recipe import Recipe, Thresholds
from kokoro_coreml.stages.types import Stage
from kokoro_coreml.synthesis import Spoken, Utterance, speak

SNR_CAP_DB = 999.0
"""Stands for an infinite SNR, which JSON has no number for."""

LEVEL_DB = 0.1
"""Largest difference in level; a missing window sum would show as 3.5 dB."""

UNMOVED_DB = 60.0
"""Two runs closer than this were not told apart by what differs in their inputs."""

USUAL = Thresholds(
    module_snr_db=90.0,
    bucket_snr_db=90.0,
    rewrite_snr_db=70.0,
    audio_snr_db=30.0,
    log_spectral_distance_db=0.3,
    half_rewrite_snr_db=50.0,
)
"""What the recipes of this project ask for, or less. A recipe for another network may need other
numbers, but not unseen; `verify` judges by its own whatever a recipe says."""

AT_MOST = (
    "unmoved_by_phases_db",
    "log_spectral_distance_db",
    "level_difference_db",
    "duration_errors",
    "suite_duration_errors_percent",
    "length_difference_percent",
    "padding_peak",
)
"""Metrics whose threshold is an upper bound; of the others it is a lower one."""


@dataclass(frozen=True)
class Case:
    """One utterance with what upstream made of it."""

    name: str
    utterance: Utterance
    reference: ReferenceSpeech


def leg(name: str, metrics: Mapping[str, float], thresholds: Mapping[str, float]) -> LegRecord:
    """Judge metrics; NaN fails, and so does a threshold without its metric."""
    failed = [key for key, bound in thresholds.items() if not _holds(key, metrics, bound)]
    shown = {key: _finite(value) for key, value in metrics.items()}
    return LegRecord(
        name=name,
        verdict="failed" if failed else "passed",
        metrics=shown,
        thresholds=dict(thresholds),
        detail=f"out of bounds: {', '.join(failed)}" if failed else None,
    )


def package_against_rewrite(
    name: str, stage: Stage, spoken: Spoken, plain: Spoken, case: Case, thresholds: Thresholds
) -> LegRecord:
    """Leg 4: the saved package, executed in float32, against the module it was traced from.

    Args:
        name: of the leg.
        stage: what was saved.
        spoken: what the package said to `case`, whose phases are not 0.
        plain: what it said to the same case with phases of 0, which must be something else.
        case: the utterance.
        thresholds: of the recipe.
    """
    eager = speak(Eager(stage), case.utterance, stage.bucket.tokens)
    return leg(
        name,
        {
            "duration_errors": _errors(eager.durations, spoken.durations),
            "rewrite_snr_db": _snr(eager.audio, spoken.audio),
            "unmoved_by_phases_db": _snr(plain.audio, spoken.audio),
        },
        {
            "duration_errors": 0.0,
            "rewrite_snr_db": thresholds.rewrite_snr_db,
            "unmoved_by_phases_db": UNMOVED_DB,
        },
    )


def stage_against_rewrite(
    name: str,
    stage: Stage,
    inputs: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
    thresholds: Thresholds,
    *,
    half: bool,
) -> LegRecord:
    """Leg 4 for one stage of a pipeline: what it gave in float32 against its own module.

    Args:
        name: of the leg.
        stage: what was saved.
        inputs: that both are given.
        outputs: of the package.
        thresholds: of the recipe.
        half: whether the package's weights are in half precision.
    """
    expected = Eager(stage)(inputs)
    worst = worst_snr_db(expected, outputs)
    key = "half_rewrite_snr_db" if half else "rewrite_snr_db"
    return leg(name, {key: worst}, {key: getattr(thresholds, key)})


def package_against_upstream(
    name: str, spoken: Spoken, case: Case, thresholds: Thresholds
) -> LegRecord:
    """The saved package, executed in float32, against upstream under the same noise."""
    reference, candidate = case.reference.audio, spoken.audio
    same = reference.shape == candidate.shape
    metrics = {
        "duration_errors": _errors(case.reference.durations, spoken.durations),
        "audio_snr_db": _snr(reference, candidate),
        "log_spectral_distance_db": (
            log_spectral_distance_db(reference=reference, candidate=candidate) if same else math.nan
        ),
        "level_difference_db": (
            abs(level_difference_db(reference=reference, candidate=candidate)) if same else math.nan
        ),
        "padding_peak": padding_peak(spoken.padding),
    }
    return leg(
        name,
        metrics,
        {
            "duration_errors": 0.0,
            "audio_snr_db": thresholds.audio_snr_db,
            "log_spectral_distance_db": thresholds.log_spectral_distance_db,
            "level_difference_db": LEVEL_DB,
            "padding_peak": 0.0,
        },
    )


def compressed_against_upstream(name: str, spoken: Spoken, forced: Spoken, case: Case) -> LegRecord:
    """Leg 5 of a pipeline whose weights lost something, bounded as `bounds.COMPRESSED` says.

    Args:
        name: of the leg.
        spoken: what the packages said.
        forced: what they said with upstream's durations.
        case: the utterance.
    """
    reference, candidate = case.reference.audio, forced.audio
    frames, tokens = int(case.reference.durations.sum()), len(case.utterance.ids)
    longer = abs(int(spoken.durations.sum()) - frames)
    errors = _errors(case.reference.durations, spoken.durations)
    metrics = {
        "suite_duration_errors_percent": 100.0 * errors / tokens,
        "length_difference_percent": 100.0 * longer / frames,
        "padding_peak": padding_peak(np.concatenate([spoken.padding, forced.padding])),
    }
    if reference.shape == candidate.shape:
        pair = {"reference": reference, "candidate": candidate}
        metrics |= {
            "log_spectral_distance_db": log_spectral_distance_db(**pair),
            "level_difference_db": abs(level_difference_db(**pair)),
        }
    wanted = (*metrics, "log_spectral_distance_db", "level_difference_db")
    return leg(name, metrics, {m: b for m, b, _, _ in COMPRESSED if m in wanted})


def looser_than_usual(recipe: Recipe) -> str:
    """Bounds of a recipe that let more pass than `USUAL`, each beside it; empty if none does."""
    usual, asked = asdict(USUAL), asdict(recipe.parity)
    loose = [key for key, bound in usual.items() if not _holds(key, asked, bound)]
    return ", ".join(f"{key} {asked[key]:g} instead of {usual[key]:g}" for key in loose)


def summarise(legs: list[LegRecord], *, runtime: str) -> ParityRecord:
    """The record that stands in the manifest.

    Raises:
        ParityError: there is no leg, or one did not pass; every failed one is named.
    """
    failed = [
        f"{record.name}: {record.detail} {_numbers(record)}"
        for record in legs
        if record.verdict != "passed"
    ]
    if failed or not legs:
        raise ParityError(
            "the saved package is not equal to PyTorch, so no bundle was written: "
            + ("; ".join(failed) or "nothing was compared")
        )
    return ParityRecord(verdict="passed", runtime=runtime, legs=tuple(legs))


def _errors(reference: np.ndarray, candidate: np.ndarray) -> float:
    return float(duration_errors(reference=reference, candidate=candidate))


def _snr(reference: np.ndarray, candidate: np.ndarray) -> float:
    if reference.shape != candidate.shape:
        return math.nan
    return snr_db(reference=reference, candidate=candidate)


def _holds(key: str, metrics: Mapping[str, float], bound: float) -> bool:
    value = metrics.get(key, math.nan)
    return value <= bound if key in AT_MOST else value >= bound


def _finite(value: float) -> float:
    if math.isnan(value):
        return -SNR_CAP_DB
    return max(-SNR_CAP_DB, min(SNR_CAP_DB, value))


def _numbers(record: LegRecord) -> str:
    return ", ".join(f"{key} {value:.4g}" for key, value in record.metrics.items())
