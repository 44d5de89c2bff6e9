"""The clusters are as good as the exact optimum, within a bound, and lossless where they can be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kokoro_coreml.compression.kmeans import kmeans

PART_ABOVE_OPTIMUM = 0.1
"""Most squared error above the optimum, as a part of it: 0.4 dB, with 14 values in a cluster."""

properties = settings(max_examples=100, deadline=None, derandomize=True)
numbers = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=60)

DRAWS = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "heavy tails": lambda rng, n: rng.standard_t(3, n),
    "uniform": lambda rng, n: rng.random(n),
    "mostly zeros": lambda rng, n: rng.standard_normal(n) * (rng.random(n) < 0.3),
    "outliers": lambda rng, n: np.append(rng.standard_normal(n - 20), np.full(20, -100.0)),
    "far from zero": lambda rng, n: 1e4 + rng.standard_normal(n),
}


def squared_error(values: np.ndarray, centres: np.ndarray) -> float:
    return float((np.abs(values[:, None] - centres).min(axis=1) ** 2).sum())


def least_squared_error(values: np.ndarray, k: int) -> float:
    """Exact, by dynamic programming over the sorted values (Bellman 1973)."""
    values = values - values.mean()
    ends = np.arange(len(values) + 1)
    sums, squares = (np.append(0, np.cumsum(values**power)) for power in (1, 2))
    count = np.maximum(ends[None, :] - ends[:, None], 1)
    total = sums[None, :] - sums[:, None]
    cost = squares[None, :] - squares[:, None] - total**2 / count
    cost[ends[None, :] <= ends[:, None]] = np.inf
    best = cost[0]
    for _ in range(k - 1):
        best = np.minimum(best, (best[:, None] + cost).min(axis=0))
    return float(best[-1])


@pytest.mark.parametrize("draw", DRAWS, ids=str)
@pytest.mark.parametrize("k", [2, 5, 16, 64])
def test_error_is_close_to_the_exact_optimum(draw: str, k: int) -> None:
    values = np.sort(DRAWS[draw](np.random.default_rng(k), 900))
    centres = kmeans(values, k)
    assert len(centres) == k
    least = least_squared_error(values, k)
    assert least <= squared_error(values, centres) * (1 + 1e-9)
    assert squared_error(values, centres) <= least * (1 + PART_ABOVE_OPTIMUM)


@properties
@given(drawn=numbers, k=st.integers(1, 70))
def test_centres_are_ascending_inside_the_range_and_exact_if_they_suffice(
    drawn: list[float], k: int
) -> None:
    values = np.sort(np.array(drawn))
    centres = kmeans(values, k)
    assert 1 <= len(centres) <= k
    assert np.all(np.diff(centres) >= 0)
    assert values[0] - 1e-9 <= centres[0]
    assert centres[-1] <= values[-1] + 1e-9
    distinct = np.unique(values)
    if len(distinct) <= k:
        np.testing.assert_array_equal(centres, distinct)


@properties
@given(drawn=numbers)
def test_one_centre_is_the_mean(drawn: list[float]) -> None:
    values = np.sort(np.array(drawn))
    np.testing.assert_allclose(kmeans(values, 1), [values.mean()], atol=1e-9, rtol=1e-12)
