"""Noise, joined audio, and what is heard when."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kokoro_coreml.config import SAMPLE_RATE
from kokoro_coreml.goldens.arrays import floats
from kokoro_coreml.goldens.cases import Case, case, drawn, golden
from kokoro_coreml.goldens.inputs import (
    changed,
    character,
    config,
    samples,
    seeded,
    sentence,
    suite_phonemes,
)
from kokoro_coreml.noise import gaussian
from kokoro_coreml.recipe import Bucket
from kokoro_coreml.synthesis.speech import Part, Spoken, joined

NOISE_TOLERANCE = 5e-7
"""One place in the last bit of float32 at 4 to 8, which no deviate exceeds by much: libraries may
round logarithm, sine and cosine in float64 otherwise, and the deviate with it."""

SEEDS = (0, 1, 2, 42, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1)
"""Some do not fit a float64 or a signed 64-bit integer."""

LONGEST_NOISE = 2_048 * 600
"""Samples of the largest bucket."""


@golden("noise", tolerance=NOISE_TOLERANCE)
def noise() -> Iterator[Case]:
    """Gaussian noise of a seed, from a place on."""
    rng = seeded("noise")
    for seed in SEEDS:
        yield _drawn(f"seed-{seed}", seed, 16, 0)
    for count in (0, 1, 2, 3, 4, 5, 7, 8, 9, 600):
        yield _drawn(f"count-{count}", 7, count, 0)
    for skip in (1, 2, 3, 4, 5, 599, 600, 65_535, 65_536, LONGEST_NOISE - 16):
        yield _drawn(f"skip-{skip}", 0, 16, skip)
    for number in range(15):
        seed, count = rng.randrange(2**64), rng.randint(1, 64)
        yield _drawn(f"random-{number:02}", seed, count, rng.randrange(5_000))


@drawn("noise")
def any_noise(rng: random.Random, name: str) -> Case:
    """Any seed; now and then as far on as the largest bucket reaches."""
    seed = rng.choice((*SEEDS, rng.randrange(2**64), rng.randrange(2**64)))
    furthest = LONGEST_NOISE if rng.random() < 0.02 else 5_000
    return _drawn(name, seed, rng.randint(0, 100), rng.randrange(furthest))


def _drawn(name: str, seed: int, count: int, skip: int) -> Case:
    given = {"seed": seed, "count": count, "skip": skip}
    return case(name, given, lambda: {"samples": floats(gaussian(seed, skip + count)[skip:])})


@golden("joining")
def joining() -> Iterator[Case]:
    """Parts of a speech, one behind the other."""
    rng = seeded("joining")
    for number in range(24):
        count = rng.randint(1, 5)
        parts = [_spoken(rng, rng.randint(0, 60)) for _ in range(count)]
        yield _joined(f"random-{number:02}", parts)
    yield _joined("one-sample", [np.array([0.25], dtype=np.float32)])
    yield _joined("with-an-empty-one", [samples(rng, 5), np.zeros(0, np.float32), samples(rng, 3)])
    extremes = np.array([-0.0, 1e-45, -3.4e38, 3.4e38, 1.0], dtype=np.float32)
    yield _joined("extremes", [extremes, extremes[::-1]])


@drawn("joining")
def any_parts(rng: random.Random, name: str) -> Case:
    """Parts of any samples, loud ends and empty parts among them."""

    def part() -> np.ndarray:
        count = rng.choice((0, 1, rng.randint(0, 60)))
        return _spoken(rng, count) if rng.random() < 0.5 else samples(rng, count)

    return _joined(name, [part() for _ in range(rng.randint(1, 6))])


def _spoken(rng: random.Random, count: int) -> np.ndarray:
    """As the network gives it: quiet at both ends."""
    places = np.arange(count, dtype=np.float32)
    window = np.minimum(places, places[::-1]) / np.float32(count + 1)
    return np.asarray(samples(rng, count) * window)


def _joined(name: str, audio: Sequence[np.ndarray]) -> Case:
    given = {"parts": [floats(samples) for samples in audio]}
    none, bucket = np.zeros(0, dtype=np.float32), Bucket(3, 1)

    def compute() -> Mapping[str, Any]:
        parts = [Part("", Spoken(a, np.array([0, 0], np.int32), none), bucket) for a in audio]
        speech = joined(
            parts, sample_rate=SAMPLE_RATE, samples_per_frame=600, voice="none", speed=1.0
        )
        return {"samples": floats(speech.audio)}

    return case(name, given, compute)


@golden("timestamps")
def timestamps() -> Iterator[Case]:
    """When each token of a speech of several parts is heard."""
    rng = seeded("timestamps")
    short = {name: text for name, text in suite_phonemes().items() if len(text) <= 40}
    for name, text in short.items():
        yield _timed(name, [_part(rng, text)])
    for number in range(24):
        parts = [_part(rng, sentence(rng, rng.randint(1, 3))) for _ in range(rng.randint(1, 4))]
        yield _timed(f"random-{number:02}", parts)
    tilde, emoji = "\N{COMBINING TILDE}", "\N{SPEAKING HEAD IN SILHOUETTE}"
    for name, text in (("combining", f"ɔ{tilde}a"), ("emoji", f"a{emoji}b"), ("empty", "")):
        yield _timed(name, [_part(rng, text)])
    yield _timed("of-no-length", [{"phonemes": "ab", "durations": [0, 0, 0, 0]}])
    yield _timed("far", [{"phonemes": "a", "durations": [30_000, 1, 7]}, _part(rng, "b")])
    odd = {"sample_rate": 22_050, "samples_per_frame": 256}
    yield _timed("another-rate", [_part(rng, "abc."), _part(rng, "d")], **odd)


@drawn("timestamps")
def any_speech(rng: random.Random, name: str) -> Case:
    """Parts of any text and durations, now and then at another rate."""

    def part() -> dict[str, Any]:
        text = sentence(rng, rng.randint(1, 3))
        found = _part(rng, changed(rng, text, (character(rng),), most=3))
        return found | {"durations": [n * rng.choice((1, 1, 40)) for n in found["durations"]]}

    parts = [part() for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.7:
        return _timed(name, parts)
    rate, per_frame = rng.randint(1, 96_000), rng.randint(1, 1_200)
    return _timed(name, parts, sample_rate=rate, samples_per_frame=per_frame)


def _part(rng: random.Random, text: str) -> dict[str, Any]:
    return {"phonemes": text, "durations": [rng.randint(0, 12) for _ in range(len(text) + 2)]}


def _timed(
    name: str,
    parts: Sequence[Mapping[str, Any]],
    *,
    sample_rate: int = SAMPLE_RATE,
    samples_per_frame: int | None = None,
) -> Case:
    per_frame = samples_per_frame or config().samples_per_frame

    def compute() -> Mapping[str, Any]:
        speech = joined(
            [_said(part, per_frame) for part in parts],
            sample_rate=sample_rate,
            samples_per_frame=per_frame,
            voice="none",
            speed=1.0,
        )
        marks = speech.timestamps
        return {
            "timestamps": [{"phoneme": m.phoneme, "start": m.start, "end": m.end} for m in marks]
        }

    given = {"parts": parts, "sample_rate": sample_rate, "samples_per_frame": per_frame}
    return case(name, given, compute)


def _said(part: Mapping[str, Any], samples_per_frame: int) -> Part:
    """Silence as long as the durations say; only its length counts."""
    durations = np.array(part["durations"], dtype=np.int32)
    length = int(durations.sum()) * samples_per_frame
    silence = np.broadcast_to(np.float32(0.0), (length,))
    return Part(part["phonemes"], Spoken(silence, durations, silence[:0]), Bucket(3, 1))
