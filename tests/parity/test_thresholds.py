"""Bounds hold for what is right, break for every fault worth naming, and cannot be talked down."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from kokoro_coreml.checkpoint import Checkpoint
from kokoro_coreml.errors import ParityError
from kokoro_coreml.parity.metrics import AUDIO_METRICS, audio_metrics
from kokoro_coreml.parity.reference import Reference, ReferenceSpeech
from kokoro_coreml.parity.results import Threshold
from kokoro_coreml.parity.suite import load_suite, suite_voice
from kokoro_coreml.parity.thresholds import (
    COREML_UPSTREAM,
    LEGS,
    PACKAGE_UPSTREAM,
    REWRITE_UPSTREAM,
    YARDSTICK_MARGIN,
    of_leg,
    thresholds_for,
)
from kokoro_coreml.recipe import Thresholds, load_recipe
from kokoro_coreml.vocabulary import Vocabulary

PRECISIONS = ("float32", "float16")
RATE = 24_000

Fault = Callable[[np.ndarray], np.ndarray]


def broken(
    reference: np.ndarray, candidate: np.ndarray, precision: str, leg: str = PACKAGE_UPSTREAM
) -> set[str]:
    """Audio metrics of the leg that are out of bounds."""
    found = audio_metrics(reference=reference, candidate=candidate, sample_rate=RATE)
    bounds = of_leg(thresholds_for(precision), leg)
    return {m for m in AUDIO_METRICS if m in bounds and not bounds[m].holds(found[m])}


def speech(*, pitch: float = 1.0) -> np.ndarray:
    """Two seconds that glide and pause as speech does, with hiss, from silence to silence."""
    time = np.arange(2 * RATE) / RATE
    hz = pitch * (150.0 + 40.0 * np.sin(2 * np.pi * 1.3 * time))
    phase = 2 * np.pi * np.cumsum(hz) / RATE
    buzz = sum(np.cos(k * phase + k * k) / k for k in range(1, 40))
    hiss = 0.02 * np.random.default_rng(0).standard_normal(time.size)
    syllables = np.clip(np.sin(2 * np.pi * 2.0 * (time - 0.1)), 0.0, None)
    syllables[time > 1.85] = 0.0
    return np.asarray(0.1 * (buzz + hiss) * syllables + 1e-9 * hiss)


def click(audio: np.ndarray) -> np.ndarray:
    found = audio.copy()
    found[5] += 0.005
    return found


FAULTS: Mapping[str, tuple[Fault, str]] = {
    "one sample late": (lambda x: np.roll(x, 1), "audio_snr_db"),
    "one sample cropped": (lambda x: x[1:], "audio_snr_db"),
    "half a decibel louder": (lambda x: x * 10 ** (0.5 / 20), "level_difference_db"),
    "half a decibel softer": (lambda x: x / 10 ** (0.5 / 20), "level_difference_db"),
    "a click in the opening": (click, "opening_error_db"),
    "a click in the tail": (lambda x: click(x[::-1])[::-1], "tail_error_db"),
    "an offset": (lambda x: x + 0.001, "opening_error_db"),
    "a low-pass": (lambda x: np.convolve(x, [0.25, 0.5, 0.25], "same"), "log_mel_cosine"),
    "eight bits": (lambda x: np.round(x * 128) / 128, "log_spectral_distance_db"),
    "upside down": (lambda x: -x, "audio_snr_db"),
    "pitch 1 % too high": (lambda x: speech(pitch=1.01), "f0_error_hz"),
    "silence": (np.zeros_like, "audio_snr_db"),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_breaks_its_bound(name: str, precision: str) -> None:
    fault, metric = FAULTS[name]
    assert metric in broken(speech(), fault(speech()), precision)


def test_a_missing_end_breaks_a_bound_though_all_of_it_was_silence() -> None:
    cut = speech()[:-480]
    assert broken(speech(), cut, "float32") == {"length_difference_samples"}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_error_below_half_a_percent_that_is_shaped_like_speech_passes(precision: str) -> None:
    audio = speech()
    noise = np.repeat(np.random.default_rng(1).standard_normal(audio.size // 100), 100)
    near = audio * (1.0 + 0.004 * noise)
    assert broken(audio, near, precision) == set()
    assert "audio_snr_db" in broken(audio, audio * (1.0 + 0.04 * noise), precision)
    assert broken(audio, audio.copy(), precision) == set()


def test_half_precision_is_held_to_what_was_promised() -> None:
    bounds = of_leg(thresholds_for("float16"), PACKAGE_UPSTREAM)
    assert bounds["audio_snr_db"].bound == 38.0
    assert bounds["log_spectral_distance_db"].bound == 0.3
    assert bounds["suite_duration_errors_percent"].bound == 0.1
    assert "duration_errors" not in bounds


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_leg_has_bounds_each_once_with_a_reason(precision: str) -> None:
    thresholds = thresholds_for(precision)
    assert {threshold.leg for threshold in thresholds} == set(LEGS)
    named = [(threshold.leg, threshold.metric) for threshold in thresholds]
    assert len(named) == len(set(named))
    for threshold in thresholds:
        assert len(threshold.reason) > 20
        assert not threshold.holds(float("nan"))
        assert threshold.holds(threshold.bound)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_audio_metric_that_is_measured_against_upstream_is_bounded(precision: str) -> None:
    bounds = of_leg(thresholds_for(precision), PACKAGE_UPSTREAM)
    free = set(AUDIO_METRICS) - set(bounds)
    assert free == ({"length_difference_samples"} if precision == "float16" else set())
    assert {YARDSTICK_MARGIN, "padding_peak"} <= set(bounds)


def test_a_device_is_held_to_the_same_bounds_and_says_that_none_was_measured() -> None:
    for precision in PRECISIONS:
        thresholds = thresholds_for(precision)
        here, device = (of_leg(thresholds, leg) for leg in (PACKAGE_UPSTREAM, COREML_UPSTREAM))
        assert {m: t.bound for m, t in here.items()} == {m: t.bound for m, t in device.items()}
        assert all("not yet measured on a Mac" in t.reason for t in device.values())


def bounds(thresholds: tuple[Threshold, ...], metric: str) -> set[float]:
    return {t.bound for t in thresholds if t.metric == metric}


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Thresholds)])
def test_a_recipe_can_ask_for_more_and_never_for_less(field: str) -> None:
    cut = "pipeline" if field == "half_rewrite_snr_db" else "complete"
    default = bounds(thresholds_for("float32", None, cut), field)
    assert default
    recipe = load_recipe("complete").parity
    more, less = (0.01, 50.0) if field == "log_spectral_distance_db" else (140.0, 0.0)
    stricter = dataclasses.replace(recipe, **{field: more})
    looser = dataclasses.replace(recipe, **{field: less})
    assert bounds(thresholds_for("float32", stricter, cut), field) == {more}
    assert bounds(thresholds_for("float32", looser, cut), field) == default
    asked = [t for t in thresholds_for("float32", stricter, cut) if t.metric == field]
    assert all(t.reason.startswith("asked for by the recipe") for t in asked)


def test_the_recipe_of_the_project_changes_no_bound() -> None:
    found = thresholds_for("float32", load_recipe("complete").parity)
    assert found == thresholds_for("float32")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_pipeline_is_judged_by_what_the_package_adds(precision: str) -> None:
    """Beside float32, whose own distance from upstream no package can undo, and on one source."""
    found = of_leg(thresholds_for(precision, None, "pipeline"), PACKAGE_UPSTREAM)
    assert found["float32_snr_db"].bound == 30.0
    assert found["same_source_snr_db"].bound == 45.0
    assert ("loss_db" in found) == (precision == "float16")
    assert ("audio_snr_db" in found) == (precision == "float16")
    assert ("rounding_distance_db" in found) == (precision == "float16")
    assert found["distance_over_rounding"].bound == 1.5
    device = of_leg(thresholds_for(precision, None, "pipeline"), COREML_UPSTREAM)
    assert set(found) - set(device) <= {"rounding_distance_db"}, "a device has a source of its own"
    assert "rounding_distance_db" not in device
    complete = of_leg(thresholds_for(precision), PACKAGE_UPSTREAM)
    assert {m: t.bound for m, t in found.items() if m in complete} == {
        m: t.bound for m, t in complete.items() if m in found
    }


def test_an_unknown_precision_or_leg_is_refused() -> None:
    with pytest.raises(ParityError, match="no thresholds for precision 'int8'; known: float32"):
        thresholds_for("int8")
    with pytest.raises(ParityError, match="the leg 'nobody' has no threshold"):
        of_leg(thresholds_for("float32"), "nobody")


@pytest.fixture(scope="module")
def says(packaged: Checkpoint, packaged_reference: Reference) -> Callable[..., ReferenceSpeech]:
    """Upstream says the blended sentence of `smoke`, with a voice row or a pitch that is wrong."""
    (case,) = [case for case in load_suite("smoke").cases if case.id == "en-blend"]
    ids = Vocabulary.from_config(packaged.config).encode(case.phonemes)
    predictor = packaged_reference.model.predictor

    def say(*, row: int = 0, voice: str = case.voice, pitch: float = 1.0) -> ReferenceSpeech:
        pack = suite_voice(dataclasses.replace(case, voice=voice), packaged.config)
        own = predictor.F0Ntrain

        def higher(*given: object) -> tuple[object, object]:
            f0, energy = own(*given)
            return pitch * f0, energy

        predictor.F0Ntrain = higher
        try:
            style = pack.row(len(case.phonemes) + row)
            return packaged_reference.speak(ids, style, noise=0, speed=case.speed)
        finally:
            del predictor.F0Ntrain

    return say


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("next row of the voice", {"row": 1}),
        ("another share of the blend", {"voice": "af_heart*0.62+am_michael*0.38"}),
        ("pitch 1 % too high", {"pitch": 1.01}),
    ],
)
def test_faults_inside_the_network_break_a_bound(
    says: Callable[..., ReferenceSpeech], name: str, fault: dict[str, object], precision: str
) -> None:
    right, wrong = says(), says(**fault)
    found = broken(right.audio, wrong.audio, precision)
    assert {"audio_snr_db", "log_spectral_distance_db"} <= found
    if "pitch" in fault:
        assert "f0_error_hz" in found


def test_the_rewrite_at_exact_length_is_bounded_as_a_whole_and_by_module() -> None:
    found = of_leg(thresholds_for("float32"), REWRITE_UPSTREAM)
    assert {"module_snr_db", "exact_snr_db", "duration_errors"} <= set(found)
