"""Medians, factors, ratios, and a reason for everything that is null."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kokoro_coreml.bench.results import Spread
from kokoro_coreml.bench.sessions import Loaded, Said
from kokoro_coreml.bench.turns import Runner, Turn
from kokoro_coreml.bench.utterances import NOT_REACHED, utterances
from tests.bench.conftest import line

LINES = [line("x"), line("y", tokens=9)]
PLACES = [("P.mlpackage", "one"), ("P.mlpackage", "two")]
ONE, TWO = PLACES


def turn(name, said, /, **fields):
    rounds = {case: [Said(*one) for one in values] for case, values in said.items()}
    first = {case: Said(9.0, 2.0) for case in said}
    given = {"loaded": Loaded(0.5, 10, 20), "first": first, "rounds": rounds, "peak_bytes": 30}
    return Turn(Runner(name, f"{name}, described"), **(given | fields))


def report(*turns, lines=LINES):
    return utterances(turns, lines, PLACES, suite="tiny", precision="declared")


def test_medians_spreads_and_factors():
    a = turn("a", {"x": [(1.0, 2.0), (4.0, 2.0), (2.0, 2.0)], "y": [(4.0, 8.0)] * 3})
    (runner,) = report(a).runners
    x, y = runner.cases
    assert (x.seconds.values, x.seconds.median) == ((1.0, 4.0, 2.0), 2.0)
    assert (x.seconds.least, x.seconds.greatest) == (1.0, 4.0)
    assert (x.real_time_factor, y.real_time_factor) == (1.0, 2.0)
    assert runner.real_time_factor == round(10 / 6, 4)
    assert (x.tokens, y.tokens, x.audio_seconds, x.first_seconds) == (6, 9, 2.0, 9.0)
    assert (runner.load_seconds, runner.base_bytes, runner.loaded_bytes) == (0.5, 10, 20)
    assert (runner.peak_bytes, runner.verdict, runner.reason) == (30, "measured", None)


def test_a_ratio_is_taken_within_a_round_and_by_the_audio_of_each_side():
    # the machine is half as fast in round 2; b says twice as much
    a = turn("a", {"x": [(1.0, 2.0), (2.0, 2.0)], "y": [(1.0, 2.0), (2.0, 2.0)]})
    b = turn("b", {"x": [(4.0, 4.0), (8.0, 4.0)], "y": [(1.0, 2.0), (4.0, 2.0)]})
    found = {r.case: r for r in report(a, b).ratios}
    assert (found["x"].runner, found["x"].versus) == ("a", "b")
    assert found["x"].times_as_fast.values == (2.0, 2.0)
    assert found["y"].times_as_fast.values == (1.0, 2.0)
    assert found[None].times_as_fast.values == (round(4 / 2 / (6 / 5), 4), 2.0)


def test_ratios_use_the_rounds_that_both_sides_finished():
    a = turn("a", {"x": [(1.0, 2.0)] * 3, "y": [(1.0, 2.0)] * 3})
    b = turn("b", {"x": [(2.0, 2.0)] * 2, "y": [(2.0, 2.0)]}, failure="died")
    found = {r.case: r.times_as_fast.values for r in report(a, b).ratios}
    assert found == {None: (2.0,), "x": (2.0, 2.0), "y": (2.0,)}


def test_what_was_not_measured_has_a_reason():
    ran = turn("a", {"x": [(1.0, 2.0)]}, first={"y": Said(0.0, 0.0, skipped="too long")})
    failed = turn("b", {}, failure="died", loaded=None, peak_bytes=None)
    skipped = Turn(Runner("c", "c", skipped="not installed"))
    a, b, c = report(ran, failed, skipped).runners
    assert a.cases[0].reason is None
    assert (a.cases[1].seconds, a.cases[1].reason) == (None, "a: too long")
    assert (b.verdict, b.reason, b.load_seconds) == ("failed", "died", None)
    assert [case.reason for case in b.cases] == ["died", "a: too long"]
    assert (c.verdict, c.reason, c.cases) == ("skipped", "not installed", ())
    assert (b.real_time_factor, c.real_time_factor) == (None, None)
    assert report(ran, failed, skipped).ratios == ()


def test_functions_are_of_the_executor_alone():
    times = {ONE: 0.25}
    said = {"x": [Said(1.0, 2.0, times), Said(1.0, 2.0, {ONE: 0.75})]}
    loads = {ONE: 0.5}
    executor = turn("executor", {}, rounds=said, function_loads=loads)
    other = turn("upstream", {"x": [(1.0, 2.0)]})
    mine, theirs = report(executor, other).runners
    assert theirs.functions == ()
    one, two = mine.functions
    assert (one.load_seconds, one.run_seconds.median, one.reason) == (0.5, 0.5, None)
    assert (two.load_seconds, two.run_seconds, two.reason) == (None, None, NOT_REACHED)
    assert mine.load_seconds == 1.0, "functions are loaded while it speaks"


def test_a_failed_executor_has_no_load_time():
    (runner,) = report(turn("executor", {}, failure="died")).runners
    assert runner.load_seconds is None
    assert {one.reason for one in runner.functions} == {"died"}


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=9))
def test_a_spread_holds_its_values_in_order(values):
    spread = Spread.of(values)
    assert len(spread.values) == len(values)
    assert spread.values == pytest.approx(values, rel=1e-4)
    assert spread.least <= spread.median <= spread.greatest
    assert min(spread.values) == spread.least
    assert max(spread.values) == spread.greatest


def test_no_values_have_no_spread():
    assert Spread.of([]) is None
