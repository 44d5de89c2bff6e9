"""WAV files, and how loud audio is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kokoro_coreml.audio import write_wav
from kokoro_coreml.goldens.arrays import floats, raw
from kokoro_coreml.goldens.cases import Case, case, golden
from kokoro_coreml.goldens.inputs import samples, seeded
from kokoro_coreml.noise import gaussian
from kokoro_coreml.parity.metrics import level_difference_db, padding_peak, snr_db

LEVEL_TOLERANCE_DB = 1e-9
"""Sums in float64 may be added up in another order."""

HALF_STEPS = (0.5, -0.5)
"""The only samples whose PCM value lies exactly between two whole numbers."""

BEYOND = (1.0000001, 1.5, 2.0, 100.0, 3.4e38)
"""Above full scale."""


@golden("wav")
def wav() -> Iterator[Case]:
    """Audio to the bytes of a WAV file."""
    rng = seeded("wav")
    for count in (1, 2, 3, 24, 255, 256):
        yield _file(f"count-{count}", samples(rng, count))
    for number in range(16):
        yield _file(f"random-{number:02}", samples(rng, rng.randint(1, 120), peak=rng.random()))
    steps = np.array([n / 32_767 for n in range(-40, 40)], dtype=np.float32)
    yield _file("whole-steps", steps)
    yield _file("between-steps", steps + np.float32(0.5 / 32_767))
    yield _file("half-steps", np.array(HALF_STEPS, dtype=np.float32))
    yield _file("full-scale", np.array([1.0, -1.0, 0.9999999, -0.9999999], dtype=np.float32))
    loud = np.array([*BEYOND, *(-x for x in BEYOND)], dtype=np.float32)
    yield _file("clipped", loud)
    yield _file("zeros", np.array([0.0, -0.0, 1e-45, -1e-45, 1.5e-5, -1.6e-5], dtype=np.float32))
    yield _file("noise", gaussian(0, 200) * np.float32(0.3))
    yield _file("refused-empty", np.zeros(0, np.float32), refused=["audio must be [N] with N > 0"])
    for name, wrong, at in (
        ("nan", [0.1, np.nan, 0.2], 1),
        ("infinity", [np.inf], 0),
        ("minus-infinity", [0.0, 0.0, -np.inf], 2),
    ):
        said = ["1 samples that are NaN or infinite", f"the first at {at}"]
        yield _file(f"refused-{name}", np.array(wrong, dtype=np.float32), refused=said)
    several = np.array([0.0, np.inf, np.nan, 0.0, -np.inf], dtype=np.float32)
    yield _file("refused-several", several, refused=["3 samples", "the first at 1"])


def _file(name: str, audio: np.ndarray, *, refused: Sequence[str] = ()) -> Case:
    def compute() -> Mapping[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "audio.wav"
            write_wav(path, audio)
            return {"bytes": raw(path.read_bytes())}

    return case(name, {"samples": floats(audio)}, compute, refused=refused)


@golden("loudness", tolerance=LEVEL_TOLERANCE_DB)
def loudness() -> Iterator[Case]:
    """Peak and level of audio, and its distances from another."""
    rng = seeded("loudness")
    for number in range(28):
        count = rng.randint(1, 200)
        reference = samples(rng, count, peak=10.0 ** rng.uniform(-4.0, 0.0))
        error = samples(rng, count, peak=10.0 ** rng.uniform(-7.0, -1.0))
        gain = np.float32(10.0 ** rng.uniform(-0.3, 0.3))
        yield _loud(f"random-{number:02}", reference * gain + error, reference)
    one = np.ones(1, dtype=np.float32)
    yield _loud("full-scale", one, one / 2)
    yield _loud("sign", -one, one)
    yield _loud("square", np.array([1.0, -1.0] * 50, np.float32), np.full(100, 0.5, np.float32))
    yield _loud("quiet", np.full(7, 1e-30, np.float32), np.full(7, 2e-30, np.float32))
    yield _loud("beyond-full-scale", np.float32(3) * one, np.float32(-4) * one)


def _loud(name: str, audio: np.ndarray, reference: np.ndarray) -> Case:
    """Level is that above a constant 1.0, whose mean square is 1."""
    unit = np.ones(1, dtype=np.float32)
    pair = {"reference": reference, "candidate": audio}

    def compute() -> Mapping[str, Any]:
        return {
            "peak": padding_peak(audio),
            "rms_db": level_difference_db(reference=unit, candidate=audio),
            "snr_db": snr_db(**pair),
            "level_difference_db": level_difference_db(**pair),
        }

    given = {"samples": floats(audio), "reference": floats(reference)}
    return case(name, given, compute)
