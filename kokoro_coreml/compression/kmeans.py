"""k-means of numbers, deterministic and fast: every step works on sorted values and prefix sums.

In one dimension a cluster is an interval of the sorted values, so its mean and its squared error
follow from differences of cumulative sums. An iteration of Lloyd's algorithm (Lloyd 1982) then
costs k binary searches, whatever the number of values.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.intp]

CELLS = 65_536
"""Of equal count, from which the density of the values is estimated."""

ITERATIONS = 100
"""Most of Lloyd's; from the start used here they are enough."""

TOLERANCE = 1e-3
"""Lloyd's iteration ends once no centre moves further, in mean distances between centres."""

ROUNDS = 12
"""Most of moving centres from where they are dense to where they are missed."""

FIRST_SHARE = 8
"""The first round moves one in this many centres; one that does not help halves the number."""


class _Clusters(NamedTuple):
    """How many values each cluster holds, their mean, and their squared error about it."""

    counts: Counts
    means: Floats
    errors: Floats


class _Line:
    """Sorted values and their prefix sums."""

    def __init__(self, values: Floats) -> None:
        self.values = values
        self.sums = np.concatenate([[0.0], np.cumsum(values)])
        self.squares = np.concatenate([[0.0], np.cumsum(values**2)])

    def clusters(self, centres: Floats) -> _Clusters:
        """Each value goes to its nearest centre; an empty cluster keeps its centre as its mean."""
        between = np.searchsorted(self.values, (centres[1:] + centres[:-1]) / 2)
        edges = np.concatenate([[0], between, [len(self.values)]])
        counts, totals = np.diff(edges), np.diff(self.sums[edges])
        means = np.where(counts > 0, totals / np.maximum(counts, 1), centres)
        errors = np.maximum(np.diff(self.squares[edges]) - totals * means, 0.0)
        return _Clusters(counts, means, errors)


def kmeans(values: Floats, k: int) -> Floats:
    """The centres of k clusters of least squared error, to a local optimum.

    Args:
        values: finite, sorted, at least one.
        k: at least 1.

    Returns:
        At most `k` centres, ascending; the distinct values themselves if there are no more than k.
    """
    first = np.flatnonzero(np.diff(values, prepend=-np.inf))
    if len(first) <= k:
        distinct: Floats = values[first]
        return distinct
    offset = values[len(values) // 2]  # near the bulk, so that the sums of squares do not cancel
    line = _Line(values - offset)
    best, moves = _lloyd(line, _start(line.values, k)), -(-k // FIRST_SHARE)
    for turn in range(ROUNDS):
        found = _lloyd(line, _moved(best, moves, turn % 2))
        if found.errors.sum() < best.errors.sum():
            best = found
        elif turn % 2:
            moves //= 2
        if not moves:
            break
    means: Floats = best.means + offset
    return means


def _start(values: Floats, k: int) -> Floats:
    """Centres as dense as the cube root of the values' density.

    That is the best for many centres (Panter and Dite 1951). No cell is given more than one centre,
    for a gap in the values needs none.
    """
    cells = min(len(values) - 1, CELLS)
    edges = values[np.arange(cells + 1) * (len(values) - 1) // cells]
    mass = np.diff(edges) ** (2 / 3)
    for _ in range(8):
        mass = np.minimum(mass, np.cumsum(mass)[-1] / k)
    quantile = np.concatenate([[0.0], np.cumsum(mass)])
    wanted = (np.arange(k) + 0.5) / k * quantile[-1]
    centres: Floats = np.interp(wanted, quantile, edges)
    return centres


def _lloyd(line: _Line, centres: Floats) -> _Clusters:
    for _ in range(ITERATIONS):
        clusters = line.clusters(centres)
        moved = clusters.means if clusters.counts.all() else _reseated(clusters)
        spacing = (moved[-1] - moved[0]) / len(moved)
        if np.abs(moved - centres).max() <= TOLERANCE * spacing:
            break
        centres = moved
    return clusters


def _reseated(clusters: _Clusters) -> Floats:
    """Cut the clusters of largest error in two, one for each empty cluster."""
    counts, means, errors = clusters
    empty = np.flatnonzero(counts == 0)
    worst = np.argsort(-errors, kind="stable")[: len(empty)]
    worst = worst[errors[worst] > 0]
    spread = np.sqrt(errors[worst] / counts[worst])
    result = means.copy()
    result[empty[: len(worst)]] = means[worst] + spread
    result[worst] = means[worst] - spread
    return np.sort(result)


def _moved(clusters: _Clusters, moves: int, parity: int) -> Floats:
    """Merge the pairs of neighbours where that costs least, and cut as many clusters elsewhere.

    Only every second pair is looked at, the even or the odd ones, so that none is merged twice.
    """
    counts, means, errors = clusters.counts.copy(), clusters.means.copy(), clusters.errors.copy()
    left = np.arange(parity, len(means) - 1, 2)
    n, m = counts[left], counts[left + 1]
    cost = n * m / np.maximum(n + m, 1) * (means[left + 1] - means[left]) ** 2
    merged = left[np.argsort(cost, kind="stable")[:moves]]
    means[merged] = (means[merged] + means[merged + 1]) / 2
    counts[merged + 1] = 0
    errors[merged] = errors[merged + 1] = 0.0
    return _reseated(_Clusters(counts, means, errors))
