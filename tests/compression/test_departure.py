"""Each of the three differences counts, and none of them twice."""

from __future__ import annotations

import math

import pytest

from kokoro_coreml.compression.probe import FRAMES, HOPELESS, PITCH, SPECTRUM_DB, Departure


@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_just_heard_is_one(place: int) -> None:
    just_heard = (SPECTRUM_DB, PITCH, FRAMES)
    values = [0.0, 0.0, 0.0]
    values[place] = just_heard[place]
    assert Departure(*values).energy == pytest.approx(1.0)
    values[place] *= 3.0
    assert Departure(*values).energy == pytest.approx(9.0)
    assert Departure(*just_heard).energy == pytest.approx(3.0)


def test_what_is_no_number_is_never_chosen() -> None:
    assert Departure(math.nan, 0.0, 0.0).energy == HOPELESS
    assert Departure(0.0, math.inf, 0.0).energy == HOPELESS
