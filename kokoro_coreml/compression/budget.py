"""Bits per weight, chosen by measured error so that all packages together fit a budget.

Every weight is measured once at `FIRST`, and its other candidates are taken to err in proportion to
the energy of their own quantisation error. The best choice by that estimate is then measured weight
by weight, which corrects the estimate, and so on until nothing is chosen that was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kokoro_coreml.compression.exact import EXACT
from kokoro_coreml.compression.measured import Errors
from kokoro_coreml.compression.plan import allocate
from kokoro_coreml.compression.probe import Departure
from kokoro_coreml.compression.scheme import Scheme
from kokoro_coreml.errors import RecipeError
from kokoro_coreml.recipe import Compression

FIRST = Scheme("palette", 4)
"""What every weight is measured with first: budgets of interest lie around it."""

ROUNDS = 8
"""Most of choosing and measuring; three or four are enough."""


@dataclass(frozen=True)
class Plan:
    """What was chosen, and what it costs."""

    schemes: Mapping[str, Scheme | None]
    """By path of the parameter; None leaves it uncompressed. What loses nothing or is no parameter
    is stored as `exact` has it."""
    lossy: frozenset[str]
    """Paths of those that lose something."""
    bytes: int
    """Of all packages, as predicted."""
    energy: float
    """Sum over the weights of what each was measured alone."""
    departure: Departure
    """Measured with all weights compressed at once."""

    def compression(self, budget: int) -> Compression:
        """For a recipe; it names only what loses something, so that no other is taken for lossy."""
        weights = {path: str(self.schemes[path]) for path in sorted(self.lossy)}
        return Compression(EXACT, self._reason(budget), weights=weights)

    def _reason(self, budget: int) -> str:
        together = self.departure
        return (
            f"least measured error within {budget} bytes of packages, {self.bytes} predicted; "
            f"against no compression, all at once: {together.spectrum_db:.3f} dB of the spectrum "
            f"(weights one by one: energy {self.energy:.4g}, at once {together.energy:.4g}), "
            f"{100 * together.pitch:.3f} % of F0, {together.frames:.4f} frames per token"
        )


def within_budget(errors: Errors, budget: int, other: int) -> Plan:
    """Choose a scheme for every weight.

    Equal weights, utterance and budget give an equal choice.

    Args:
        errors: measures; what it measured serves further budgets as well.
        budget: bytes of all packages together.
        other: bytes of all packages without their large weights.

    Raises:
        RecipeError: even the smallest schemes exceed the budget.
    """
    least = other + sum(
        min(errors.size(path, scheme) for scheme in errors.options(path)) for path in errors.paths
    )
    if least > budget:
        raise RecipeError(
            f"the packages take at least {least} bytes ({least / 1e6:.1f} MB), of which {other} "
            f"are not weights; the budget is {budget}: raise it, or build fewer buckets"
        )
    first = {path: _like_first(lossy) for path in errors.paths if (lossy := errors.lossy(path))}
    errors.measure(first, f"measure every weight as {FIRST}")
    for turn in range(1, ROUNDS + 1):
        chosen = allocate(errors.candidates(), budget - other)
        if not errors.measure(chosen, f"measure what was chosen, round {turn}"):
            break
    found = errors.candidates()
    picked = [next(c for c in found[path] if c.scheme == s) for path, s in chosen.items()]
    size = other + sum(one.bytes for one in picked)
    named = {path: scheme for path, scheme in chosen.items() if errors.is_parameter(path)}
    losing = frozenset(path for path, scheme in named.items() if scheme in errors.lossy(path))
    return Plan(named, losing, size, sum(one.error for one in picked), errors.together(named))


def _like_first(schemes: Sequence[Scheme]) -> Scheme:
    return min(schemes, key=lambda s: (abs(s.bits - FIRST.bits), s.group or 0, str(s)))
