"""How far audio is from other audio: spectra, pitch, and all metrics of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from kokoro_coreml.config import SAMPLE_RATE
from kokoro_coreml.goldens.cases import Case, case, golden
from kokoro_coreml.goldens.inputs import seeded
from kokoro_coreml.goldens.sounds import Sound
from kokoro_coreml.parity.metrics import (
    audio_metrics,
    better,
    log_mel_cosine,
    log_spectral_distance_db,
)
from kokoro_coreml.parity.pitch import pitch_contour
from kokoro_coreml.parity.results import finite

TRANSFORM_TOLERANCE = 1e-6
"""dB, Hz, percent or ratio: a Fourier transform in float64 may add in another order, and the
logarithm of a bin that is nearly 0 shows it."""


def _silence(count: int) -> Sound:
    return Sound(count, gain=0.0)


@golden("spectral_distance", tolerance=TRANSFORM_TOLERANCE)
def spectral_distance() -> Iterator[Case]:
    """Two audios of equal length to the distances of their spectra."""
    rng = seeded("spectral_distance")
    for count in (1, 255, 256, 257, 1023, 1024, 5000):
        sound = Sound(count, gain=0.0, noise=1.0, seed=count)
        yield _spectral(f"count-{count}", sound, replace(sound, gain=0.01, hertz=90.0))
    for number in range(10):
        sound = Sound(4000, rng.uniform(80.0, 400.0), gain=0.3)
        loss = 10.0 ** rng.uniform(-5.0, -1.0)
        yield _spectral(f"tone-{number}", sound, replace(sound, noise=loss, seed=number))
    tone = Sound(3000, 130.0)
    yield _spectral("equal", tone, tone)
    yield _spectral("louder", tone, replace(tone, gain=2.0))
    yield _spectral("silence", _silence(900), _silence(900))
    yield _spectral("silent-candidate", tone, _silence(3000))
    yield _spectral("silent-reference", _silence(3000), replace(tone, gain=1e-3))
    yield _spectral("below-the-floor", tone, replace(tone, noise=1e-7))
    yield _spectral("nan", tone, replace(tone, changes={"70": "nan"}))
    slow = replace(tone, rate=16_000)
    yield _spectral("another-rate", slow, replace(slow, noise=0.1))


def _spectral(name: str, reference: Sound, candidate: Sound) -> Case:
    pair = {"reference": reference.samples(), "candidate": candidate.samples()}

    def compute() -> Mapping[str, Any]:
        distance = log_spectral_distance_db(**pair)
        cosine = log_mel_cosine(**pair, sample_rate=reference.rate)
        return {
            "log_spectral_distance_db": finite(distance, "lower"),
            "log_mel_cosine": finite(cosine, "higher"),
        }

    return case(name, _given(reference, candidate), compute)


@golden("pitch", tolerance=TRANSFORM_TOLERANCE)
def pitch() -> Iterator[Case]:
    """Audio to its pitch in Hz every 10 ms, null where unvoiced."""
    rng = seeded("pitch")
    for hertz in (61.0, 80.0, 123.4, 200.0, 287.5, 399.0, 499.0, 700.0):
        yield _pitch(f"tone-{hertz:g}", Sound(2500, hertz, gain=0.2))
    for number in range(12):
        glide = rng.uniform(-0.02, 0.02)
        sound = Sound(6000, rng.uniform(120.0, 300.0), glide, noise=0.1, seed=number)
        yield _pitch(f"glide-{number}", sound)
    for number in range(12):  # about as much noise as makes a voice none
        noise = 0.4 + 0.1 * number
        yield _pitch(f"hoarse-{number}", Sound(9000, 170.0, noise=noise, seed=number))
    yield _pitch("noise", Sound(4000, gain=0.0, noise=1.0))
    yield _pitch("silence", _silence(1300))
    yield _pitch("short", Sound(400, 150.0))
    yield _pitch("one-sample", Sound(1, noise=1.0))
    for level in (-30.0, -45.0, -55.0, -70.0):
        loud = {str(index): "1.0" for index in range(0, 1200, 100)}
        quiet = Sound(4000, 150.0, gain=10.0 ** (level / 20.0), changes=loud)
        yield _pitch(f"quiet-end{level:g}", quiet)
    yield _pitch("another-rate", Sound(3000, 110.0, rate=16_000))


def _pitch(name: str, sound: Sound) -> Case:
    def compute() -> Mapping[str, Any]:
        found = pitch_contour(sound.samples(), sound.rate)
        return {"hz": [None if np.isnan(value) else float(value) for value in found.hz]}

    return case(name, {"sound": sound.to_dict()}, compute)


@golden("audio_metrics", tolerance=TRANSFORM_TOLERANCE)
def every_metric() -> Iterator[Case]:
    """Two audios to every metric of a report, NaN and infinity as a report writes them."""
    rng = seeded("audio_metrics")
    for number in range(10):
        sound = Sound(5000, rng.uniform(90.0, 300.0), rng.uniform(0.0, 0.01), gain=0.4)
        loss = 10.0 ** rng.uniform(-5.0, -0.5)
        yield _measured(f"near-{number}", sound, replace(sound, noise=loss, seed=number))
    tone = Sound(5000, 140.0)
    yield _measured("equal", tone, tone)
    for hertz in (143.0, 165.0, 170.0, 182.0, 280.0):
        yield _measured(f"another-pitch-{hertz:g}", tone, replace(tone, hertz=hertz))
    yield _measured("voiceless", tone, Sound(5000, gain=0.0, noise=1.0))
    yield _measured("hoarse", tone, replace(tone, noise=0.9))
    yield _measured("longer", tone, replace(tone, count=5300))
    yield _measured("shorter", tone, replace(tone, count=4000, gain=0.5))
    clicks = replace(tone, changes={"3": "0.9", "4998": "-0.9"})
    yield _measured("clicks-at-the-ends", tone, clicks)
    silence = _silence(5000)
    yield _measured("silent-candidate", tone, silence)
    yield _measured("silent-reference", silence, tone)
    yield _measured("both-silent", silence, silence)
    yield _measured("nothing-in-common", tone, replace(tone, count=0))
    for wrong in ("nan", "inf"):
        broken = replace(tone, count=1100, changes={"1050": wrong})
        yield _measured(f"{wrong}-in-the-candidate", tone, broken)
        yield _measured(f"{wrong}-in-the-reference", broken, tone)
    yield _measured("nan-behind-the-common-part", replace(tone, count=1000), broken)


def _measured(name: str, reference: Sound, candidate: Sound) -> Case:
    pair = {"reference": reference.samples(), "candidate": candidate.samples()}

    def compute() -> Mapping[str, Any]:
        found = audio_metrics(**pair, sample_rate=SAMPLE_RATE)
        return {metric: finite(value, better(metric)) for metric, value in found.items()}

    return case(name, _given(reference, candidate), compute)


def _given(reference: Sound, candidate: Sound) -> Mapping[str, Any]:
    return {"reference": reference.to_dict(), "candidate": candidate.to_dict()}
