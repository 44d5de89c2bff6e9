"""Two lengths between which no kernel adds in another order, and that differ in their padding."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kokoro_coreml.parity.modules import STEADY, steady_buckets
from kokoro_coreml.recipe import Bucket


@pytest.mark.parametrize(
    ("frames", "bucket", "expected"),
    [
        (345, 400, (384, 448)),
        (400, 400, (448, 512)),
        (384, 384, (384, 448)),
        (1, 64, (64, 128)),
        (65, 1024, (128, 1024)),
    ],
)
def test_both_are_steady_and_the_longer_one_holds_the_bucket(
    frames: int, bucket: int, expected: tuple[int, int]
) -> None:
    ids: Any = range(30)
    trial: Any = SimpleNamespace(
        utterance=SimpleNamespace(ids=ids), frames=frames, bucket=Bucket(128, bucket)
    )
    short, long = steady_buckets(trial)
    assert (short, long) == (Bucket(30, expected[0]), Bucket(128, expected[1]))
    assert short.frames % STEADY == long.frames % STEADY == 0
    assert long.frames >= bucket
    assert short.frames < long.frames
