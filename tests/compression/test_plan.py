"""The allocation is the best there is, keeps its budget, and says what the least budget is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kokoro_coreml.compression import plan
from kokoro_coreml.compression.plan import Candidate, allocate
from kokoro_coreml.compression.scheme import Scheme
from kokoro_coreml.errors import RecipeError

Table = Mapping[str, Sequence[Candidate]]

SCHEMES = [None, *(Scheme.parse(t) for t in ("int8", "palette6", "palette4/16", "palette2"))]
properties = settings(max_examples=200, deadline=None, derandomize=True)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Up to 5 weights of up to 5 candidates; small numbers, so that ties are frequent."""
    table = {}
    for name in "abcde"[: draw(st.integers(1, 5))]:
        schemes = draw(st.lists(st.sampled_from(SCHEMES), min_size=1, max_size=5, unique=True))
        table[name] = [
            Candidate(s, draw(st.integers(0, 12)), draw(st.integers(-3, 12) | st.floats(0, 1)))
            for s in schemes
        ]
    return table


def totals(table: Table, chosen: Mapping[str, Scheme | None]) -> tuple[int, float]:
    picked = [next(c for c in table[name] if c.scheme == chosen[name]) for name in table]
    return sum(c.bytes for c in picked), sum(c.error for c in picked)


def least(table: Table) -> int:
    return sum(min(c.bytes for c in options) for options in table.values())


@properties
@given(table=tables(), budget=st.integers(0, 60))
def test_no_allocation_that_fits_is_better(table: Table, budget: int) -> None:
    assume(budget >= least(table))
    size, error = totals(table, allocate(table, budget))
    assert size <= budget
    every = [
        sum(c.error for c in picked)
        for picked in itertools.product(*table.values())
        if sum(c.bytes for c in picked) <= budget
    ]
    assert error == pytest.approx(min(every), abs=1e-9)


@properties
@given(table=tables(), budget=st.integers(0, 60), more=st.integers(0, 20))
def test_a_larger_budget_is_never_worse(table: Table, budget: int, more: int) -> None:
    assume(budget >= least(table))
    error = totals(table, allocate(table, budget))[1]
    assert totals(table, allocate(table, budget + more))[1] <= error + 1e-9


@properties
@given(table=tables(), budget=st.integers(0, 60))
def test_no_uniform_allocation_that_fits_is_better(table: Table, budget: int) -> None:
    assume(budget >= least(table))
    error = totals(table, allocate(table, budget))[1]
    for scheme in SCHEMES:
        if all(any(c.scheme == scheme for c in options) for options in table.values()):
            size, uniform = totals(table, dict.fromkeys(table, scheme))
            assert size > budget or error <= uniform + 1e-9


@properties
@given(table=tables(), budget=st.integers(0, 60), seed=st.randoms(use_true_random=False))
def test_the_order_of_weights_and_candidates_does_not_matter(
    table: Table, budget: int, seed: object
) -> None:
    assume(budget >= least(table))
    names = list(table)
    seed.shuffle(names)
    shuffled = {name: seed.sample(table[name], len(table[name])) for name in names}
    assert allocate(table, budget) == allocate(shuffled, budget)


def test_many_weights_at_one_rate_still_get_an_allocation_that_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "MOST_PARTIAL", 50)
    table = {
        f"{i:02}": [Candidate(s, b, -float(b)) for s, b in zip(SCHEMES, sizes, strict=True)]
        for i, sizes in enumerate((j + 101, 3 * j, 5 * j, 7 * j, 9 * j) for j in range(1, 41))
    }
    budget = (least(table) + 12_000) // 2
    size, error = totals(table, allocate(table, budget))
    assert 0.95 * budget <= size <= budget
    assert error == -size


def test_the_search_repairs_what_greed_gets_wrong() -> None:
    """The best rate first would leave no room for the larger saving."""
    table = {
        "a": [Candidate(SCHEMES[4], 0, 10.0), Candidate(None, 6, 3.0)],
        "b": [Candidate(SCHEMES[4], 0, 10.0), Candidate(None, 10, 0.0)],
    }
    assert allocate(table, 10) == {"a": SCHEMES[4], "b": None}


def test_a_budget_too_small_names_the_least() -> None:
    table = {"a": [Candidate(None, 70, 0.0), Candidate(SCHEMES[1], 40, 1.0)]} | {
        "b": [Candidate(None, 5, 0.0)]
    }
    with pytest.raises(RecipeError, match="at least 45 bytes, the budget is 44"):
        allocate(table, 44)
    assert allocate(table, 45) == {"a": SCHEMES[1], "b": None}


@pytest.mark.parametrize("options", [[], [Candidate(None, 5, math.nan)]])
def test_a_weight_without_a_usable_candidate_is_named(options: list[Candidate]) -> None:
    with pytest.raises(RecipeError, match="'lonely'"):
        allocate({"lonely": options}, 100)


def test_nothing_to_allocate() -> None:
    assert allocate({}, 0) == {}
