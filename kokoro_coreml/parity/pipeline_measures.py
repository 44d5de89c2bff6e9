"""What is measured on a pipeline's stages and on its speech."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from kokoro_coreml.config import SAMPLE_RATE
from kokoro_coreml.parity.bounds import (
    DISTANCE,
    FLOAT32_SNR,
    LOSS,
    OWN_DISTANCE,
    OWN_DISTANCE_LOST_DB,
    OWN_DISTANCE_SOUND_DB,
    OWN_SNR,
    RATIO,
    ROUNDING,
)
from kokoro_coreml.parity.flows import Arrays
from kokoro_coreml.parity.metrics import (
    duration_errors,
    log_spectral_distance_db,
    opening_snr_db,
    padding_peak,
    snr_db,
    tail_snr_db,
)
from kokoro_coreml.parity.trials import Trial
from kokoro_coreml.synthesis import Spoken


def worst_snr_db(expected: Arrays, found: Arrays) -> float:
    """The lowest SNR of all outputs of a stage; NaN where one is missing or of another shape."""
    values = [_port_snr_db(name, expected[name], found.get(name)) for name in expected]
    return math.nan if any(math.isnan(v) for v in values) else min(values)


def _port_snr_db(name: str, expected: np.ndarray, found: np.ndarray | None) -> float:
    if found is None or found.shape != expected.shape:
        return math.nan
    if name == "har":
        expected, found = _complex(expected), _complex(found)
    if expected.dtype.kind == "i":
        return math.inf if np.array_equal(expected, found) else -math.inf
    return snr_db(reference=expected, candidate=found)


def _complex(har: np.ndarray) -> np.ndarray:
    """Real and imaginary parts of magnitude and phase: pi and -pi are the same phase."""
    magnitude, phase = np.split(har, 2, axis=1)
    return np.concatenate([magnitude * np.cos(phase), magnitude * np.sin(phase)], axis=1)


def package_metrics(
    stage: str, expected: Arrays, found: Arrays, samples: int | None, *, half: bool
) -> dict[str, float]:
    """A saved stage in float32 against its module.

    Args:
        stage: its name.
        expected: what the module gave.
        found: what the package gave to the same inputs.
        samples: of speech, for `Tail`.
        half: whether the package's weights are in half precision.
    """
    key = "half_rewrite_snr_db" if half else "rewrite_snr_db"
    metrics = {key: worst_snr_db(expected, found)}
    if stage == "Duration":
        errors = duration_errors(reference=expected["pred_dur"], candidate=found["pred_dur"])
        metrics["duration_errors"] = float(errors)
    if stage == "Tail" and samples is not None:
        audio = {"reference": expected["audio"][0], "candidate": found["audio"][0]}
        pair = {name: value[:samples] for name, value in audio.items()}
        metrics |= {
            "opening_snr_db": opening_snr_db(**pair, sample_rate=SAMPLE_RATE),
            "tail_snr_db": tail_snr_db(**pair, sample_rate=SAMPLE_RATE),
            "padding_peak": padding_peak(found["audio"][0, samples:]),
        }
    return metrics


def beside_rounding(trial: Trial, distance: float) -> dict[str, float]:
    """How far a case is from upstream, measured by how far upstream's own rounding takes it.

    Args:
        trial: with upstream's speech in double precision; without it nothing is known.
        distance: log-spectral distance of what was said from upstream in float32, in dB.
    """
    if trial.exact is None:
        return {}
    pair = {"reference": trial.reference.audio, "candidate": trial.exact.audio}
    own = log_spectral_distance_db(**pair)
    ratio = distance / own if own > 0.0 else math.inf
    return {OWN_SNR: snr_db(**pair), OWN_DISTANCE: own, RATIO: ratio}


def beside_float32(
    reference: np.ndarray, plain: np.ndarray | None, audio: np.ndarray
) -> dict[str, float]:
    """What declared precision costs: the same packages in float32 against both.

    Args:
        reference: what upstream said, float32 [samples].
        plain: what the packages said in float32; None where they could not.
        audio: what they said at declared precision.
    """
    if plain is None or plain.shape != reference.shape:
        return dict.fromkeys((FLOAT32_SNR, LOSS, ROUNDING), math.nan)
    found = snr_db(reference=reference, candidate=plain)
    if plain.shape != audio.shape:
        return {FLOAT32_SNR: found, LOSS: math.nan, ROUNDING: math.nan}
    declared = snr_db(reference=reference, candidate=audio)
    lost = 0.0 if declared >= found else found - declared
    distance = log_spectral_distance_db(reference=plain, candidate=audio)
    return {FLOAT32_SNR: found, LOSS: lost, ROUNDING: distance}


def distance_that_does_not_apply(metrics: Mapping[str, float]) -> str:
    """Of the two bounds on the spectral distance, the one that the other stands for."""
    own = metrics.get(OWN_DISTANCE, 0.0)
    return DISTANCE if OWN_DISTANCE_SOUND_DB < own <= OWN_DISTANCE_LOST_DB else RATIO


def whole(ours: Spoken, theirs: Spoken) -> dict[str, float]:
    """The audio of two buckets."""
    errors = duration_errors(reference=theirs.durations, candidate=ours.durations)
    same = ours.audio.shape == theirs.audio.shape
    peaks = [padding_peak(spoken.padding) for spoken in (ours, theirs)]
    return {
        "duration_errors": float(errors),
        "padded_snr_db": (
            snr_db(reference=theirs.audio, candidate=ours.audio) if same else math.nan
        ),
        "padding_peak": math.nan if any(math.isnan(p) for p in peaks) else max(peaks),
    }
