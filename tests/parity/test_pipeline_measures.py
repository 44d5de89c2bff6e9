"""What a case is measured by where float32 itself does not know the speech to within a bound."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from kokoro_coreml.parity.bounds import (
    DISTANCE,
    FLOAT32_SNR,
    LOSS,
    OWN_DISTANCE,
    OWN_DISTANCE_SOUND_DB,
    OWN_SNR,
    RATIO,
    ROUNDING,
)
from kokoro_coreml.parity.metrics import audio_metrics, log_spectral_distance_db, snr_db
from kokoro_coreml.parity.pipeline_measures import (
    beside_float32,
    beside_rounding,
    distance_that_does_not_apply,
)
from kokoro_coreml.parity.reference import ReferenceSpeech
from kokoro_coreml.parity.suite import load_suite
from kokoro_coreml.parity.trials import Trial
from kokoro_coreml.recipe import Bucket
from kokoro_coreml.synthesis import Utterance

RANDOM = np.random.default_rng(0)
SPEECH = RANDOM.standard_normal(24_000).astype(np.float32)


def shaken(level: float) -> np.ndarray:
    return (SPEECH + level * RANDOM.standard_normal(SPEECH.size)).astype(np.float32)


def speech(audio: np.ndarray) -> ReferenceSpeech:
    return ReferenceSpeech(audio, np.ones(4, dtype=np.int64))


def trial(exact: np.ndarray | None) -> Trial:
    row = np.zeros((1, 256), dtype=np.float32)
    made = Trial(
        load_suite("smoke").cases[0],
        Utterance((0, 1, 2, 0), row, 1.0),
        (0, 1, 2, 0),
        row,
        speech(SPEECH),
        speech(shaken(0.5)),
        Bucket(32, 128),
    )
    return made if exact is None else replace(made, exact=speech(exact))


def test_the_ratio_is_of_the_distances_from_upstreams_float32() -> None:
    exact, audio = shaken(0.02), shaken(0.03)
    distance = log_spectral_distance_db(reference=SPEECH, candidate=audio)
    found = beside_rounding(trial(exact), distance)
    own = log_spectral_distance_db(reference=SPEECH, candidate=exact)
    assert found[OWN_DISTANCE] == own
    assert found[OWN_SNR] == snr_db(reference=SPEECH, candidate=exact)
    assert found[RATIO] == distance / own
    assert found[RATIO] == pytest.approx(1.5, rel=0.1)


def test_audio_with_nan_has_no_ratio_and_so_fails() -> None:
    broken = SPEECH.copy()
    broken[100] = np.nan
    metrics = audio_metrics(reference=SPEECH, candidate=broken, sample_rate=24_000)
    assert math.isnan(beside_rounding(trial(shaken(0.02)), metrics[DISTANCE])[RATIO])


def test_without_double_precision_the_fixed_bound_applies() -> None:
    found = beside_rounding(trial(None), 0.1)
    assert found == {}
    assert distance_that_does_not_apply(found) == RATIO


def test_an_upstream_that_does_not_round_is_no_excuse() -> None:
    found = beside_rounding(trial(SPEECH.copy()), 0.1)
    assert found[OWN_DISTANCE] == 0.0
    assert distance_that_does_not_apply(found) == RATIO


@pytest.mark.parametrize("own", [0.0, 0.1, OWN_DISTANCE_SOUND_DB])
def test_the_fixed_bound_applies_where_upstream_is_known_well(own: float) -> None:
    assert distance_that_does_not_apply({OWN_DISTANCE: own}) == RATIO
    assert distance_that_does_not_apply({OWN_DISTANCE: own + 0.2001}) == DISTANCE


@pytest.mark.parametrize("own", [0.67, 3.0, math.inf, math.nan])
def test_an_upstream_that_rounds_too_much_excuses_nothing(own: float) -> None:
    assert distance_that_does_not_apply({OWN_DISTANCE: own}) == RATIO


def test_what_half_precision_costs_is_measured_beside_float32_itself() -> None:
    plain, audio = shaken(0.01), shaken(0.02)
    found = beside_float32(SPEECH, plain, audio)
    assert found[FLOAT32_SNR] == snr_db(reference=SPEECH, candidate=plain)
    assert found[LOSS] == pytest.approx(6.0, abs=0.3)
    assert found[ROUNDING] == log_spectral_distance_db(reference=plain, candidate=audio)
    better = beside_float32(SPEECH, plain, SPEECH)
    assert better[LOSS] == 0.0


def test_one_nan_in_the_audio_costs_more_than_any_bound() -> None:
    broken = SPEECH.copy()
    broken[100] = np.nan
    found = beside_float32(SPEECH, shaken(0.01), broken)
    assert math.isnan(found[LOSS])
    assert math.isnan(found[ROUNDING])


def test_float32_that_is_upstream_to_the_bit_loses_nothing_by_being_so() -> None:
    assert beside_float32(SPEECH, SPEECH, SPEECH)[LOSS] == 0.0


@pytest.mark.parametrize("plain", [None, SPEECH[:-1]])
def test_what_float32_could_not_say_passes_nothing(plain: np.ndarray | None) -> None:
    found = beside_float32(SPEECH, plain, SPEECH)
    assert set(found) == {FLOAT32_SNR, LOSS, ROUNDING}
    assert all(math.isnan(value) for value in found.values())


def test_declared_audio_of_another_length_costs_more_than_any_bound() -> None:
    found = beside_float32(SPEECH, shaken(0.01), SPEECH[:-1])
    assert found[FLOAT32_SNR] > 30
    assert math.isnan(found[LOSS])
    assert math.isnan(found[ROUNDING])
