"""Which scheme each weight gets, so that all together fit a budget with the least error.

This is the multiple-choice knapsack problem. Relaxed with a price on bytes (Everett 1963) it falls
apart into the weights; the relaxation bounds the error from below, which leaves few choices open,
and those are searched exactly (Sinha and Zoltners 1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kokoro_coreml.compression.scheme import Scheme
from kokoro_coreml.errors import RecipeError

MOST_PARTIAL = 100_000
"""Partial allocations kept at a time. More are met only where many weights trade bytes for error at
the same rate; the result is then the best of those searched."""

_ROUNDING = 1e-9
"""Relative error of the bound, generously."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Candidate:
    """One way to store one weight.

    Attributes:
        scheme: None leaves the weight as it is.
        bytes: what it takes in the package.
        error: what it does to the output; errors of different weights add up, so it is an energy,
            not a level in dB.
    """

    scheme: Scheme | None
    bytes: int
    error: float


@dataclass(frozen=True)
class _Choices:
    """The candidates of one weight that no other beats in both respects, by rising bytes."""

    candidates: tuple[Candidate, ...]
    bytes: Ints
    errors: Floats


def allocate(
    candidates: Mapping[str, Sequence[Candidate]], budget_bytes: int
) -> dict[str, Scheme | None]:
    """Choose one candidate per weight: least sum of errors, sum of bytes within the budget.

    Equal input gives equal output; the order of weights and candidates does not matter.

    Args:
        candidates: at least one per weight.
        budget_bytes: for all weights together.

    Raises:
        RecipeError: a weight has no candidate or an error that is not finite, or even the smallest
            candidates exceed the budget.
    """
    choices = {name: _undominated(name, candidates[name]) for name in sorted(candidates)}
    smallest = sum(int(c.bytes[0]) for c in choices.values())
    if smallest > budget_bytes:
        raise RecipeError(
            f"the weights take at least {smallest} bytes, the budget is {budget_bytes}; raise the "
            "budget or allow smaller schemes"
        )
    picked = _solve(list(choices.values()), budget_bytes)
    return {
        name: choice.candidates[i].scheme
        for (name, choice), i in zip(choices.items(), picked, strict=True)
    }


def _undominated(name: str, candidates: Sequence[Candidate]) -> _Choices:
    if not candidates or not all(np.isfinite(c.error) for c in candidates):
        raise RecipeError(
            f"weight '{name}' needs candidates with finite errors, found {list(candidates)!r:.200}"
        )
    kept: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.bytes, c.error, str(c.scheme))):
        if not kept or candidate.error < kept[-1].error:
            kept.append(candidate)
    return _Choices(
        tuple(kept),
        np.array([c.bytes for c in kept], dtype=np.int64),
        np.array([c.error for c in kept], dtype=np.float64),
    )


def _solve(choices: Sequence[_Choices], budget: int) -> list[int]:
    """The index of the candidate of each weight."""
    price, greedy = _greedy(choices, budget)
    relaxed = [c.errors + price * c.bytes for c in choices]
    least = sum(float(r.min()) for r in relaxed) - price * budget
    reachable = _error(choices, greedy)
    slack = _ROUNDING * (abs(reachable) + price * budget)
    found = _search(choices, [r - r.min() for r in relaxed], budget, reachable - least + slack)
    return greedy if found is None or reachable < _error(choices, found) else found


def _error(choices: Sequence[_Choices], picked: Sequence[int]) -> float:
    return sum(float(c.errors[i]) for c, i in zip(choices, picked, strict=True))


def _greedy(choices: Sequence[_Choices], budget: int) -> tuple[float, list[int]]:
    """Upgrades in the order of error saved per byte, as long as they fit.

    Returns:
        The price of a byte at which the first upgrade did not fit (0 if all did), and the choices.
    """
    picked = [0] * len(choices)
    left = budget - sum(int(c.bytes[0]) for c in choices)
    upgrades = [(rate, w, i) for w, c in enumerate(choices) for rate, i in _hull(c)]
    price, closed = 0.0, set[int]()
    for rate, weight, index in sorted(upgrades, key=lambda u: (-u[0], u[1], u[2])):
        more = int(choices[weight].bytes[index] - choices[weight].bytes[picked[weight]])
        if weight in closed or more > left:
            price, closed = price or rate, closed | {weight}
            continue
        picked[weight], left = index, left - more
    return price, picked


def _hull(choice: _Choices) -> list[tuple[float, int]]:
    """Upgrades along the lower convex hull: error saved per byte, falling; the index reached."""
    steps: list[tuple[float, int]] = []
    here, last = 0, len(choice.bytes) - 1
    while here < last:
        further = slice(here + 1, None)
        rates = (choice.errors[here] - choice.errors[further]) / (
            choice.bytes[further] - choice.bytes[here]
        )
        ahead = int(np.flatnonzero(rates == rates.max())[-1])
        here += 1 + ahead
        steps.append((float(rates[ahead]), here))
    return steps


def _search(
    choices: Sequence[_Choices], excess: Sequence[Floats], budget: int, gap: float
) -> list[int] | None:
    """The best choices whose error at the price of a byte exceeds the least possible by `gap`.

    Weight by weight, partial allocations are kept that no other beats in bytes and error.
    """
    rest = np.cumsum([c.bytes[0] for c in choices][::-1])[::-1]
    size, error, over = np.zeros(1, dtype=np.int64), np.zeros(1), np.zeros(1)
    trail: list[tuple[Ints, Ints]] = []
    for weight, choice in enumerate(choices):
        sizes = (size[:, None] + choice.bytes).ravel()
        errors = (error[:, None] + choice.errors).ravel()
        overs = (over[:, None] + excess[weight]).ravel()
        later = rest[weight + 1] if weight + 1 < len(choices) else 0
        open_ = np.flatnonzero((overs <= gap) & (sizes + later <= budget))
        order = open_[np.lexsort((errors[open_], sizes[open_]))]
        ahead = np.minimum.accumulate(np.append(np.inf, errors[order]))[:-1]
        kept = order[errors[order] < ahead]
        if len(kept) > MOST_PARTIAL:
            kept = kept[np.sort(np.argsort(overs[kept], kind="stable")[:MOST_PARTIAL])]
        trail.append(np.divmod(kept, len(choice.bytes)))
        size, error, over = sizes[kept], errors[kept], overs[kept]
    if not len(error):
        return None
    state, picked = int(np.argmin(error)), []
    for parents, indices in reversed(trail):
        picked.append(int(indices[state]))
        state = int(parents[state])
    return picked[::-1]
